// Gets of single keys on real databases: how they share statements, and that they share nothing else.

import test from 'ava';
import { rangeRequest as plainRequest } from '../src/etcd/requests.ts';
import type { KeyValue } from '../src/etcd/types.ts';
import { noteRequest, ServedRequest, worksNow, type Work } from '../src/lib/work.ts';
import { createPointReads, isPointRead, type QueryAlone } from '../src/store/sql/read/point-reads.ts';
import { readRange } from '../src/store/sql/read/range.ts';
import { op, rangeRequest, txnRequest, type Bytes } from './conformance/requests.ts';
import { onEachEngine } from './on-each.ts';
import { testDatabase, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

const kibibyte = 1024;

/** A store to write with, its database, and point reads that tell what they ask. */
async function opened(engine: SqlEngine) {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const store = await openTestStore(database);
  const driver = dialects[engine].open({ url: database.url, pool });
  /** Of each answer, in order: bytes of its values. */
  const answers: number[] = [];
  /** Of each statement, in order: for whom it is. */
  const works: (readonly Work[])[] = [];
  /** Held back until it resolves; each statement waits for it. */
  const gate = { open: Promise.resolve() };
  const query: QueryAlone = async (statement, params, signal) => {
    await gate.open;
    works.push(worksNow());
    const result = await driver.query(statement, params, signal);
    answers.push(
      result.rows.reduce((sum, { value }) => sum + (Buffer.isBuffer(value) ? value.length : 0), 0),
    );
    return result;
  };
  const reads = createPointReads(query);
  const get = (key: Bytes, revision = 0n, signal = soon()) =>
    reads.read(rangeRequest(key, { revision }), signal);
  const put = async (key: string, value: Bytes) =>
    (await store.txn(txnRequest({ success: [op.put(key, value)] }), soon())).header.revision;
  return {
    store,
    database,
    driver,
    answers,
    works,
    gate,
    get,
    put,
    async [Symbol.asyncDispose]() {
      await driver.close();
      await store[Symbol.asyncDispose]();
      await database.dispose();
    },
  };
}

const onEach = onEachEngine(test, opened);

const textOf = (kvs: readonly KeyValue[]) =>
  kvs.map(({ key, value }) => `${key.toString()}=${value.toString()}`);

test('only gets of one key with its value are shared', (t) => {
  const key = Buffer.from('k');
  t.true(isPointRead(plainRequest(key)));
  t.true(isPointRead(plainRequest(key, { limit: 1, revision: 7n, serializable: true })));
  t.false(isPointRead(plainRequest(key, { rangeEnd: Buffer.from('l') })));
  t.false(isPointRead(plainRequest(key, { keysOnly: true })));
  t.false(isPointRead(plainRequest(key, { countOnly: true })));
  t.false(isPointRead(plainRequest(key, { minModRevision: 2n })));
});

onEach('gets at the same time share statements, and each has its own answer', async (t, on) => {
  const names = Array.from({ length: 150 }, (_, n) => `/k/${n}`);
  await Promise.all(names.slice(0, 100).map((name) => on.put(name, name)));
  // Absent ones and some asked for twice among them.
  const asked = [...names, ...names.slice(0, 20)];
  const found = await Promise.all(asked.map((name) => on.get(name)));
  const { header } = await on.store.range(rangeRequest('/k/0'), soon());
  for (const [index, { kvs, count, more, revision }] of found.entries()) {
    const name = asked[index]!;
    t.deepEqual(textOf(kvs), names.indexOf(name) < 100 ? [`${name}=${name}`] : []);
    t.is(count, kvs.length);
    t.false(more);
    t.is(revision, header.revision);
  }
  t.true(on.answers.length <= 4, `${on.answers.length} statements for ${asked.length} gets`);
});

onEach('a get at a revision answers as a range does', async (t, on) => {
  const first = await on.put('/k/changed', 'before');
  await on.put('/k/same', 'same');
  const gone = await on.put('/k/gone', 'gone');
  await on.put('/k/changed', 'after');
  await on.store.txn(txnRequest({ success: [op.delete('/k/gone')] }), soon());
  const last = await on.put('/k/new', 'new');
  const query: Parameters<typeof readRange>[0] = (statement, params) => on.driver.query(statement, params);
  const names = ['changed', 'same', 'gone', 'new', 'never'].map((name) => `/k/${name}`);
  for (const revision of [0n, first - 1n, first, gone, last - 1n, last]) {
    const found = await Promise.all(names.map((name) => on.get(name, revision)));
    for (const [index, answer] of found.entries())
      t.deepEqual(answer, await readRange(query, rangeRequest(names[index]!, { revision })));
  }
  await on.store.compact({ revision: gone, physical: true }, soon());
  const errors = await Promise.all([
    t.throwsAsync(on.get('/k/same', first)),
    t.throwsAsync(on.get('/k/same', last + 1n)),
    on.get('/k/same', gone).then(({ kvs }) => t.deepEqual(textOf(kvs), ['/k/same=same'])),
  ]);
  t.like(errors[0], { reason: 'compacted', compactRevision: gone });
  t.like(errors[1], { reason: 'futureRevision' });
});

onEach('all statements of a get are for its request', async (t, on) => {
  const first = await on.put('/k/a', 'before');
  await on.put('/k/a', 'after');
  const abort = new AbortController();
  const request = new ServedRequest({ field: () => undefined });
  noteRequest(abort.signal, request);
  const { kvs } = await on.get('/k/a', first, abort.signal);
  t.deepEqual(textOf(kvs), ['/k/a=before']);
  t.true(on.works.length > 1);
  t.true(on.works.every(([work]) => work?.request === request));
});

onEach('a get sees what another gateway has acknowledged before it began', async (t, on) => {
  const other = await openTestStore(on.database);
  let acknowledged = { value: -1, revision: 0n };
  let isOver = false;
  const write = async () => {
    for (let value = 0; value < 60; value++) {
      const success = [op.put('/k/counter', String(value))];
      const { header } = await other.txn(txnRequest({ success }), soon());
      acknowledged = { value, revision: header.revision };
    }
    isOver = true;
  };
  const reader = async () => {
    let reads = 0;
    for (; !isOver; reads++) {
      const before = acknowledged;
      const { kvs, revision } = await on.get('/k/counter');
      const seen = kvs.length === 0 ? -1 : Number(kvs[0]!.value.toString());
      if (seen < before.value || revision < before.revision) {
        t.fail(`saw ${seen} at ${revision} after ${before.value} at ${before.revision}`);
        return 0;
      }
    }
    return reads;
  };
  const [, ...reads] = await Promise.all([write(), ...Array.from({ length: 16 }, reader)]);
  await other[Symbol.asyncDispose]();
  t.true(reads.every((count) => count > 0));
});

onEach('an abort ends one get and leaves the others alone', async (t, on) => {
  await on.put('/k/a', 'a');
  const sent = Promise.withResolvers<void>();
  on.gate.open = sent.promise;
  const abort = new AbortController();
  const late = new AbortController();
  const kept = on.get('/k/a');
  const aborted = on.get('/k/a', 0n, abort.signal);
  abort.abort(new Error('changed its mind'));
  await t.throwsAsync(aborted, { message: 'changed its mind' });
  // In statements under way by now, and one that still waits for a turn.
  const others = Array.from({ length: 200 }, () => on.get('/k/a'));
  const abortedLate = on.get('/k/a', 0n, late.signal);
  await new Promise(setImmediate);
  late.abort(new Error('changed its mind later'));
  await t.throwsAsync(abortedLate, { message: 'changed its mind later' });
  await t.throwsAsync(on.get('/k/a', 0n, AbortSignal.abort(new Error('never wanted'))), {
    message: 'never wanted',
  });
  sent.resolve();
  for (const { kvs } of await Promise.all([kept, ...others])) t.deepEqual(textOf(kvs), ['/k/a=a']);
});

onEach('gets that all end do not keep the next ones waiting', async (t, on) => {
  await on.put('/k/a', 'a');
  const never = Promise.withResolvers<void>();
  on.gate.open = never.promise;
  const abort = new AbortController();
  const lost = Array.from({ length: 200 }, () => on.get('/k/a', 0n, abort.signal));
  await new Promise(setImmediate);
  abort.abort(new Error('all gone'));
  await Promise.all(lost.map((get) => t.throwsAsync(get, { message: 'all gone' })));
  on.gate.open = Promise.resolve();
  const next = on.get('/k/a');
  never.resolve();
  t.deepEqual(textOf((await next).kvs), ['/k/a=a']);
});

onEach('a value that is lost fails its own get only', async (t, on) => {
  await Promise.all(['a', 'b', 'c'].map((name) => on.put(`/k/${name}`, name)));
  const text = 'DELETE FROM switchyard_log WHERE k = ?';
  await on.driver.query({ name: 'test.lose', text }, [Buffer.from('/k/b')]);
  const [a, b, c] = await Promise.allSettled(['/k/a', '/k/b', '/k/c'].map((name) => on.get(name)));
  t.deepEqual(a?.status === 'fulfilled' && textOf(a.value.kvs), ['/k/a=a']);
  t.deepEqual(c?.status === 'fulfilled' && textOf(c.value.kvs), ['/k/c=c']);
  t.regex(String(b?.status === 'rejected' && b.reason), /Expected the value of a pair in the log, got none/u);
});

onEach('large values travel alone', async (t, on) => {
  const large = 900 * kibibyte;
  const sizes = [0, 1, 32 * kibibyte, 32 * kibibyte + 1, 64 * kibibyte, large, large, large];
  const values = sizes.map((size, n) => Buffer.alloc(size, String(n)));
  for (const [n, value] of values.entries()) await on.put(`/k/${n}`, value);
  const found = await Promise.all(values.map((_, n) => on.get(`/k/${n}`)));
  t.deepEqual(
    found.map(({ kvs }) => kvs.map(({ value }) => value)),
    values.map((value) => [value]),
  );
  t.true(Math.max(...on.answers) <= large, `one answer has ${Math.max(...on.answers)} bytes of values`);
  // One that comes alone is read once.
  on.answers.length = 0;
  t.is((await on.get('/k/7')).kvs[0]?.value.length, large);
  t.deepEqual(on.answers, [large]);
});
