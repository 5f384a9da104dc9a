// Many leases that end at once, and many keys on one lease: each lease is one revision, the keys in order, and others
// write in between.

import test, { type ExecutionContext } from 'ava';
import type { Event, LeaseId, Revision } from '../src/etcd/types.ts';
import type { SqlStore } from '../src/store/sql/sql-store.ts';
import { op, rangeRequest, txnRequest, watchRequest } from './conformance/requests.ts';
import { testDatabase, waitFor, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

const engines: readonly SqlEngine[] = ['sqlite', 'postgres', 'mysql'];
const many = 10_000;
const perTxn = 1_000;
/** The shortest TTL there is: a store that has been up for so long lets its leases expire. */
const ttlSeconds = 2;
/** On a machine that is busy with other things. */
const endMsMax = 240_000;

async function opened(t: ExecutionContext, engine: SqlEngine) {
  t.timeout(endMsMax);
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  t.teardown(() => database.dispose());
  const store = await openTestStore(database);
  t.teardown(() => store[Symbol.asyncDispose]());
  const dialect = dialects[engine];
  const driver = dialect.open({ url: database.url, pool });
  t.teardown(() => driver.close());
  const run = (text: string, params: readonly bigint[]) => driver.query({ name: 'test', text }, params);
  return { store, run, nowMs: dialect.sql.nowMs };
}

const name = (index: number) => `k${String(index).padStart(5, '0')}`;

/** Puts `many` keys, in an order of its own; gives the last revision. */
async function putAll(store: SqlStore, leaseOf: (index: number) => LeaseId): Promise<Revision> {
  let revision = 0n;
  for (let start = 0; start < many; start += perTxn) {
    const success = Array.from({ length: perTxn }, (_, n) => {
      const index = (many - 1 - start - n + 5_000) % many;
      return op.put(name(index), 'v', { lease: leaseOf(index) });
    });
    ({ revision } = (await store.txn(txnRequest({ success }), soon())).header);
  }
  return revision;
}

/** The deletions since a revision. */
async function deletions(store: SqlStore, startRevision: Revision): Promise<readonly Event[]> {
  const seen: Event[] = [];
  const request = watchRequest('k', { rangeEnd: 'l', startRevision });
  const watch = await store.watch(request, AbortSignal.timeout(endMsMax));
  for await (const { events } of watch) {
    seen.push(...events);
    if (seen.length >= many) return seen;
  }
  return seen;
}

const count = async (store: SqlStore) =>
  (await store.range(rangeRequest('k', { rangeEnd: 'l', countOnly: true }), soon())).count;

for (const engine of engines) {
  test.serial(`${engine}: a lease with ten thousand keys goes in one revision, in key order`, async (t) => {
    const on = await opened(t, engine);
    if (on === undefined) return void t.pass();
    const { store } = on;
    await store.leaseGrant({ id: 7n, ttl: 600 }, soon());
    const before = await putAll(store, () => 7n);
    const asked = await store.leaseTimeToLive({ id: 7n, keys: true }, soon());
    t.is(asked.keys.length, many);
    // One watcher hears of it as it happens, one reads it later.
    const live = deletions(store, before + 1n);
    const { header } = await store.leaseRevoke(7n, soon());
    t.is(header.revision, before + 1n);
    for (const events of [await live, await deletions(store, before + 1n)]) {
      t.is(events.length, many);
      t.true(
        events.every(
          ({ type, kv }, index) =>
            type === 'delete' && kv.key.toString() === name(index) && kv.modRevision === before + 1n,
        ),
      );
    }
    t.is(await count(store), 0);
    t.deepEqual((await store.leaseLeases(soon())).leases, []);
  });

  test.serial(
    `${engine}: ten thousand leases that end at once do not keep others from writing`,
    async (t) => {
      const on = await opened(t, engine);
      if (on === undefined) return void t.pass();
      const { store, run, nowMs } = on;
      for (let start = 0; start < many; start += perTxn) {
        const rows = Array.from(
          { length: perTxn },
          (_, n) => `(${start + n + 1}, ${ttlSeconds}, ${nowMs} + 600000)`,
        );
        await run(`INSERT INTO switchyard_lease (id, ttl_seconds, expires_at) VALUES ${rows.join(', ')}`, []);
      }
      const before = await putAll(store, (index) => BigInt(index + 1));
      await run(`UPDATE switchyard_lease SET expires_at = ${nowMs} - 1`, []);
      const others: Revision[] = [];
      const done = deletions(store, before + 1n);
      let isOver = false;
      const writes = (async () => {
        while (!isOver) {
          const answer = await store.txn(txnRequest({ success: [op.put('other', 'v')] }), soon());
          others.push(answer.header.revision);
        }
      })();
      const events = await done;
      isOver = true;
      await writes;
      t.is(new Set(events.map(({ kv }) => kv.key.toString())).size, many);
      t.is(events.length, many);
      const revisions = events.map(({ kv }) => kv.modRevision);
      t.is(new Set(revisions).size, many);
      const [first, last] = [revisions[0]!, revisions.at(-1)!];
      t.true(
        others.filter((revision) => revision > first && revision < last).length > 10,
        String(others.length),
      );
      t.is(await count(store), 0);
      const none = async () => (await store.leaseLeases(soon())).leases.length === 0;
      await waitFor(none, { what: 'every lease to be gone', deadlineMs: 30_000 });
    },
  );
}
