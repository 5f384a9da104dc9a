// RangeStream: a range in chunks, which together are what Range answers; on an etcd before 3.7 nothing at all.

import { isDeepStrictEqual } from 'node:util';
import type { ExecutionContext } from 'ava';
import {
  decodeRangeStreamResponse,
  encodeCompactionRequest,
  encodeRangeRequest,
} from '../../src/etcd/codec/kv.ts';
import type { RangeChunk } from '../../src/etcd/types.ts';
import { fromKey, op, rangeRequest } from './requests.ts';
import { failure, wholeServer, type Cases, type Scene } from './scene.ts';

type Request = Parameters<typeof rangeRequest>;

async function* stream(on: Scene, ...request: Request): AsyncGenerator<RangeChunk, void, void> {
  const message = encodeRangeRequest(rangeRequest(...request));
  for await (const answer of on.client.serverStream('KV/RangeStream', message))
    yield decodeRangeStreamResponse(answer);
}

async function chunksOf(chunks: AsyncIterable<RangeChunk>): Promise<RangeChunk[]> {
  const all: RangeChunk[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return all;
}

/** Streams and reads at once, and compares field by field; gives the chunks. */
async function same(t: ExecutionContext, on: Scene, ...request: Request): Promise<RangeChunk[]> {
  const chunks = await chunksOf(stream(on, ...request));
  const last = chunks.at(-1)!;
  for (const chunk of chunks.slice(0, -1)) {
    t.deepEqual({ ...chunk, kvs: [] }, { kvs: [], more: false, count: 0 });
    t.true(chunk.kvs.length > 0);
  }
  const kvs = chunks.flatMap((chunk) => chunk.kvs);
  const answer = await on.client.range(...request);
  t.deepEqual<RangeChunk, RangeChunk>({ ...last, kvs: [] }, { ...answer, kvs: [] });
  t.is(kvs.length, answer.kvs.length);
  // The assertion that shows differences takes half a minute for megabytes of equal bytes.
  const wrong = kvs.find((kv, index) => !isDeepStrictEqual(kv, answer.kvs[index]));
  t.is(wrong && on.kv(wrong), undefined);
  return chunks;
}

const name = (n: number) => `k${String(n).padStart(5, '0')}`;

/** Keys 0 to `count`, a few in one revision. */
async function fill(on: Scene, count: number, value: string | Buffer, atOnce = 100): Promise<void> {
  for (let start = 0; start < count; start += atOnce) {
    const length = Math.min(atOnce, count - start);
    const success = Array.from({ length }, (_, n) => op.put(on.key(name(start + n)), value));
    await on.client.txn({ success });
  }
}

const compacted = '11 etcdserver: mvcc: required revision has been compacted';
const mebibyte = 1024 * 1024;

export const rangeStreamCases: Cases = {
  'many chunks are one answer, of small and large values': async (t, on) => {
    await fill(on, 5_200, 'small');
    for (let n = 4_000; n < 4_010; n++) await on.client.put(on.key(name(n)), Buffer.alloc(mebibyte, n));
    const chunks = await same(t, on, on.prefix, { rangeEnd: on.end });
    t.true(chunks.length > 3, `${chunks.length} chunks`);
    t.like(chunks.at(-1), { count: 5_200, more: false });
    await same(t, on, on.prefix, { rangeEnd: on.end, keysOnly: true });
  },
  'a limit cuts the stream; the count is of the whole range': async (t, on) => {
    await fill(on, 100, 'v');
    for (const limit of [1, 9, 10, 11, 16, 17, 99, 100, 101, -1]) {
      const chunks = await same(t, on, on.prefix, { rangeEnd: on.end, limit });
      t.like(chunks.at(-1), { count: 100, more: limit > 0 && limit < 100 }, `limit ${limit}`);
    }
    await same(t, on, on.key(name(30)), { rangeEnd: on.key(name(90)), limit: 25 });
  },
  'the past is streamed under the revision of now': async (t, on) => {
    await fill(on, 60, 'first');
    await on.client.delete(on.key(name(5)), { rangeEnd: on.key(name(15)) });
    await fill(on, 8, 'second');
    for (const offset of [1, 2, 3]) {
      const chunks = await same(t, on, on.prefix, { rangeEnd: on.end, revision: on.at(offset) });
      t.is(on.since(chunks.at(-1)!.header!.revision), 3);
      await same(t, on, on.prefix, { rangeEnd: on.end, revision: on.at(offset), limit: 12 });
    }
    await same(t, on, on.prefix, { rangeEnd: on.end, revision: -1n });
  },
  'one key, no key, no range, counts and keys alone come in one chunk': async (t, on) => {
    await fill(on, 8, 'v');
    const requests: readonly Request[] = [
      [on.key(name(3))],
      [on.key('none')],
      [on.key(name(3)), { rangeEnd: on.key(name(3)) }],
      [on.key(name(3)), { rangeEnd: on.key(name(1)) }],
      [on.prefix, { rangeEnd: on.end, countOnly: true }],
      [on.prefix, { rangeEnd: on.end, countOnly: true, limit: 2 }],
      [on.prefix, { rangeEnd: on.end, keysOnly: true }],
      [on.prefix, { rangeEnd: on.end, serializable: true }],
    ];
    for (const request of requests) t.is((await same(t, on, ...request)).length, 1);
  },
  'all keys from one on': wholeServer(async (t, on) => {
    const high = Buffer.concat([Buffer.from([0xff, 0xfd]), Buffer.from(on.prefix)]);
    const success = Array.from({ length: 30 }, (_, n) => op.put(Buffer.concat([high, Buffer.from([n])])));
    await on.client.txn({ success });
    const chunks = await same(t, on, high, { rangeEnd: fromKey });
    t.true(chunks.at(-1)!.count >= 30);
    await on.client.delete(high, { rangeEnd: fromKey });
  }),
  'orders other than that of the keys, and bounds on revisions, are not offered': async (t, on) => {
    await fill(on, 20, 'v');
    const refused = (...request: Request) => failure(chunksOf(stream(on, ...request)));
    const rangeEnd = on.end;
    const order = '12 RangeStream does not support custom sort orders';
    t.is(await refused(on.prefix, { rangeEnd, sortOrder: 'descend' }), order);
    t.is(await refused(on.prefix, { rangeEnd, sortOrder: 'ascend', sortTarget: 'mod' }), order);
    t.is(await refused(on.prefix, { rangeEnd, sortOrder: 'descend', minModRevision: 1n }), order);
    const bounds = '12 RangeStream does not support revision filters';
    for (const bound of ['minModRevision', 'maxModRevision', 'minCreateRevision', 'maxCreateRevision'])
      t.is(await refused(on.prefix, { rangeEnd, [bound]: 1n }), bounds);
    t.is(await refused(on.prefix, { rangeEnd, minModRevision: -1n }), bounds);
    t.is(await refused(on.prefix, { rangeEnd, countOnly: true, minModRevision: 1n }), bounds);
    await same(t, on, on.prefix, { rangeEnd, sortOrder: 'ascend' });
  },
  'a target without an order sorts what comes in one chunk': async (t, on) => {
    for (const [key, value] of ['b', 'c', 'a'].entries()) await on.client.put(on.key(name(key)), value);
    for (const sortTarget of ['value', 'mod'] as const)
      await same(t, on, on.prefix, { rangeEnd: on.end, sortTarget });
  },
  'what Range refuses is refused in the same words': async (t, on) => {
    await fill(on, 20, 'v');
    const refused = (...request: Request) => failure(chunksOf(stream(on, ...request)));
    t.is(await refused(''), '3 etcdserver: key is not provided');
    t.is(await refused('', { rangeEnd: 'z', sortOrder: 'descend' }), '3 etcdserver: key is not provided');
    const future = '11 etcdserver: mvcc: required revision is a future revision';
    t.is(await refused(on.prefix, { rangeEnd: on.end, revision: on.at(2) }), future);
    // range_request { key: "k" sort_order: 7 } and sort_target: 9
    for (const message of [Buffer.from([0x0a, 1, 0x6b, 0x28, 7]), Buffer.from([0x0a, 1, 0x6b, 0x30, 9])]) {
      const answer = on.client.serverStream('KV/RangeStream', message).next();
      t.is(await failure(answer), '3 etcdserver: invalid sort option');
    }
  },
  'a revision that is compacted is refused': wholeServer(async (t, on) => {
    await fill(on, 20, 'v');
    await on.client.put(on.key(name(0)), 'w');
    await on.client.compact(on.at(2), 'physical');
    const refused = (...request: Request) => failure(chunksOf(stream(on, ...request)));
    t.is(await refused(on.prefix, { rangeEnd: on.end, revision: on.at(1) }), compacted);
    t.is(await refused(on.prefix, { rangeEnd: on.end, revision: on.at(1), countOnly: true }), compacted);
    await same(t, on, on.prefix, { rangeEnd: on.end, revision: on.at(2) });
  }),
  'a slow stream sees no later write, and a compaction ends it': wholeServer(async (t, on) => {
    // More than fits between server and client.
    const keys = 800;
    await fill(on, keys, Buffer.alloc(100 * 1024, 'v'), 14);
    const rangeEnd = on.end;
    const before = await on.client.range(on.prefix, { rangeEnd, keysOnly: true });
    const slow = stream(on, on.prefix, { rangeEnd });
    const first = await slow.next();
    await on.client.delete(on.key(name(keys - 300)), { rangeEnd: on.key(name(keys - 10)) });
    await on.client.put(on.key(name(keys - 1)), 'changed');
    await on.client.put(on.key(`${name(keys - 1)}a`), 'created');
    const rest = await chunksOf(slow);
    const last = rest.at(-1)!;
    t.deepEqual(last.header, before.header);
    t.is(last.count, keys);
    const kvs = [...first.value!.kvs, ...rest.flatMap((chunk) => chunk.kvs)];
    t.deepEqual(
      kvs.map(({ key, modRevision }) => ({ key, modRevision })),
      before.kvs.map(({ key, modRevision }) => ({ key, modRevision })),
    );
    t.true(kvs.every(({ value }) => value.length === 100 * 1024));

    const overtaken = stream(on, on.prefix, { rangeEnd, revision: before.header.revision });
    const some = (await overtaken.next()).value!.kvs.length;
    // By its path, under which nobody reads all of the history first for the sake of watches that there are not.
    const passed = { revision: before.header.revision + 3n, physical: true };
    await on.client.unary('/etcdserverpb.KV/Compact', encodeCompactionRequest(passed));
    const seen: number[] = [];
    const reading = async () => {
      for await (const chunk of overtaken) seen.push(chunk.kvs.length);
    };
    t.is(await failure(reading()), compacted);
    t.true(some + seen.reduce((sum, each) => sum + each, 0) < keys);
  }),
};

export const noRangeStreamCases: Cases = {
  'an etcd that does not know the call says so': async (t, on) => {
    await fill(on, 1, 'v');
    for (const request of [{ rangeEnd: on.end }, { rangeEnd: on.end, sortOrder: 'descend' as const }]) {
      const refused = await failure(chunksOf(stream(on, on.prefix, request)));
      t.is(refused, '12 unknown method RangeStream for service etcdserverpb.KV');
    }
    t.is((await on.client.range(on.key(name(0)))).count, 1);
  },
};
