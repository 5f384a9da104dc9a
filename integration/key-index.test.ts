// The key index on real databases: whoever writes, and whatever befalls the log, its counts are those of SQL.

import test from 'ava';
import type { SqlValue } from '../src/dialect/dialect.ts';
import { keyRange } from '../src/etcd/range.ts';
import type { Revision } from '../src/etcd/types.ts';
import { systemClock } from '../src/lib/clock.ts';
import { silentLogger } from '../src/lib/log.ts';
import { createKeyCounts } from '../src/store/sql/keys/key-counts.ts';
import { createKeyIndex, type KeyIndex } from '../src/store/sql/keys/key-index.ts';
import { createLogReader } from '../src/store/sql/watch/log-reader.ts';
import { readRange } from '../src/store/sql/read/range.ts';
import { int64 } from '../src/store/sql/row.ts';
import type { SqlStore } from '../src/store/sql/sql-store.ts';
import type { Query } from '../src/store/sql/statements.ts';
import { endOf, fromKey, op, rangeRequest, txnRequest, watchRequest } from './conformance/requests.ts';
import { onEachEngine } from './on-each.ts';
import { testDatabase, waitFor, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

/** A database with a driver of our own. */
async function opened(engine: SqlEngine) {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const driver = dialects[engine].open({ url: database.url, pool });
  const query: Query = (statement, params) => driver.query(statement, params);
  return {
    query,
    driver,
    /** One of several gateways' stores. */
    store: () => openTestStore(database),
    run: (text: string, ...params: SqlValue[]) => query({ name: 'test', text }, params),
    async [Symbol.asyncDispose]() {
      await driver.close();
      await database.dispose();
    },
  };
}

type Opened = NonNullable<Awaited<ReturnType<typeof opened>>>;

const onEach = onEachEngine(test, opened);

/** An index that nobody offers anything to, and reads through it with the names of their statements. */
function follow(on: Opened) {
  const index = createKeyIndex({ driver: on.driver, clock: systemClock, logger: silentLogger });
  const countsFor = createKeyCounts({ index, reader: createLogReader(on.driver) });
  const statements: string[] = [];
  const query: Query = (statement, params) => {
    statements.push(statement.name);
    return on.query(statement, params);
  };
  index.start();
  return {
    index,
    statements,
    read: (...request: Parameters<typeof rangeRequest>) =>
      readRange(query, rangeRequest(...request), { counts: countsFor(soon()) }),
    [Symbol.asyncDispose]: () => index.close(),
  };
}

const built = (index: KeyIndex) =>
  waitFor(() => index.revision !== undefined, { what: 'the index to be built', deadlineMs: 60_000 });

const prefix = '/r/';
const all = { rangeEnd: endOf(prefix) };
const put = async (store: SqlStore, ...keys: string[]) =>
  (await store.txn(txnRequest({ success: keys.map((key) => op.put(key, 'v')) }), soon())).header.revision;
const remove = async (store: SqlStore, key: string, rangeEnd: Buffer | string = '') =>
  (await store.txn(txnRequest({ success: [op.delete(key, { rangeEnd })] }), soon())).header.revision;
const isIndexed = (statements: readonly string[]) =>
  !statements.some((name) => name.startsWith('range.count'));

/** A count that was answered, at the revision it is of. */
interface Answered {
  readonly key: string;
  readonly rangeEnd: Buffer;
  readonly at: Revision;
  readonly count: number;
}

/** Every answer against what SQL says of that revision. */
async function checkAll(
  t: { is: (a: unknown, b: unknown, message: string) => unknown },
  on: Opened,
  answers: readonly Answered[],
) {
  for (const { key, rangeEnd, at, count } of answers) {
    const truth = await readRange(on.query, rangeRequest(key, { rangeEnd, countOnly: true, revision: at }));
    t.is(count, truth.count, `${key} at ${at}`);
  }
}

/** Creates, updates and deletes keys, some of them many at once. */
async function writeSome(store: SqlStore, seed: number, txns: number): Promise<void> {
  let state = seed;
  const next = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const name = () => `${prefix}${next(5)}/${next(60)}`;
  for (let n = 0; n < txns; n++) {
    const what = next(10);
    if (what < 5) await put(store, name());
    else if (what < 7) await put(store, ...new Set([name(), name(), name()]));
    else if (what < 9) await remove(store, name());
    else await remove(store, `${prefix}${next(5)}/1`, `${prefix}${next(5)}/3`);
  }
}

/** Asks again and again, in every way that has a count, until `isOver`. */
async function ask(
  read: (
    ...request: Parameters<typeof rangeRequest>
  ) => Promise<{ revision: Revision; count: number; more: boolean; kvs: readonly unknown[] }>,
  isOver: () => boolean,
): Promise<Answered[]> {
  const answers: Answered[] = [];
  const ranges = [
    { key: prefix, rangeEnd: endOf(prefix) },
    { key: `${prefix}1/`, rangeEnd: endOf(`${prefix}1/`) },
    { key: `${prefix}2/2`, rangeEnd: fromKey },
  ];
  for (let n = 0; n < 5 || !isOver(); n++) {
    const { key, rangeEnd } = ranges[n % ranges.length]!;
    const counted = await read(key, { rangeEnd, countOnly: true });
    answers.push({ key, rangeEnd, at: counted.revision, count: counted.count });
    const page = await read(key, { rangeEnd, limit: 3 });
    answers.push({ key, rangeEnd, at: page.revision, count: page.count });
    for (const back of [0n, 1n, 7n]) {
      const at = page.revision - back;
      if (at < 2n) continue;
      const past = await read(key, { rangeEnd, limit: 2, revision: at });
      answers.push({ key, rangeEnd, at, count: past.count });
    }
  }
  return answers;
}

onEach('counts are exact while several gateways write', async (t, on) => {
  await using a = await on.store();
  await using b = await on.store();
  await using c = await on.store();
  await put(a, `${prefix}0/0`, `${prefix}1/1`, `${prefix}2/3`);
  await using follower = follow(on);
  await built(follower.index);
  // One of the stores has a watcher, so that its index is fed with what others write.
  const stop = new AbortController();
  const watch = await c.watch(watchRequest(prefix, all), stop.signal);
  let writing = 3;
  const over = () => writing === 0;
  const asStore =
    (store: SqlStore) =>
    async (...request: Parameters<typeof rangeRequest>) => {
      const { header, ...answer } = await store.range(rangeRequest(...request), soon());
      return { ...answer, revision: header.revision };
    };
  const writers = [a, b, c].map(async (store, n) => {
    await writeSome(store, n + 1, 60);
    writing--;
  });
  const asked = [a, c].map((store) => ask(asStore(store), over));
  const answers = (await Promise.all([...asked, ask(follower.read, over)])).flat();
  await Promise.all(writers);
  stop.abort();
  t.is(watch.createdRevision > 0n, true);
  t.true(isIndexed(follower.statements), 'SQL was asked for a count');
  await checkAll(t, on, answers);
  await checkContent(t, on, follower.index);
});

/** Every key of the database, and no other. */
async function checkContent(
  t: { deepEqual: (a: unknown, b: unknown) => unknown; is: (a: unknown, b: unknown) => unknown },
  on: Opened,
  index: KeyIndex,
) {
  const revision = await index.catchUp();
  const { kvs, revision: now } = await readRange(on.query, rangeRequest('\0', { rangeEnd: fromKey }));
  t.is(revision, now);
  for (const { key, createRevision, modRevision, version, lease } of kvs)
    t.deepEqual(index.get(key), { createRevision, modRevision, version, lease });
  t.is(index.count(keyRange(Buffer.from('\0'), fromKey), now), kvs.length);
}

onEach('is built while others write, and answers are exact meanwhile', async (t, on) => {
  await using store = await on.store();
  // More than one page.
  for (let n = 0; n < 1_500; n += 500)
    await put(store, ...Array.from({ length: 500 }, (_, i) => `${prefix}many/${n + i}`));
  let isWriting = true;
  const writing = (async () => {
    await Promise.all([1, 2, 3].map((seed) => writeSome(store, seed, 60)));
    isWriting = false;
  })();
  const answers: Answered[] = [];
  do {
    await using started = await on.store();
    await using follower = follow(on);
    const answer = await started.range(rangeRequest(prefix, { ...all, countOnly: true }), soon());
    answers.push({ key: prefix, ...all, at: answer.header.revision, count: answer.count });
    answers.push(...(await ask(follower.read, () => true)));
    await built(follower.index);
    await checkContentWhile(follower.index);
    answers.push(...(await ask(follower.read, () => true)));
  } while (isWriting);
  await writing;
  await checkAll(t, on, answers);
  await using last = follow(on);
  await built(last.index);
  await checkContent(t, on, last.index);
});

/** The index goes on while others write. */
async function checkContentWhile(index: KeyIndex): Promise<void> {
  const before = index.revision!;
  const reached = await index.catchUp();
  if (reached === undefined || reached < before)
    throw new Error(`Expected ${before} or later, got ${reached}`);
}

onEach('leases and versions are known', async (t, on) => {
  await using store = await on.store();
  const id = 2n ** 62n + 1n;
  await store.leaseGrant({ ttl: 600, id }, soon());
  const { header } = await store.txn(
    txnRequest({ success: [op.put('a', 'v', { lease: id }), op.put('b', 'v')] }),
    soon(),
  );
  await using follower = follow(on);
  await built(follower.index);
  const createRevision = header.revision;
  const expected = { createRevision, modRevision: createRevision, version: 1n, lease: id };
  t.deepEqual(follower.index.get(Buffer.from('a')), expected);
  const modRevision = await put(store, 'a');
  await follower.index.catchUp();
  t.deepEqual(follower.index.get(Buffer.from('a')), { createRevision, modRevision, version: 2n, lease: 0n });
  t.is(follower.index.get(Buffer.from('c')), undefined);
});

onEach('a compaction that overtakes the index makes it begin anew', async (t, on) => {
  await using store = await on.store();
  const offers = createKeyIndex({
    driver: on.driver,
    // Nothing is read but when it is asked for.
    clock: { now: () => 0, sleep: (ms, signal) => systemClock.sleep(ms === 5_000 ? 3_600_000 : ms, signal) },
    logger: silentLogger,
  });
  offers.start();
  await put(store, `${prefix}a`, `${prefix}b`);
  await built(offers);
  const before = offers.revision!;
  await remove(store, `${prefix}a`);
  await put(store, `${prefix}c`);
  const revision = await put(store, `${prefix}c`);
  await store.compact({ revision, physical: true }, soon());
  t.is(offers.revision, before);
  t.is(await offers.catchUp(), undefined);
  await built(offers);
  await checkContent(t, on, offers);
  t.is(offers.count(keyRange(Buffer.from(prefix), all.rangeEnd), revision), 2);
  // What the new index has not seen come and go is not known to it.
  t.is(offers.count(keyRange(Buffer.from(prefix), all.rangeEnd), before), undefined);
  await offers.close();
});

onEach('a revision that is lifted is a gap, and nothing else', async (t, on) => {
  await using store = await on.store();
  await using follower = follow(on);
  await put(store, `${prefix}a`, `${prefix}b`);
  await built(follower.index);
  await store.raiseRevision!(1_000n, soon());
  t.is(await follower.index.catchUp(), 1_000n);
  await put(store, `${prefix}c`);
  t.is((await follower.read(prefix, { ...all, countOnly: true })).count, 3);
  t.is((await follower.read(prefix, { ...all, countOnly: true, revision: 900n })).count, 2);
  t.true(isIndexed(follower.statements));
});

for (const [finder, options] of Object.entries({ 'a page': { limit: 1 }, 'a count': { countOnly: true } }))
  onEach(`${finder} finds out that the database has lost commits, and is right`, async (t, on) => {
    await using store = await on.store();
    await put(store, `${prefix}a`);
    const kept = await put(store, `${prefix}b`);
    const lost = await put(store, `${prefix}c`);
    await using follower = follow(on);
    await built(follower.index);
    t.is(await follower.index.catchUp(), lost);
    await store[Symbol.asyncDispose]();
    await on.run('DELETE FROM switchyard_log WHERE mod_revision > ?', kept);
    await on.run('DELETE FROM switchyard_current WHERE mod_revision > ?', kept);
    await on.run('UPDATE switchyard_meta SET revision = ? WHERE id = 1', kept);
    // Whoever reads first finds out.
    t.is((await follower.read(prefix, { ...all, ...options })).count, 2);
    await built(follower.index);
    await checkContent(t, on, follower.index);
    t.is((await follower.read(prefix, { ...all, countOnly: true })).count, 2);
  });

onEach('a log that does not follow from what the index knows makes it begin anew', async (t, on) => {
  await using store = await on.store();
  await put(store, `${prefix}a`);
  const revision = await put(store, `${prefix}b`);
  await using follower = follow(on);
  await built(follower.index);
  // Another history of the same length, as after a restored backup and as many writes.
  await on.run(
    `INSERT INTO switchyard_log (mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value)
     VALUES (?, ?, 0, 0, 0, 0, 1, ?, ?)`,
    revision + 1n,
    Buffer.from(`${prefix}c`),
    revision - 1n,
    Buffer.alloc(0),
  );
  await on.run('UPDATE switchyard_meta SET revision = ? WHERE id = 1', revision + 1n);
  t.is(await follower.index.catchUp(), undefined);
  await built(follower.index);
  t.is((await follower.read(prefix, { ...all, countOnly: true })).count, 2);
});

onEach('a revision of thousands of changes is taken in whole', async (t, on) => {
  await using store = await on.store();
  const keys = Array.from({ length: 5_000 }, (_, n) => `${prefix}${n}`);
  for (let n = 0; n < keys.length; n += 500) await put(store, ...keys.slice(n, n + 500));
  await using follower = follow(on);
  await built(follower.index);
  await remove(store, prefix, endOf(prefix));
  t.not(await follower.index.catchUp(), undefined);
  t.is((await follower.read(prefix, { ...all, countOnly: true })).count, 0);
  t.true(isIndexed(follower.statements));
  const { rows } = await on.run('SELECT revision FROM switchyard_meta');
  t.is(follower.index.revision, int64(rows[0]!, 'revision'));
});

onEach('a revision of more changes than that makes it begin anew', async (t, on) => {
  await using store = await on.store();
  await put(store, `${prefix}a`);
  await using follower = follow(on);
  await built(follower.index);
  const revision = await put(store, ...Array.from({ length: 9_000 }, (_, n) => `${prefix}${n}`));
  t.is(await follower.index.catchUp(), undefined);
  await built(follower.index);
  const range = keyRange(Buffer.from(prefix), all.rangeEnd);
  t.is(follower.index.count(range, revision), 9_001);
  t.is(follower.index.count(range, revision - 1n), undefined);
});
