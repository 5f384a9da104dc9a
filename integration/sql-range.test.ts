// Reads of SQL stores on real databases, against a model that does what etcd does with everything in memory.

import test from 'ava';
import fc from 'fast-check';
import { contains, keyRange } from '../src/etcd/range.ts';
import type { KeyValue, RangeRequest, Revision } from '../src/etcd/types.ts';
import { readRange } from '../src/store/sql/read/range.ts';
import { queryOf, type Query } from '../src/store/sql/statements.ts';
import { endOf, fromKey, op, rangeRequest, txnRequest } from './conformance/requests.ts';
import { onEachEngine } from './on-each.ts';
import { testDatabase, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

/** A store to write with, and the database behind it to read from. */
async function opened(engine: SqlEngine) {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const store = await openTestStore(database);
  const driver = dialects[engine].open({ url: database.url, pool });
  const query: Query = (statement, params) => driver.query(statement, params);
  const put = async (key: string, value: string) =>
    (await store.txn(txnRequest({ success: [op.put(key, value)] }), soon())).header.revision;
  const remove = async (key: string, rangeEnd: string | Buffer = '') =>
    (await store.txn(txnRequest({ success: [op.delete(key, { rangeEnd })] }), soon())).header.revision;
  return {
    store,
    driver,
    query,
    put,
    remove,
    async [Symbol.asyncDispose]() {
      await driver.close();
      await store[Symbol.asyncDispose]();
      await database.dispose();
    },
  };
}

type Opened = NonNullable<Awaited<ReturnType<typeof opened>>>;

const onEach = onEachEngine(test, opened);

const names = ({ kvs }: { readonly kvs: readonly KeyValue[] }) =>
  kvs.map(({ key }) => key.toString('latin1'));

// The model

/** The live pairs at each revision, from revision 1. */
type History = Map<Revision, readonly KeyValue[]>;

const bigger = (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0);
const orders: Record<RangeRequest['sortTarget'], (a: KeyValue, b: KeyValue) => number> = {
  key: (a, b) => Buffer.compare(a.key, b.key),
  version: (a, b) => bigger(a.version, b.version),
  create: (a, b) => bigger(a.createRevision, b.createRevision),
  mod: (a, b) => bigger(a.modRevision, b.modRevision),
  value: (a, b) => Buffer.compare(a.value, b.value),
};

/** What etcd 3.6 answers: range, cut unless it sorts or filters, filter, sort, cut. */
function expected(history: History, request: RangeRequest) {
  const revision = BigInt(history.size);
  const range = keyRange(request.key, request.rangeEnd);
  const all = history
    .get(request.revision > 0n ? request.revision : revision)!
    .filter(({ key }) => contains(range, key));
  if (request.countOnly) return { revision, kvs: [], more: false, count: all.length };
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
  const isFiltered = minModRevision + maxModRevision + minCreateRevision + maxCreateRevision !== 0n;
  const cutFirst = request.limit > 0 && request.sortOrder === 'none' && !isFiltered;
  let kvs = (cutFirst ? all.slice(0, request.limit + 1) : all).filter(
    ({ modRevision, createRevision }) =>
      modRevision >= minModRevision &&
      (maxModRevision === 0n || modRevision <= maxModRevision) &&
      createRevision >= minCreateRevision &&
      (maxCreateRevision === 0n || createRevision <= maxCreateRevision),
  );
  const order = orders[request.sortTarget];
  kvs.sort(request.sortOrder === 'descend' ? (a, b) => order(b, a) : order);
  const more = request.limit > 0 && kvs.length > request.limit;
  if (more) kvs = kvs.slice(0, request.limit);
  if (request.keysOnly) kvs = kvs.map((kv) => ({ ...kv, value: Buffer.alloc(0) }));
  return { revision, kvs, more, count: all.length };
}

// Keys with the bytes that collations, text columns and prefixes get wrong.
const alphabet = ['a', 'b', 'A', '/', '\0', '\u00ff', '\u0080'];
const keyArbitrary = fc
  .array(fc.constantFrom(...alphabet), { minLength: 1, maxLength: 3 })
  .map((bytes) => Buffer.from(bytes.join(''), 'latin1'));
interface Change {
  readonly keys: readonly Buffer[];
  readonly isDelete: boolean;
  readonly value: string;
}
const changeArbitrary: fc.Arbitrary<Change> = fc.record({
  keys: fc.uniqueArray(keyArbitrary, { minLength: 1, maxLength: 3, comparator: (a, b) => a.equals(b) }),
  isDelete: fc.boolean(),
  value: fc.string({ maxLength: 3 }),
});

function requestArbitrary({ from, to }: { from: Revision; to: Revision }): fc.Arbitrary<RangeRequest> {
  const bound = fc.oneof(
    { arbitrary: fc.constant(0n), weight: 6 },
    { arbitrary: fc.bigInt(1n, to), weight: 1 },
  );
  return fc.record({
    key: keyArbitrary,
    rangeEnd: fc.oneof(fc.constant(Buffer.alloc(0)), fc.constant(fromKey), keyArbitrary),
    limit: fc.constantFrom(0, 0, -1, 1, 2, 3, 7, 100),
    revision: fc.oneof(fc.constant(0n), fc.constant(-1n), fc.bigInt(from, to)),
    sortOrder: fc.constantFrom('none', 'none', 'ascend', 'descend'),
    sortTarget: fc.constantFrom('key', 'key', 'version', 'create', 'mod', 'value'),
    serializable: fc.boolean(),
    keysOnly: fc.boolean(),
    countOnly: fc.constantFrom(false, false, false, true),
    minModRevision: bound,
    maxModRevision: bound,
    minCreateRevision: bound,
    maxCreateRevision: bound,
  });
}

/** Applies the changes to the store, one txn each, and gives what the store must now hold at each revision. */
async function written(on: Opened, changes: readonly Change[]) {
  const history: History = new Map([[1n, []]]);
  for (const { keys, isDelete, value } of changes) {
    const success = keys.map((key) => (isDelete ? op.delete(key) : op.put(key, value)));
    await on.store.txn(txnRequest({ success }), soon());
    const before = history.get(BigInt(history.size))!;
    const hit = before.filter((kv) => keys.some((key) => key.equals(kv.key)));
    if (isDelete && hit.length === 0) continue;
    const modRevision = BigInt(history.size + 1);
    const kept = before.filter((kv) => !hit.includes(kv));
    const made = keys.map((key): KeyValue => {
      const old = hit.find((kv) => kv.key.equals(key));
      const createRevision = old?.createRevision ?? modRevision;
      const version = (old?.version ?? 0n) + 1n;
      return { key, createRevision, modRevision, version, value: Buffer.from(value), lease: 0n };
    });
    history.set(modRevision, [...kept, ...(isDelete ? [] : made)].sort(orders.key));
  }
  return history;
}

/** What may be taken for the latest revision; a read of the past undoes many, few or no changes for it. */
const guesses = (asked: Revision) => (asked > 0n ? [undefined, asked, asked + 1_000_000n] : [undefined]);

onEach('every read is answered as etcd answers it', async (t, on) => {
  const seed = 20_260_901;
  const [changes] = fc.sample(fc.array(changeArbitrary, { minLength: 120, maxLength: 120 }), {
    seed,
    numRuns: 1,
  });
  const history = await written(on, changes!);
  const to = BigInt(history.size);
  const check = (from: Revision) =>
    fc.assert(
      fc.asyncProperty(requestArbitrary({ from, to }), async (request) => {
        const answer = expected(history, request);
        for (const newest of guesses(request.revision))
          t.deepEqual(await readRange(on.query, request, { newest }), answer);
      }),
      { seed, numRuns: 300 },
    );
  await check(1n);
  // What is left after a compaction answers the same, from the compact revision itself on.
  await on.store.compact({ revision: to - 20n, physical: true }, soon());
  await check(to - 20n);
});

onEach('revisions that are gone or still to come are refused', async (t, on) => {
  for (const value of ['1', '2', '3', '4']) await on.put('a', value);
  await on.store.compact({ revision: 3n, physical: true }, soon());
  for (const options of [{}, { rangeEnd: 'b' }, { countOnly: true }, { rangeEnd: 'b', limit: 1 }]) {
    const read = (revision: Revision) => readRange(on.query, rangeRequest('a', { ...options, revision }));
    await t.throwsAsync(() => read(2n), { message: /has been compacted/ });
    await t.throwsAsync(() => read(6n), { message: /is a future revision/ });
    t.is((await read(3n)).count, 1);
    t.is((await read(5n)).revision, 5n);
  }
  // Also where no key can be.
  const empty = rangeRequest('b', { rangeEnd: 'a' });
  t.deepEqual(await readRange(on.query, empty), { revision: 5n, kvs: [], more: false, count: 0 });
  await t.throwsAsync(() => readRange(on.query, { ...empty, revision: 2n }), { message: /compacted/ });
});

onEach('pages of a list pinned to a revision add up to the state at it', async (t, on) => {
  const key = (n: number) => `/k/${String(n).padStart(4, '0')}`;
  const puts = Array.from({ length: 400 }, (_, n) => op.put(key(n), String(n)));
  for (let start = 0; start < puts.length; start += 100) {
    await on.store.txn(txnRequest({ success: puts.slice(start, start + 100) }), soon());
  }
  // Deleted before the pinned revision: keys that a page goes over without finding anything.
  const pinned = await on.remove(key(50), key(250));
  const rangeEnd = endOf('/k/');
  const state = await readRange(on.query, rangeRequest('/k/', { rangeEnd, revision: pinned }));
  t.is(state.count, 200);
  await on.put(key(100), 'later');
  // More rows of one key than are looked at at once.
  for (let n = 0; n < 3; n++) {
    const writes = Array.from({ length: 150 }, () => on.put(key(20), 'hot'));
    await Promise.all(writes);
  }
  await on.remove(key(300), key(310));
  for (const newest of guesses(pinned)) {
    const pages: string[] = [];
    let from: string | Buffer = '/k/';
    for (;;) {
      const request = rangeRequest(from, { rangeEnd, limit: 30, revision: pinned });
      const page = await readRange(on.query, request, { newest });
      t.is(page.count, 200 - pages.length);
      t.is(page.more, page.count > 30);
      pages.push(...names(page));
      if (!page.more) break;
      from = `${pages.at(-1)}\0`;
    }
    t.deepEqual(pages, names(state));
  }
});

onEach('a write transaction sees its own rows, at the revision that they carry', async (t, on) => {
  await on.put('a', '1');
  await on.put('b', '1');
  const rollback = new Error('rollback');
  const attempt = on.driver.transaction('write', async (session) => {
    const run = (text: string) => session.query({ name: 'test', text }, []);
    await run(
      `INSERT INTO switchyard_log (mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value)
       SELECT 4, k, 0, 2, 2, 0, 0, 2, value FROM switchyard_log WHERE mod_revision = 2`,
    );
    await run('UPDATE switchyard_current SET mod_revision = 4, version = 2 WHERE mod_revision = 2');
    const query = queryOf(session);
    const now = await readRange(query, rangeRequest('a', { rangeEnd: fromKey, limit: 1 }), { pending: 4n });
    t.like(now, { revision: 4n, more: true, count: 2 });
    t.is(now.kvs[0]!.modRevision, 4n);
    const before = await readRange(query, rangeRequest('a', { revision: 3n }), { pending: 4n });
    t.is(before.kvs[0]!.modRevision, 2n);
    // Rows of earlier txns of the same transaction are above what meta says, too.
    await run('DELETE FROM switchyard_current WHERE mod_revision = 3');
    await run(
      `INSERT INTO switchyard_log (mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value)
       SELECT 5, k, 0, 0, 0, 0, 1, 3, value FROM switchyard_log WHERE mod_revision = 3`,
    );
    const count = async (revision: Revision) => {
      const request = rangeRequest('a', { rangeEnd: fromKey, countOnly: true, revision });
      return (await readRange(query, request, { pending: 5n })).count;
    };
    t.deepEqual(
      [await count(2n), await count(3n), await count(4n), await count(5n), await count(0n)],
      [1, 2, 2, 1, 1],
    );
    throw rollback;
  });
  t.is(await t.throwsAsync(attempt), rollback);
  t.is((await readRange(on.query, rangeRequest('a'))).kvs[0]!.modRevision, 2n);
});

onEach('a page, its count and its revision are of one state while others write', async (t, on) => {
  // Each txn moves one key: there are always ten.
  const initial = Array.from({ length: 10 }, (_, n) => op.put(`m${n}`, ''));
  await on.store.txn(txnRequest({ success: initial }), soon());
  let isWriting = true;
  const writing = (async () => {
    for (let n = 0; n < 60; n++) {
      const move = [op.delete(`m${n}`), op.put(`m${n + 10}`, '')];
      await on.store.txn(txnRequest({ success: move }), soon());
    }
    isWriting = false;
  })();
  const rangeEnd = endOf('m');
  let reads = 0;
  while (isWriting || reads < 5) {
    const page = await readRange(on.query, rangeRequest('m', { rangeEnd, limit: 4 }));
    t.is(page.count, 10);
    const same = await readRange(
      on.query,
      rangeRequest('m', { rangeEnd, limit: 4, revision: page.revision }),
    );
    t.deepEqual(same.kvs, page.kvs);
    t.is(same.count, 10);
    const count = await readRange(on.query, rangeRequest('m', { rangeEnd, countOnly: true }));
    t.is(count.count, 10);
    reads++;
  }
  await writing;
});
