// A store on a Postgres primary with a replica that takes over: with synchronous replication nothing is lost, whichever of the two
// a gateway would rather talk to; without, what is lost is told to every watch.

import test from 'ava';
import { postgres } from '../src/dialect/postgres.ts';
import { EtcdError } from '../src/etcd/errors.ts';
import type { Revision } from '../src/etcd/types.ts';
import type { SqlStore } from '../src/store/sql/sql-store.ts';
import type { Store } from '../src/store/store.ts';
import { op, rangeRequest, txnRequest, watchRequest } from './conformance/requests.ts';
import { guardOf } from './guarantees/guard.ts';
import { Proxy } from './faults/proxy.ts';
import { engines, postgresPair, waitFor, type PostgresPair } from './servers/index.ts';
import { openTestStore, pool, soon } from './stores.ts';

const storeAt = (url: string) => openTestStore({ engine: 'postgres', url });

interface Written {
  readonly key: string;
  readonly revision: Revision;
}

/** Puts keys of its own one after the other until stopped, whatever is answered. */
class Writer {
  readonly acknowledged: Written[] = [];
  readonly #running: Promise<void>;
  #stopped = false;

  constructor(store: Store, name: string) {
    this.#running = this.#run(store, name);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #run(store: Store, name: string): Promise<void> {
    for (let n = 0; !this.#stopped; n++) {
      const key = `${name}/${n}`;
      try {
        const { header } = await store.txn(txnRequest({ success: [op.put(key, 'v')] }), soon());
        this.acknowledged.push({ key, revision: header.revision });
      } catch {
        // Unavailable while nobody takes writes: the next one is another key.
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }
}

/** Stores at a pair, with the hosts in either order, and writers at each. */
async function underLoad(pair: PostgresPair) {
  const stores = await Promise.all([pair.url(), pair.url(1)].map(storeAt));
  const writers = stores.flatMap((store, index) => [1, 2].map((n) => new Writer(store, `w${index}${n}`)));
  const more = (count: number) => {
    const goals = writers.map(({ acknowledged }) => acknowledged.length + count);
    return waitFor(() => writers.every(({ acknowledged }, index) => acknowledged.length >= goals[index]!), {
      what: `${count} writes of each writer`,
      deadlineMs: 60_000,
    });
  };
  const stop = () => Promise.all(writers.map((writer) => writer.stop()));
  return { stores, writers, more, stop };
}

/** The keys that were acknowledged and are not there as they were. */
async function lostOf(store: Store, writers: readonly Writer[]): Promise<readonly string[]> {
  const { kvs } = await store.range(rangeRequest('w', { rangeEnd: 'x' }), soon());
  const found = new Map(kvs.map(({ key, modRevision }) => [key.toString(), modRevision]));
  return writers
    .flatMap(({ acknowledged }) => acknowledged)
    .filter(({ key, revision }) => found.get(key) !== revision)
    .map(({ key, revision }) => `${key}@${revision}`);
}

const faults = {
  async killed({ primary, promote }: PostgresPair) {
    await primary.kill();
    await promote();
  },
  /** It comes back to connections that it still has, and takes itself for the primary. */
  async paused({ primary, promote }: PostgresPair, more: (count: number) => Promise<unknown>) {
    await primary.kill('SIGSTOP');
    await promote();
    await more(5);
    await primary.kill('SIGCONT');
  },
};

for (const [name, strike] of Object.entries(faults)) {
  test.serial(
    `a synchronous replica takes over from a primary that is ${name}: nothing is lost`,
    async (t) => {
      t.timeout(180_000);
      const pair = await postgresPair({ isSynchronous: true });
      if (pair === undefined) return void t.pass();
      t.teardown(() => pair.dispose());
      const { stores, writers, more, stop } = await underLoad(pair);
      try {
        const guards = await Promise.all(stores.map((store) => guardOf(store)));
        const request = watchRequest('w', { rangeEnd: 'x', startRevision: 2n });
        const watches = await Promise.all(
          stores.map(async (store, index) => {
            const watch = await guards[index]!.record(store, request, soon());
            const revisions: Revision[] = [];
            const ended = (async () => {
              for await (const { events } of watch) revisions.push(...events.map(({ kv }) => kv.modRevision));
            })();
            ended.catch(() => undefined);
            return { revisions };
          }),
        );
        await more(50);
        await strike(pair, more);
        await more(50);
        await stop();
        for (const store of stores) t.deepEqual(await lostOf(store, writers), []);
        const { header } = await stores[0]!.range(rangeRequest('w'), soon());
        const expected = Array.from({ length: Number(header.revision) - 1 }, (_, index) => BigInt(index + 2));
        for (const { revisions } of watches) {
          await waitFor(() => revisions.length >= expected.length, { what: 'all events' });
          t.deepEqual(revisions, expected, 'the watch went on over the failover');
        }
        for (const guard of guards) t.deepEqual(await guard.violations(), []);
      } finally {
        await stop();
        for (const store of stores) await store[Symbol.asyncDispose]();
      }
    },
  );
}

test.serial(
  'commits that an asynchronous replica has not got are lost, and every watch is told',
  async (t) => {
    t.timeout(180_000);
    const pair = await postgresPair({ isSynchronous: false });
    if (pair === undefined) return void t.pass();
    t.teardown(() => pair.dispose());
    const { primary, replica, promote } = pair;
    // The one that has seen what will be lost comes to the new primary when another one has written there.
    const proxies = await Promise.all(
      [primary, replica].map(({ url }) => Proxy.open(Number(new URL(url).port))),
    );
    t.teardown(() => Promise.all(proxies.map((proxy) => proxy.close())));
    const hosts = proxies.map(({ port }) => `127.0.0.1:${port}`).join(',');
    const seeing = await storeAt(pair.url().replace(/@[^/]*/, `@${hosts}`));
    const stores: SqlStore[] = [seeing];
    try {
      const put = async (store: Store, key: string) =>
        (await store.txn(txnRequest({ success: [op.put(key, 'v')] }), soon())).header.revision;
      const keysOf = async (store: Store) => {
        const { kvs } = await store.range(rangeRequest('', { rangeEnd: '\0' }), soon());
        return kvs.map(({ key }) => key.toString()).join(' ');
      };
      const guard = await guardOf(seeing);
      const seen: string[] = [];
      const watch = await guard.record(
        seeing,
        watchRequest('', { rangeEnd: '\0', startRevision: 2n }),
        soon(),
      );
      const ended = (async () => {
        for await (const { events } of watch) seen.push(...events.map(({ kv }) => kv.key.toString()));
      })();
      for (const key of ['a', 'b', 'c']) await put(seeing, key);
      await stopFollowing(pair);
      for (const key of ['d', 'e']) await put(seeing, key);
      await waitFor(() => seen.length === 5, { what: 'the watch to see all' });
      t.deepEqual(await guard.violations(), []);

      proxies[1]!.refuse();
      await primary.kill();
      await promote();
      const other = await storeAt(pair.url(1));
      stores.push(other);
      const revisions: Revision[] = [];
      for (const key of ['f', 'g', 'h', 'i']) revisions.push(await put(other, key));
      t.deepEqual(revisions, [5n, 6n, 7n, 8n]);
      proxies[1]!.accept();

      await t.throwsAsync(ended, { message: /has been compacted/ });
      t.deepEqual(seen, ['a', 'b', 'c', 'd', 'e'], 'what came instead was not told as if it followed');
      for (const store of stores) {
        t.is(await keysOf(store), 'a b c f g h i');
        t.true((await store.range(rangeRequest('a'), soon())).header.revision > 8n);
      }
      const last = await put(seeing, 'j');
      t.is(await put(other, 'k'), last + 1n);
    } finally {
      for (const store of stores) await store[Symbol.asyncDispose]();
    }
  },
);

/** The replica gets nothing any more. */
async function stopFollowing({ replica }: PostgresPair): Promise<void> {
  const settings = ["ALTER SYSTEM SET primary_conninfo = ''", 'SELECT pg_reload_conf()'];
  await engines.postgres.administer(replica.url, settings);
  const driver = postgres.open({ url: replica.url, pool });
  try {
    const receivers = { name: 'test', text: 'SELECT count(*) AS count FROM pg_stat_wal_receiver' };
    await waitFor(async () => (await driver.query(receivers, [])).rows[0]?.['count'] === 0n, {
      what: 'the replica to follow no more',
    });
  } finally {
    await driver.close();
  }
}

test.serial(
  'a commit that gave up its wait for the replica is acknowledged only when the replica has it',
  async (t) => {
    t.timeout(120_000);
    const pair = await postgresPair({ isSynchronous: true });
    if (pair === undefined) return void t.pass();
    t.teardown(() => pair.dispose());
    const { primary, replica } = pair;
    const store = await storeAt(pair.url());
    const admin = postgres.open({ url: primary.url, pool });
    const waiting = async (what: string) => {
      const text = `SELECT ${what} AS found FROM pg_stat_activity WHERE wait_event = 'SyncRep' LIMIT 1`;
      return (await admin.query({ name: 'test', text }, [])).rows[0]?.['found'];
    };
    try {
      const write = (key: string) => store.txn(txnRequest({ success: [op.put(key, 'v')] }), soon());
      await write('a');
      await replica.kill('SIGSTOP');
      let isAnswered = false;
      const written = write('b').finally(() => (isAnswered = true));
      const first = await waitFor(() => waiting('pid'), { what: 'the commit to wait' });
      await waiting('pg_cancel_backend(pid)');
      // The server says that it is committed, with a warning; the gateway looks for it with another commit, which waits, too.
      await waitFor(async () => ![undefined, first].includes(await waiting('pid')), {
        what: 'another to wait',
      });
      t.false(isAnswered);
      await replica.kill('SIGCONT');
      // On a machine that is very slow it may have been given up meanwhile.
      const answer = await written.catch((error: unknown) => error);
      if (answer instanceof EtcdError) t.is(answer.reason, 'timeout');
      else t.like(answer, { header: { revision: 3n } });
    } finally {
      await replica.kill('SIGCONT');
      await admin.close();
      await store[Symbol.asyncDispose]();
    }
  },
);
