// Ranges in chunks from SQL stores on real databases: what each page holds and costs, and how a stream ends early.

import test from 'ava';
import type { KeyValue } from '../src/etcd/types.ts';
import { readRange } from '../src/store/sql/read/range.ts';
import { selectPast } from '../src/store/sql/read/range-statements.ts';
import { streamRange, type StreamPage } from '../src/store/sql/read/range-stream.ts';
import { logColumns, type Query } from '../src/store/sql/statements.ts';
import { endOf, fromKey, op, rangeRequest, txnRequest } from './conformance/requests.ts';
import { onEachEngine } from './on-each.ts';
import { testDatabase, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

const mebibyte = 1024 * 1024;
const rangeEnd = endOf('/k/');
const key = (n: number) => `/k/${String(n).padStart(5, '0')}`;

/** A store with two connections to write with, and its database to read from, with what each statement brought. */
async function opened(engine: SqlEngine) {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const store = await openTestStore(database, {
    driver: { url: database.url, pool: { ...pool, connectionsMax: 2 } },
  });
  const driver = dialects[engine].open({ url: database.url, pool });
  const asked: { readonly name: string; readonly rows: number }[] = [];
  const query: Query = async (statement, params) => {
    const result = await driver.query(statement, params);
    asked.push({ name: statement.name, rows: result.rows.length });
    return result;
  };
  /** Puts in few transactions. */
  const fill = async (from: number, to: number, value: (n: number) => Buffer | string) => {
    for (let start = from; start < to; start += 500) {
      const length = Math.min(500, to - start);
      const success = Array.from({ length }, (_, n) => op.put(key(start + n), value(start + n)));
      await store.txn(txnRequest({ success }), soon());
    }
  };
  const remove = async (from: number, to: number) =>
    (await store.txn(txnRequest({ success: [op.delete(key(from), { rangeEnd: key(to) })] }), soon())).header
      .revision;
  const compact = async () => {
    await fill(0, 1, () => 'later');
    const { header } = await store.range(rangeRequest(key(0)), soon());
    await store.compact({ revision: header.revision, physical: true }, soon());
  };
  return {
    store,
    query,
    asked,
    fill,
    remove,
    compact,
    async [Symbol.asyncDispose]() {
      await driver.close();
      await store[Symbol.asyncDispose]();
      await database.dispose();
    },
  };
}

const onEach = onEachEngine(test, opened);

async function collected(pages: AsyncIterable<StreamPage>) {
  const all: StreamPage[] = [];
  for await (const page of pages) all.push(page);
  return { pages: all, answer: { ...all.at(-1)?.end, kvs: all.flatMap(({ kvs }) => kvs) } };
}

const bytesOf = (kvs: readonly KeyValue[]) => kvs.reduce((sum, { value }) => sum + value.length, 0);

onEach('pages add up to one answer, with much history in the way', async (t, on) => {
  await on.fill(0, 2_500, String);
  const pinned = await on.remove(1_000, 1_600);
  // Keys that are gone since, that came since, and one with more history than a step looks at.
  await on.remove(1_700, 1_800);
  await on.fill(1_900, 2_000, () => 'changed');
  await on.fill(2_500, 2_600, String);
  for (let n = 0; n < 3; n++)
    await Promise.all(Array.from({ length: 200 }, () => on.fill(20, 21, () => 'hot')));
  const limits = [0, -1, 1, 15, 16, 17, 1_000, 1_899, 1_900, 1_901, 5_000];
  for (const revision of [0n, pinned]) {
    for (const limit of limits) {
      const request = rangeRequest('/k/', { rangeEnd, limit, revision });
      const { answer } = await collected(streamRange(on.query, request));
      t.deepEqual(answer, await readRange(on.query, request), `limit ${limit} at ${revision}`);
    }
    for (const more of [{ keysOnly: true }, { countOnly: true }, { sortTarget: 'value' }] as const) {
      const request = rangeRequest('/k/', { rangeEnd, revision, ...more });
      const { answer } = await collected(streamRange(on.query, request));
      t.deepEqual(answer, await readRange(on.query, request));
    }
    for (const [start, end] of [
      [key(1_500), fromKey],
      [key(3), key(19)],
      [key(3), key(20)],
      [key(990), key(1_610)],
      [key(1_100), key(1_200)],
      [key(7), ''],
      [key(7), key(6)],
    ] as const) {
      const request = rangeRequest(start, { rangeEnd: end, revision });
      const { answer } = await collected(streamRange(on.query, request));
      t.deepEqual(answer, await readRange(on.query, request), `${start} to ${String(end)}`);
    }
  }
});

onEach('a page holds a mebibyte and one value at most', async (t, on) => {
  const large = 700 * 1024;
  await on.fill(0, 3_000, () => 'small');
  for (let n = 1_500; n < 1_530; n++) await on.fill(n, n + 1, () => Buffer.alloc(large));
  const { pages } = await collected(streamRange(on.query, rangeRequest('/k/', { rangeEnd })));
  t.is(pages.flatMap(({ kvs }) => kvs).length, 3_000);
  const heaviest = Math.max(...pages.map(({ kvs }) => bytesOf(kvs)));
  t.true(heaviest <= mebibyte + large, `the heaviest page has ${heaviest} bytes of values`);
  t.true(pages.length < 60, `${pages.length} pages`);
});

test('sqlite: of the pairs that a page leaves for the next one only the lengths are read', async (t) => {
  await using on = (await opened('sqlite'))!;
  const bound = Buffer.from(rangeEnd);
  const from = Buffer.from('/k/');
  for (const [source, params] of [
    [{ type: 'walk', entries: 256 }, [1n, from, bound, bound]],
    [{ type: 'undo', changes: 64 }, [1n, from, 1n, 1n, 1n, from, bound, bound, bound]],
  ] as const) {
    const page = selectPast({ source, toEnd: false, values: true, keys: 64, bytesMax: mebibyte });
    const { rows: program } = await on.query({ name: 'test.explain', text: `EXPLAIN ${page.text}` }, params);
    const lengthOnly = 0x40;
    const valueReads = program.filter(
      ({ opcode, p2 }) => opcode === 'Column' && Number(p2) === logColumns.indexOf('value'),
    );
    const whole = valueReads.filter(({ p5 }) => (Number(p5) & lengthOnly) === 0);
    t.true(valueReads.length > 1);
    t.is(whole.length, 1, 'once, for the answer');
  }
});

onEach('a stream reads each key once, in few statements, and counts only where it was cut', async (t, on) => {
  const keys = 5_000;
  await on.fill(0, keys, () => 'x'.repeat(200));
  for (const [limit, counts] of [
    [0, 0],
    [4_000, 1],
  ] as const) {
    on.asked.length = 0;
    const { answer } = await collected(streamRange(on.query, rangeRequest('/k/', { rangeEnd, limit })));
    t.like(answer, { count: keys, more: limit > 0 });
    t.is(on.asked.filter(({ name }) => name.startsWith('range.count')).length, counts);
    t.true(on.asked.length < 12, `${on.asked.length} statements`);
    const rows = on.asked.reduce((sum, each) => sum + each.rows, 0);
    t.true(rows < keys * 1.1, `${rows} rows`);
  }
});

onEach('a compaction that passes the revision ends the stream', async (t, on) => {
  await on.fill(0, 1_000, String);
  const pages = streamRange(on.query, rangeRequest('/k/', { rangeEnd }));
  t.true((await pages.next()).value!.kvs.length > 0);
  await on.compact();
  await t.throwsAsync(() => pages.next(), {
    message: 'etcdserver: mvcc: required revision has been compacted',
  });
});

onEach('streams that are left or cancelled keep no connection', async (t, on) => {
  await on.fill(0, 1_000, String);
  const request = rangeRequest('/k/', { rangeEnd });
  for (let n = 0; n < 5; n++) {
    const abort = new AbortController();
    const chunks = on.store.rangeStream!(request, abort.signal)[Symbol.asyncIterator]();
    await chunks.next();
    const reading = chunks.next();
    abort.abort();
    await t.throwsAsync(reading, { name: 'AbortError' });
    t.true((await chunks.next()).done);
    for await (const chunk of on.store.rangeStream!(request, soon())) {
      t.is(chunk.header, undefined);
      break;
    }
  }
  // Open, and not read any further: they hold nothing that others need.
  const open = Array.from({ length: 10 }, () =>
    on.store.rangeStream!(request, soon())[Symbol.asyncIterator](),
  );
  for (const chunks of open) t.false((await chunks.next()).done);
  t.is((await on.store.range(rangeRequest('/k/', { rangeEnd, countOnly: true }), soon())).count, 1_000);
  await on.fill(0, 1, () => 'written');
});
