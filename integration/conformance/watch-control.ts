// Watch: what is said beside the events. Ids and who has them, headers, refusals, progress, when answers are cut.

import { encode } from '../../src/etcd/wire.ts';
import type { ResponseHeader } from '../../src/etcd/types.ts';
import { fromKey } from './requests.ts';
import { wholeServer, type Cases, type Scene } from './scene.ts';
import type { WatchStream } from './watch-stream.ts';

const refusal = (reason: string) => ({ id: -1n, created: true, canceled: true, reason });
const taken = refusal('mvcc: duplicate watch ID provided on the WatchStream');
const empty = refusal('mvcc: watcher range is empty');
const compacted = refusal('etcdserver: mvcc: required revision has been compacted');

const idsOf = ({ clusterId, memberId, raftTerm }: ResponseHeader) => ({ clusterId, memberId, raftTerm });
const put = (on: Scene, name: string, value = '') => on.client.put(on.key(name), value);

/** The next answer, with its revision. */
async function next(on: Scene, stream: WatchStream) {
  const response = await stream.next();
  return { at: on.since(response.header.revision), ...on.watch(response) };
}

/** Writes `sizes.length` values of these sizes, then watches them from the first on: how many events each answer has. */
async function answerSizes(on: Scene, sizes: readonly number[], options: { readonly prevKv?: boolean } = {}) {
  for (const [index, size] of sizes.entries()) await on.client.put(on.key(`k${index}`), Buffer.alloc(size));
  const stream = on.stream();
  await stream.create(on.prefix, { rangeEnd: on.end, startRevision: on.at(1), fragment: true, ...options });
  const shown: string[] = [];
  for (let seen = 0; seen < sizes.length;) {
    const { events, fragment } = await stream.next();
    seen += events.length;
    shown.push(`${events.length}${fragment ? ' and more' : ''}`);
  }
  return shown;
}

export const watchControlCases: Cases = {
  'every answer names the same server as a read does': async (t, on) => {
    const expected = idsOf((await on.client.range(on.key('a'))).header);
    const stream = on.stream();
    const created = await stream.create(on.key('a'));
    await put(on, 'a');
    const event = await stream.next();
    const { mark } = await stream.progress(on.at(1));
    const refused = await stream.create(on.key('b'), { rangeEnd: on.key('a') });
    stream.cancel(0n);
    const canceled = await stream.next();
    for (const { header } of [created, event, mark, refused, canceled]) t.deepEqual(idsOf(header), expected);
  },
  'the end of a watch by compaction names the server, and no revision': wholeServer(async (t, on) => {
    const { header } = await on.client.range(on.key('a'));
    for (const value of ['1', '2', '3']) await put(on, 'a', value);
    await on.client.compact(on.at(3));
    const stream = on.stream();
    await stream.create(on.key('a'), { startRevision: on.at(2) });
    const ended = await stream.next();
    t.deepEqual({ ...ended.header }, { ...header, revision: 0n });
    t.deepEqual(on.watch(ended), { id: 0n, canceled: true, compacted: 3 });
  }),
  'what is canceled or refused tells the revision of now': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.key('quiet'), { watchId: 4n });
    await put(on, 'a');
    await stream.create(on.key('quiet'));
    await put(on, 'a');
    stream.cancel(4n);
    t.deepEqual(await next(on, stream), { at: 2, id: 4n, canceled: true });
    await put(on, 'a');
    stream.send(on.key('b'), { rangeEnd: on.key('a') });
    t.deepEqual(await next(on, stream), { at: 3, ...empty });
    await put(on, 'a');
    stream.send(on.key('b'), { startRevision: -1n });
    t.deepEqual(await next(on, stream), { at: 4, ...compacted });
    await put(on, 'a');
    stream.cancel(0n);
    t.deepEqual(await next(on, stream), { at: 5, id: 0n, canceled: true });
  },
  'of several reasons to refuse, the start comes first, then the range, then the id': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.key('a'), { watchId: 7n });
    const inverted = { watchId: 7n, rangeEnd: on.key('a') };
    t.deepEqual(on.watch(await stream.create(on.key('b'), { ...inverted, startRevision: -1n })), compacted);
    t.deepEqual(on.watch(await stream.create(on.key('b'), inverted)), empty);
    t.deepEqual(on.watch(await stream.create(on.key('b'), { watchId: 7n })), taken);
  },
  'a range to the empty key is refused unless it means all keys from one on': async (t, on) => {
    const stream = on.stream();
    t.deepEqual(on.watch(await stream.create(on.key('b'), { rangeEnd: on.key('b') })), empty);
    t.deepEqual(on.watch(await stream.create(on.key('b'), { rangeEnd: '\0\0' })), empty);
    t.deepEqual(on.watch(await stream.create(on.key('b'), { rangeEnd: on.key('b\0') })), {
      id: 0n,
      created: true,
    });
  },
  'any id may be chosen, even a negative one': async (t, on) => {
    const stream = on.stream();
    for (const id of [-7n, -1n, 2n ** 62n]) {
      t.deepEqual(on.watch(await stream.create(on.key('a'), { watchId: id })), { id, created: true });
    }
    await put(on, 'a', '1');
    const seen = [await stream.next(), await stream.next(), await stream.next()];
    t.deepEqual(
      seen.map(({ watchId }) => watchId).toSorted((a, b) => (a < b ? -1 : 1)),
      [-7n, -1n, 2n ** 62n],
    );
    stream.cancel(-7n);
    t.deepEqual(on.watch(await stream.next()), { id: -7n, canceled: true });
  },
  'ids that the server chooses step over those taken and never come again': async (t, on) => {
    const stream = on.stream();
    const create = async (watchId = 0n) => (await stream.create(on.key('a'), { watchId })).watchId;
    t.deepEqual([await create(1n), await create(), await create(0n)], [1n, 0n, 2n]);
    stream.cancel(2n);
    t.deepEqual(on.watch(await stream.next()), { id: 2n, canceled: true });
    t.is(await create(), 3n);
    stream.cancel(1n);
    await stream.next();
    t.is(await create(1n), 1n, 'free again');
    t.is(await create(4n), 4n);
    t.is(await create(), 5n);
  },
  'a refused watch costs no id': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.key('b'), { rangeEnd: on.key('a') });
    await stream.create(on.key('b'), { startRevision: -1n });
    t.is((await stream.create(on.key('b'))).watchId, 0n);
  },
  'a watch ended by compaction keeps its id until it is cancelled, and no mark is given till then':
    wholeServer(async (t, on) => {
      for (const value of ['1', '2', '3']) await put(on, 'a', value);
      await on.client.compact(on.at(3));
      const stream = on.stream();
      await stream.create(on.key('b'));
      await stream.create(on.key('a'), { startRevision: on.at(1), watchId: 5n });
      t.deepEqual(on.watch(await stream.next()), { id: 5n, canceled: true, compacted: 3 });
      t.deepEqual(on.watch(await stream.create(on.key('a'), { watchId: 5n })), taken);
      stream.requestProgress();
      await put(on, 'b', '4');
      t.deepEqual(await next(on, stream), { at: 4, id: 0n, events: ['put b=4 c4 m4 v1'] });
      stream.cancel(5n);
      t.deepEqual(await next(on, stream), { at: 4, id: 5n, canceled: true });
      t.is((await stream.progress(on.at(4))).mark.watchId, -1n);
      t.deepEqual(on.watch(await stream.create(on.key('a'), { watchId: 5n })), { id: 5n, created: true });
    }),
  'an unknown id is cancelled in silence': async (t, on) => {
    const stream = on.stream();
    for (const id of [0n, -1n, 99n]) stream.cancel(id);
    t.deepEqual(on.watch(await stream.create(on.key('a'))), { id: 0n, created: true });
    for (const id of [1n, -1n, 99n]) stream.cancel(id);
    stream.cancel(0n);
    stream.cancel(0n);
    t.deepEqual(on.watch(await stream.next()), { id: 0n, canceled: true });
    t.deepEqual(on.watch(await stream.create(on.key('a'))), { id: 1n, created: true });
  },
  'without a watch there is no answer to a progress request': async (t, on) => {
    const stream = on.stream();
    stream.requestProgress();
    t.true((await stream.create(on.key('a'))).created);
    await put(on, 'a');
    t.is((await stream.next()).events.length, 1);
    stream.cancel(0n);
    t.true((await stream.next()).canceled);
    stream.requestProgress();
    t.true((await stream.create(on.key('a'))).created);
  },
  'each progress request gets one mark for all watches': async (t, on) => {
    const stream = on.stream();
    for (const name of ['a', 'b', 'c']) await stream.create(on.key(name));
    await put(on, 'x');
    for (let times = 0; times < 5; times++) stream.requestProgress();
    for (let times = 0; times < 5; times++) t.deepEqual(await next(on, stream), { at: 1, id: -1n });
    stream.cancel(2n);
    t.true((await stream.next()).canceled);
  },
  'a watch that starts in the future keeps the whole stream from being told its progress': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.key('a'));
    await stream.create(on.key('b'), { startRevision: on.at(3) });
    stream.requestProgress();
    await put(on, 'a', '1');
    t.deepEqual(await next(on, stream), { at: 1, id: 0n, events: ['put a=1 c1 m1 v1'] });
    stream.requestProgress();
    await put(on, 'a', '2');
    t.deepEqual(await next(on, stream), { at: 2, id: 0n, events: ['put a=2 c1 m2 v2'] });
    await put(on, 'b', '3');
    t.deepEqual(await next(on, stream), { at: 3, id: 1n, events: ['put b=3 c3 m3 v1'] });
    stream.requestProgress();
    t.deepEqual(await next(on, stream), { at: 3, id: -1n });
  },
  'a live answer tells the revision of its events, whatever is written beside them': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.key('a'));
    const writers = Array.from({ length: 8 }, async (_, worker) => {
      for (let round = 0; round < 10; round++) await put(on, worker === 0 ? 'a' : `b${worker}`, `${round}`);
    });
    for (let seen = 0; seen < 10;) {
      const { header, events } = await stream.next();
      seen += events.length;
      t.is(header.revision, events.at(-1)!.kv.modRevision);
    }
    await Promise.all(writers);
  },
  'a start at the revision of now gets that, one above it does not': async (t, on) => {
    await put(on, 'a', '1');
    const [at, above] = [on.stream(), on.stream()];
    await at.create(on.key('a'), { startRevision: on.at(1) });
    await above.create(on.key('a'), { startRevision: on.at(2) });
    t.deepEqual(on.watch(await at.next())['events'], ['put a=1 c1 m1 v1']);
    await put(on, 'a', '2');
    for (const stream of [at, above]) {
      t.deepEqual(on.watch(await stream.next())['events'], ['put a=2 c1 m2 v2']);
    }
  },
  'an empty key is the first key there is': wholeServer(async (t, on) => {
    const stream = on.stream();
    await stream.create('');
    await stream.create('', { rangeEnd: fromKey });
    await put(on, 'a');
    t.is((await stream.next()).watchId, 1n);
    await on.client.put('\0', 'first');
    const seen = [await stream.next(), await stream.next()];
    t.deepEqual(
      seen.map(({ events }) => events[0]!.kv.key.toString()),
      ['\0', '\0'],
    );
    await on.client.delete('\0');
  }),
  'filters that are given twice count once, those that nobody knows not at all': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.key('a'), { filters: ['nodelete', 'nodelete'] });
    const unknown = encode(on.key('a'), (writer, key) => {
      writer.message(1, key, (inner) => {
        inner.bytes(1, key);
        inner.bytes(5, Buffer.from([7]));
      });
    });
    stream.sendRaw(unknown);
    t.deepEqual(on.watch(await stream.next()), { id: 1n, created: true });
    await put(on, 'a', '1');
    await stream.next();
    await stream.next();
    await on.client.delete(on.key('a'));
    t.deepEqual(on.watch(await stream.next()), { id: 1n, events: ['delete a m2'] });
  },
  'answers are cut from two mebibytes on, the whole message counted': async (t, on) => {
    t.deepEqual(await answerSizes(on, [1_048_400, 1_048_400]), ['2']);
  },
  'two events that are too much together come one by one': async (t, on) => {
    t.deepEqual(await answerSizes(on, [1_048_600, 1_048_600]), ['1 and more', '1']);
  },
  'an answer is filled up before it is cut': async (t, on) => {
    const sizes = Array.from({ length: 12 }, () => 200_000);
    t.deepEqual(await answerSizes(on, sizes), ['10 and more', '2']);
  },
  'the pair before counts where an answer is cut': async (t, on) => {
    for (const name of ['k0', 'k1', 'k2']) await on.client.put(on.key(name), Buffer.alloc(700_000));
    on.base += 3n;
    const cut = await answerSizes(on, [600_000, 600_000, 600_000], { prevKv: true });
    t.deepEqual(cut, ['1 and more', '1 and more', '1']);
  },
  'marks of their own accord come for each watch that wants them and has begun, under its id': async (
    t,
    on,
  ) => {
    const stream = on.stream();
    await stream.create(on.key('a'), { progressNotify: true });
    await stream.create(on.key('b'));
    await stream.create(on.key('c'), { progressNotify: true });
    await stream.create(on.key('d'), { progressNotify: true, startRevision: on.at(2) });
    await put(on, 'x');
    const seen: Record<string, number> = {};
    // Three times, so that everybody who may speak has spoken.
    while ((seen['0'] ?? 0) < 3 || (seen['2'] ?? 0) < 3) {
      const { watchId, header, events } = await stream.next();
      t.deepEqual([on.since(header.revision) <= 1, events], [true, []]);
      seen[`${watchId}`] = (seen[`${watchId}`] ?? 0) + 1;
    }
    t.deepEqual(Object.keys(seen), ['0', '2']);
  },
};
