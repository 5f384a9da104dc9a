// One stream's SQL watches while its client is slow: what is written is held, and the order in which it was given counts.

import test from 'ava';
import { decodeWatchResponse } from '../etcd/codec/watch.ts';
import { watchRequest } from '../etcd/requests.ts';
import type { Event, WatchCreateRequest } from '../etcd/types.ts';
import type { Store, Watch, WatchBatch } from '../store/store.ts';
import { requestBytesMax } from './validate.ts';
import { ProgressRound } from './watch-progress.ts';
import { SqlWatch } from './watch-sql.ts';

const event = (revision: bigint, bytes = 1): Event => ({
  type: 'put',
  kv: {
    key: Buffer.from('a'),
    createRevision: revision,
    modRevision: revision,
    version: 1n,
    value: Buffer.alloc(bytes),
    lease: 0n,
  },
});

/** Everything that is ready runs first. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A watch whose batches the test gives. */
function drivenWatch() {
  const batches: WatchBatch[] = [];
  let wake = Promise.withResolvers<void>();
  const watch: Watch = {
    createdRevision: 1n,
    revision: 1n,
    requestProgress: () => undefined,
    async *[Symbol.asyncIterator]() {
      for (;;) {
        const batch = batches.shift();
        if (batch !== undefined) yield batch;
        else {
          await wake.promise;
          wake = Promise.withResolvers();
        }
      }
    },
  };
  const give = async (revision: bigint, ...events: readonly Event[]) => {
    batches.push({ events, revision });
    wake.resolve();
    await turn();
  };
  return { watch, give };
}

/** A stream that takes everything down and confirms nothing. */
function slowStream() {
  const messages: Buffer[] = [];
  const outlet = {
    signal: new AbortController().signal,
    write: (message: Buffer) => {
      messages.push(message);
      return new Promise<void>(() => undefined);
    },
    fail: (error: unknown) => {
      throw error;
    },
  };
  const start = (id: bigint, watch: Watch, fragment: boolean, more: Partial<WatchCreateRequest> = {}) => {
    const sql = new SqlWatch({
      id,
      store: {} as Store,
      watch,
      request: watchRequest(Buffer.from('a'), { fragment, ...more }),
      header: { clusterId: 1n, memberId: 2n, revision: 0n, raftTerm: 1n },
      abort: new AbortController(),
      outlet,
    });
    sql.start(() => undefined);
    return sql;
  };
  return { outlet, start, answers: () => messages.map((message) => decodeWatchResponse(message)) };
}

test('the fragments of an answer stand together, whatever other watches have to say', async (t) => {
  const { start, answers } = slowStream();
  const [large, small] = [drivenWatch(), drivenWatch()];
  start(1n, large.watch, true);
  start(2n, small.watch, false);
  await large.give(2n, event(2n, requestBytesMax), event(2n, requestBytesMax));
  await small.give(2n, event(2n));
  t.deepEqual(
    answers().map(({ watchId, fragment }) => [watchId, fragment]),
    [
      [1n, true],
      [1n, false],
      [2n, false],
    ],
  );
});

test('a mark is not below the events of its watch that are on their way', async (t) => {
  const { outlet, start, answers } = slowStream();
  const [ahead, behind] = [drivenWatch(), drivenWatch()];
  const watches = [start(1n, ahead.watch, false), start(2n, behind.watch, false)];
  const round = new ProgressRound(watches, {
    outlet,
    times: 1,
    areAll: () => true,
    answered: () => undefined,
  });
  t.true(round.isOpen);
  await ahead.give(5n);
  await ahead.give(6n, event(6n));
  await behind.give(5n);
  t.deepEqual(
    answers().map(({ watchId, events, header }) => [watchId, events.length, header.revision]),
    [
      [1n, 1, 6n],
      [1n, 0, 6n],
      [2n, 0, 5n],
    ],
  );
});

test('a tick asks for a mark where none of the events went out since the one before', async (t) => {
  const { start } = slowStream();
  const { watch, give } = drivenWatch();
  let asked = 0;
  const counting: Watch = { ...watch, requestProgress: () => void asked++ };
  const silent = start(1n, counting, false, { progressNotify: true });
  const unasked = start(2n, counting, false);
  const ticks = (count: number) => {
    for (let times = 0; times < count; times++) for (const one of [silent, unasked]) one.tick();
    return asked;
  };
  t.is(ticks(1), 1, 'from the first tick on');
  t.is(ticks(1), 2, 'at every tick');
  await give(2n, event(2n));
  t.is(ticks(1), 2);
  t.is(ticks(1), 3);
});
