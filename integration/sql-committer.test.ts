// Writes to SQL stores on real databases: batches, two gateways on one database, and a database killed under load.

import { randomBytes } from 'node:crypto';
import test from 'ava';
import { SqlFault, type Dialect } from '../src/dialect/dialect.ts';
import { EtcdError } from '../src/etcd/errors.ts';
import type { Compare, Revision, RequestOp } from '../src/etcd/types.ts';
import { writeStatements } from '../src/store/sql/statements.ts';
import type { Store } from '../src/store/store.ts';
import { guardOf } from './guarantees/guard.ts';
import { privateDatabaseServer, testDatabase, type SqlEngine } from './servers/index.ts';
import { fromKey, op, rangeRequest, txnRequest, watchRequest, when } from './conformance/requests.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

const txn = (
  compare: readonly Compare[],
  success: readonly RequestOp[],
  failure: readonly RequestOp[] = [],
) => txnRequest({ compare, success, failure });
const modIs = (key: string, revision: bigint) => when(key, 'mod', '=', revision);

const engines: readonly SqlEngine[] = ['sqlite', 'postgres', 'mysql'];

/** Adds 1 to the number at `key`, by compare and swap; gives the revision of the write. */
async function increment(store: Store, key: string): Promise<Revision> {
  let known: { value: number; revision: bigint } = { value: 0, revision: 0n };
  for (;;) {
    const next = op.put(key, String(known.value + 1));
    const answer = await store.txn(txn([modIs(key, known.revision)], [next], [op.range(key)]), soon());
    if (answer.succeeded) return answer.header.revision;
    const response = answer.responses[0];
    const kv = response?.type === 'range' ? response.response.kvs[0] : undefined;
    known = { value: Number(kv?.value.toString() ?? 0), revision: kv?.modRevision ?? 0n };
  }
}

for (const engine of engines) {
  test(`${engine}: txns that arrive together get their own answers, and a bad one fails alone`, async (t) => {
    await using database = await disposable(engine);
    if (database === undefined) {
      t.pass();
      return;
    }
    await using store = await openTestStore(database);
    const writes = Array.from({ length: 40 }, (_, index) => {
      const lease = index % 10 === 3 ? { lease: 99n } : {};
      return store.txn(txn([], [op.put(`k${index}`, `v${index}`, lease)]), soon());
    });
    const outcomes = await Promise.allSettled(writes);
    const failed = outcomes.flatMap((outcome, index) => (outcome.status === 'rejected' ? [index] : []));
    t.deepEqual(failed, [3, 13, 23, 33]);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') t.like(outcome.reason, { reason: 'leaseNotFound' });
    }
    const revisions = outcomes.flatMap((outcome) =>
      outcome.status === 'fulfilled' ? [outcome.value.header.revision] : [],
    );
    t.deepEqual(
      revisions.toSorted((a, b) => Number(a - b)),
      Array.from({ length: 36 }, (_, index) => BigInt(index + 2)),
    );
    const all = await store.range(rangeRequest('k', { rangeEnd: 'l' }), soon());
    t.is(all.count, 36);
    t.is(all.header.revision, 37n);
  });

  test(`${engine}: of the changes of a key in one batch the last one tells what is there`, async (t) => {
    await using database = await disposable(engine);
    if (database === undefined) {
      t.pass();
      return;
    }
    await using store = await openTestStore(database);
    for (const key of ['c', 'd', 'e', 'f']) await store.txn(txn([], [op.put(key, 'old')]), soon());
    const changes = [
      [op.put('a', '1'), op.delete('a'), op.put('a', '2')],
      [op.put('b', '1'), op.delete('b')],
      [op.delete('c')],
      [op.put('d', '1'), op.delete('d')],
      [op.delete('e'), op.put('e', '1'), op.delete('e'), op.put('e', '2'), op.put('e', '3')],
      [op.delete('f'), op.put('f', '1'), op.delete('f')],
      [op.put('g', '1')],
    ].flat();
    await Promise.all(changes.map((change) => store.txn(txn([], [change]), soon())));
    const everything = rangeRequest('a', { rangeEnd: 'z' });
    const { kvs, header } = await store.range(everything, soon());
    t.deepEqual(
      kvs.map(({ key, value, version, createRevision }) => [
        key.toString(),
        value.toString(),
        version,
        createRevision,
      ]),
      [
        ['a', '2', 1n, 8n],
        ['e', '3', 2n, 17n],
        ['g', '1', 1n, 22n],
      ],
    );
    t.is(header.revision, 22n);
    const before = await store.range({ ...everything, revision: 9n }, soon());
    t.deepEqual(
      before.kvs.map(({ key, value }) => `${key.toString()} ${value.toString()}`),
      ['a 2', 'b 1', 'c old', 'd old', 'e old', 'f old'],
    );
  });

  test(`${engine}: a txn of several operations is one revision, seen by its own reads`, async (t) => {
    await using database = await disposable(engine);
    if (database === undefined) {
      t.pass();
      return;
    }
    await using store = await openTestStore(database);
    await store.txn(txn([], [op.put('a', '1'), op.put('b', '1'), op.put('c', '1')]), soon());
    const inner = txn([modIs('a', 2n)], [op.put('zz', '2')], [op.put('wrong', '')]);
    const answer = await store.txn(
      txn(
        [modIs('a', 2n)],
        [
          op.put('a', '2', { prevKv: true }),
          op.txn(inner),
          op.delete('b', { rangeEnd: 'z' }),
          op.range('a', { rangeEnd: 'zzz' }),
        ],
      ),
      soon(),
    );
    t.true(answer.succeeded);
    t.is(answer.header.revision, 3n);
    const [first, nested, deleted, left] = answer.responses;
    t.like(first, { type: 'put', response: { prevKv: { value: Buffer.from('1'), modRevision: 2n } } });
    t.like(nested, { type: 'txn', response: { succeeded: true } });
    t.like(deleted, { type: 'deleteRange', response: { deleted: 2 } });
    t.like(left, { type: 'range', response: { count: 2, header: { revision: 3n } } });
  });

  test(`${engine}: a txn that would change a key twice is refused before anything is applied`, async (t) => {
    await using database = await disposable(engine);
    if (database === undefined) {
      t.pass();
      return;
    }
    await using store = await openTestStore(database);
    await store.txn(txn([], [op.put('a', '1'), op.put('b', '1')]), soon());
    const put = op.put('b', '2');
    const twice = [
      [op.txn({ success: [put] }), op.txn({ success: [op.delete('b')] })],
      [op.txn({ success: [op.put('new', '2')] }), op.delete('a', { rangeEnd: fromKey })],
      [op.delete('a', { rangeEnd: fromKey }), put],
    ];
    for (const ops of twice) {
      const refused = store.txn(txn([], [op.put('first', ''), ...ops]), soon());
      await t.throwsAsync(refused, { message: 'etcdserver: duplicate key given in txn request' });
    }
    const { header, count } = await store.range(rangeRequest('a', { rangeEnd: fromKey }), soon());
    t.deepEqual([header.revision, count], [2n, 2]);
    const once = await store.txn(txn([], [op.delete('a', { rangeEnd: 'b' }), op.put('a2', '')]), soon());
    t.is(once.header.revision, 3n);
  });

  test(`${engine}: a key longer than the engine takes is refused with its txn, and the limit is named`, async (t) => {
    await using database = await disposable(engine);
    if (database === undefined) {
      t.pass();
      return;
    }
    await using store = await openTestStore(database);
    const { keyBytesMax } = dialects[engine].can;
    // Bytes that no engine can make shorter.
    const key = (length: number) => Buffer.concat([Buffer.from('k'), randomBytes(length - 1)]);
    const [longest, longer] = [key(keyBytesMax), key(keyBytesMax + 1)];
    for (const bad of [op.put(longer), op.txn({ success: [op.put(longer)] })]) {
      await t.throwsAsync(store.txn(txn([], [op.put('a'), bad]), soon()), {
        message: `switchyard: expected a key of at most ${keyBytesMax} bytes, got ${keyBytesMax + 1}`,
      });
    }
    const untaken = txn([modIs('a', 5n)], [op.put(longer)], [op.put(longest, 'v')]);
    t.is((await store.txn(untaken, soon())).header.revision, 2n);
    const { kvs } = await store.range(rangeRequest('a', { rangeEnd: fromKey }), soon());
    t.deepEqual(
      kvs.map((kv) => kv.key),
      [longest],
    );
  });

  test(`${engine}: a range of thousands of keys is deleted in one revision, in key order`, async (t) => {
    await using database = await disposable(engine);
    if (database === undefined) {
      t.pass();
      return;
    }
    await using store = await openTestStore(database);
    const count = 2_500;
    const name = (index: number) => `many/${String(index).padStart(5, '0')}`;
    for (let start = 0; start < count; start += 125) {
      const part = Array.from({ length: 125 }, (_, index) => op.put(name(start + index), 'x'));
      await store.txn(txn([], part), soon());
    }
    const stop = new AbortController();
    const before = await store.range(rangeRequest('x'), soon());
    const guard = await guardOf(store);
    const watch = await guard.record(
      store,
      watchRequest('many/', { rangeEnd: 'many0', startRevision: before.header.revision + 1n, prevKv: true }),
      stop.signal,
    );
    const answer = await store.txn(txn([], [op.delete('many/', { rangeEnd: 'many0' })]), soon());
    t.like(answer.responses[0], { type: 'deleteRange', response: { deleted: count } });
    t.is(answer.header.revision, before.header.revision + 1n);
    for await (const { events } of watch) {
      if (events.length === 0) continue;
      t.deepEqual(
        events.map(({ type, kv, prevKv }) => `${type} ${kv.key.toString()} ${prevKv?.value.toString()}`),
        Array.from({ length: count }, (_, index) => `delete ${name(index)} x`),
      );
      break;
    }
    t.deepEqual(await guard.violations(), []);
    stop.abort();
  });

  test(`${engine}: a lease that only the granting store knows is adopted at the first put`, async (t) => {
    await using database = await disposable(engine);
    if (database === undefined) {
      t.pass();
      return;
    }
    const asked: bigint[] = [];
    await using store = await openTestStore(database, {
      findLease: async (id) => {
        asked.push(id);
        return id === 5n ? { ttlSeconds: 60, remainingSeconds: 50 } : undefined;
      },
    });
    await store.txn(txn([], [op.put('a', '1', { lease: 5n }), op.put('b', '1', { lease: 5n })]), soon());
    await store.txn(txn([], [op.put('b', '2')]), soon());
    // Before it is taken over, and once more after.
    t.deepEqual(asked, [5n, 5n]);
    const lease = await store.leaseTimeToLive({ id: 5n, keys: true }, soon());
    t.is(lease.grantedTtl, 60);
    t.true(lease.ttl <= 50 && lease.ttl > 40, String(lease.ttl));
    t.deepEqual(lease.keys, [Buffer.from('a')]);
    await t.throwsAsync(() => store.txn(txn([], [op.put('a', '1', { lease: 6n })]), soon()), {
      message: 'etcdserver: requested lease not found',
    });
    const { header } = await store.leaseRevoke(5n, soon());
    t.is(header.revision, 4n);
    t.is((await store.range(rangeRequest('a'), soon())).count, 0);
  });

  test(`${engine}: a lease revoked while it is taken over takes the put along`, async (t) => {
    await using database = await disposable(engine);
    if (database === undefined) {
      t.pass();
      return;
    }
    let asked = 0;
    await using store = await openTestStore(database, {
      // It is there when the put asks, and gone when the store has noted it.
      findLease: async () => (asked++ === 0 ? { ttlSeconds: 60, remainingSeconds: 50 } : undefined),
    });
    await t.throwsAsync(() => store.txn(txn([], [op.put('a', '1', { lease: 5n })]), soon()), {
      message: 'etcdserver: requested lease not found',
    });
    t.deepEqual((await store.leaseLeases(soon())).leases, []);
    t.is((await store.range(rangeRequest('a'), soon())).count, 0);
  });

  test(`${engine}: two gateways on one database never lose an update nor skip a revision`, async (t) => {
    await using database = await disposable(engine);
    if (database === undefined) {
      t.pass();
      return;
    }
    await using one = await openTestStore(database);
    await using two = await openTestStore(database, { memberId: 8n });
    const keys = ['a', 'b', 'c'];
    const each = 10;
    const writers = [one, two].flatMap((store) =>
      keys.flatMap((key) => [key, key].map(() => ({ store, key }))),
    );
    const revisions = await Promise.all(
      writers.map(async ({ store, key }) => {
        const own: Revision[] = [];
        for (let n = 0; n < each; n++) own.push(await increment(store, key));
        return own;
      }),
    );
    for (const key of keys) {
      for (const store of [one, two]) {
        const { kvs } = await store.range(rangeRequest(key), soon());
        t.is(kvs[0]?.value.toString(), String(each * 4));
      }
    }
    t.deepEqual(
      revisions.flat().toSorted((a, b) => Number(a - b)),
      Array.from({ length: keys.length * 4 * each }, (_, index) => BigInt(index + 2)),
    );
  });
}

for (const engine of ['postgres', 'mysql'] as const) {
  test(`${engine}: a database killed under writes loses nothing acknowledged and doubles nothing`, async (t) => {
    t.timeout(180_000);
    const server = await privateDatabaseServer(engine);
    if (server === undefined) {
      t.pass();
      return;
    }
    t.teardown(() => server.dispose());
    const url = new URL(server.url);
    url.pathname = '/killed';
    await using store = await openTestStore({ engine, url: url.href });
    const acknowledged = new Map<string, Revision>();
    const unknown = new Set<string>();
    let stopped = false;
    const writer = async (name: string) => {
      for (let n = 0; !stopped; n++) {
        const key = `${name}/${n}`;
        try {
          const answer = await store.txn(txn([modIs(key, 0n)], [op.put(key, 'x')]), soon());
          // The key is new: a failed compare would mean that a lost answer was written twice.
          t.true(answer.succeeded, key);
          acknowledged.set(key, answer.header.revision);
        } catch (error) {
          if (!(error instanceof EtcdError)) throw error;
          t.is(error.message, 'etcdserver: request timed out');
          unknown.add(key);
        }
      }
    };
    const writers = Array.from({ length: 8 }, (_, index) => writer(`w${index}`));
    for (let round = 0; round < 3; round++) {
      const goal = acknowledged.size + 200;
      while (acknowledged.size < goal) await new Promise((resolve) => setImmediate(resolve));
      await server.kill();
      await server.start();
    }
    const goal = acknowledged.size + 200;
    while (acknowledged.size < goal) await new Promise((resolve) => setImmediate(resolve));
    stopped = true;
    await Promise.all(writers);
    const { kvs } = await store.range(rangeRequest('w', { rangeEnd: 'x' }), soon());
    const stored = new Map(kvs.map((kv) => [kv.key.toString(), kv]));
    for (const [key, revision] of acknowledged) t.is(stored.get(key)?.modRevision, revision, key);
    for (const [key, kv] of stored) {
      t.is(kv.version, 1n);
      t.true(acknowledged.has(key) || unknown.has(key), key);
    }
    t.log(`${acknowledged.size} acknowledged, ${unknown.size} with an unknown outcome`);
  });
}

/** The dialect with commits whose answer gets lost, as `next` says, once. */
function losingAnswers(dialect: Dialect) {
  const fate: { next: 'answered' | 'committed' | 'rolled back'; meanwhile: () => Promise<unknown> } = {
    next: 'answered',
    meanwhile: async () => undefined,
  };
  const lost = () => new SqlFault('disconnected', 'The connection was lost', { outcomeUnknown: true });
  const open: Dialect['open'] = (options) => {
    const driver = dialect.open(options);
    const writeAfter: typeof driver.writeAfter = async (opening, body) => {
      const how = fate.next;
      if (how === 'answered') return await driver.writeAfter(opening, body);
      fate.next = 'answered';
      const discard = new Error('rolled back');
      try {
        await driver.writeAfter(opening, async (session, opened) => {
          await body(session, opened);
          if (how === 'rolled back') throw discard;
        });
      } catch (error) {
        if (error !== discard) throw error;
      }
      await fate.meanwhile();
      throw lost();
    };
    const script: typeof driver.script = async (steps) => {
      const how = fate.next;
      fate.next = 'answered';
      if (how !== 'rolled back') await driver.script(steps);
      if (how === 'answered') return;
      await fate.meanwhile();
      throw lost();
    };
    return Object.assign(Object.create(driver) as typeof driver, {
      transaction: driver.transaction.bind(driver),
      writeAfter,
      script,
      query: driver.query.bind(driver),
      queryForWriter: driver.queryForWriter.bind(driver),
      close: driver.close.bind(driver),
    });
  };
  return { dialect: { ...dialect, open }, fate };
}

for (const engine of engines) {
  test(`${engine}: a commit without an answer is found, done again, or reported as unknown`, async (t) => {
    await using database = await disposable(engine);
    if (database === undefined) {
      t.pass();
      return;
    }
    const { dialect, fate } = losingAnswers(dialects[engine]);
    await using store = await openTestStore(database, { dialect });
    await using other = await openTestStore(database);
    const create = (key: string) => store.txn(txn([modIs(key, 0n)], [op.put(key, 'x')]), soon());
    const driver = dialects[engine].open({ url: database.url, pool });
    const row = () => driver.query({ name: 'test', text: 'SELECT writer, batch FROM switchyard_meta' }, []);

    let left: unknown;
    fate.meanwhile = async () => (left = (await row()).rows);
    fate.next = 'committed';
    t.like(await create('a'), { succeeded: true, header: { revision: 2n } });
    // Only a commit that changes something goes to replicas.
    t.notDeepEqual((await row()).rows, left);
    await driver.close();
    fate.meanwhile = async () => undefined;
    fate.next = 'rolled back';
    t.like(await create('b'), { succeeded: true, header: { revision: 3n } });
    // Somebody else wrote in between: whether it was before or after ours cannot be told any more.
    fate.meanwhile = () => other.txn(txn([], [op.put('c', 'other')]), soon());
    fate.next = 'committed';
    await t.throwsAsync(() => create('d'), { message: 'etcdserver: request timed out' });
    const { kvs } = await other.range(rangeRequest('a', { rangeEnd: 'z' }), soon());
    t.deepEqual(
      kvs.map(({ key, modRevision, version }) => `${key.toString()} ${modRevision} ${version}`),
      ['a 2 1', 'b 3 1', 'c 5 1', 'd 4 1'],
    );
  });

  test(`${engine}: a revoke without an answer is not taken for one that found no lease`, async (t) => {
    await using database = await disposable(engine);
    if (database === undefined) {
      t.pass();
      return;
    }
    const { dialect, fate } = losingAnswers(dialects[engine]);
    await using store = await openTestStore(database, { dialect });
    await using other = await openTestStore(database);
    for (const id of [1n, 2n]) await store.leaseGrant({ id, ttl: 60 }, soon());
    // Neither takes a revision: a revision that stands still does not mean that nobody wrote.
    fate.meanwhile = () => other.leaseRevoke(2n, soon());
    fate.next = 'committed';
    await t.throwsAsync(() => store.leaseRevoke(1n, soon()), { message: 'etcdserver: request timed out' });
    t.deepEqual((await other.leaseLeases(soon())).leases, []);
  });

  test(`${engine}: a store that is ahead already is lifted without the lock of writers`, async (t) => {
    await using database = await disposable(engine);
    if (database === undefined) {
      t.pass();
      return;
    }
    await using store = await openTestStore(database);
    await store.raiseRevision!(100n, soon());
    const holder = dialects[engine].open({ url: database.url, pool });
    const held = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const holding = holder.transaction('write', async (session) => {
      await session.query(writeStatements(dialects[engine]).lockMeta, []);
      held.resolve();
      await release.promise;
    });
    await held.promise;
    // A transaction that is silent for so long is ended by its server.
    await store.raiseRevision!(100n, soon());
    release.resolve();
    await t.notThrowsAsync(holding);
    await holder.close();
    t.is((await store.range(rangeRequest('a'), soon())).header.revision, 100n);
  });
}

test('a database that does not exist is created', async (t) => {
  await using database = await disposable('postgres');
  if (database === undefined) {
    t.pass();
    return;
  }
  const url = new URL(database.url);
  url.pathname += '_made';
  await using store = await openTestStore({ engine: 'postgres', url: url.href });
  t.is((await store.range(rangeRequest('a'), soon())).header.revision, 1n);
  await store[Symbol.asyncDispose]();
  const admin = dialects.postgres.open({ url: database.url, pool });
  await admin.query({ name: 'drop', text: `DROP DATABASE "${url.pathname.slice(1)}"` }, []);
  await admin.close();
});

/** Undefined where the machine has no such server and the harness has said so. */
async function disposable(engine: SqlEngine) {
  const database = await testDatabase(engine);
  return database && { ...database, [Symbol.asyncDispose]: () => database.dispose() };
}
