// The hub over a feed that the test drives: who gets what, when, and when not.

import test, { type ExecutionContext } from 'ava';
import type { EtcdError } from '../../../etcd/errors.ts';
import type { WatchCreateRequest } from '../../../etcd/types.ts';
import { silentLogger } from '../../../lib/log.ts';
import type { WatchPace } from '../../store.ts';
import {
  brokenGuarantees,
  FakeClock,
  FakeFeed,
  FakeLog,
  Recorder,
  turn,
  until,
  watchRequest,
} from './watch-fakes.ts';
import { createWatchHub } from './watch-hub.ts';

function setUp(t: ExecutionContext, ring = { eventsMax: 1000, bytesMax: 1024 * 1024 }) {
  const log = new FakeLog();
  const feed = new FakeFeed(log);
  const clock = new FakeClock();
  const hub = createWatchHub({ reader: log, feed, clock, logger: silentLogger, ring });
  t.teardown(() => hub.close());
  const watch = async (pattern: string, options: Partial<WatchCreateRequest> = {}, pace?: WatchPace) => {
    const request = watchRequest(pattern, options);
    const abort = new AbortController();
    const recorder = new Recorder(await hub.watch(request, abort.signal, pace), request);
    return { recorder, abort };
  };
  return { log, feed, clock, hub, watch };
}

/** Pulls until nothing more comes. */
async function drain(recorder: Recorder): Promise<void> {
  let quiet = 0;
  let count = recorder.batches.length;
  while (quiet < 5 && !recorder.ended) {
    recorder.pull();
    await turn();
    quiet = recorder.batches.length === count ? quiet + 1 : 0;
    count = recorder.batches.length;
  }
}

test('a watch from now gets what comes after it, in its range only', async (t) => {
  const { log, feed, hub, watch } = setUp(t);
  log.commit('/a/1');
  const { recorder } = await watch('/a/*');
  const point = await watch('/a/2');
  t.is(recorder.watch.createdRevision, 2n);
  log.commit('/a/2', '/b/1', '/a/3');
  log.commit('/b/2');
  log.commit({ key: '/a/2', isDelete: true });
  feed.publish();
  await drain(recorder);
  await drain(point.recorder);
  t.deepEqual(recorder.keys, ['/a/2@3', '/a/3@3', '-/a/2@5']);
  t.deepEqual(point.recorder.keys, ['/a/2@3', '-/a/2@5']);
  t.deepEqual(brokenGuarantees(recorder, log.events), []);
  t.is(recorder.events[2]!.prevKv?.modRevision, 3n);
  t.deepEqual(hub.counts(), { synced: 2, behind: 0 });
});

test('a watch from the past reads the log, then the ring, then follows', async (t) => {
  const { log, feed, watch } = setUp(t);
  for (let n = 2; n <= 5; n++) log.commit(`/a/${n}`);
  const { recorder } = await watch('/a/*', { startRevision: 3n });
  log.commit('/a/6');
  feed.publish();
  await drain(recorder);
  log.commit('/a/7');
  feed.publish();
  await drain(recorder);
  t.deepEqual(recorder.keys, ['/a/3@3', '/a/4@4', '/a/5@5', '/a/6@6', '/a/7@7']);
  t.deepEqual(brokenGuarantees(recorder, log.events), []);
  const reads = log.reads.length;
  const late = await watch('/a/*', { startRevision: 6n });
  await drain(late.recorder);
  t.deepEqual(late.recorder.keys, ['/a/6@6', '/a/7@7']);
  t.is(log.reads.length, reads, 'from the ring alone');
});

test('a watch from the future gets nothing earlier, and marks that tell where the store is', async (t) => {
  const { log, feed, watch } = setUp(t);
  const { recorder } = await watch('/a/*', { startRevision: 4n });
  recorder.watch.requestProgress();
  log.commit('/a/2');
  feed.publish();
  await until(() => feed.asked === 1);
  feed.answer();
  await turn();
  await drain(recorder);
  t.deepEqual(recorder.marks, [2n]);
  log.commit('/a/3');
  log.commit('/a/4');
  feed.publish();
  await drain(recorder);
  t.deepEqual(recorder.keys, ['/a/4@4']);
  t.deepEqual(recorder.marks, [2n]);
});

test("filters and prevKv are the watcher's own", async (t) => {
  const { log, feed, watch } = setUp(t);
  const puts = await watch('/a/*', { filters: ['nodelete'] });
  const deletes = await watch('/a/*', { filters: ['noput'], prevKv: false });
  log.commit('/a/1');
  log.commit({ key: '/a/1', isDelete: true });
  feed.publish();
  await drain(puts.recorder);
  await drain(deletes.recorder);
  t.deepEqual(puts.recorder.keys, ['/a/1@2']);
  t.deepEqual(deletes.recorder.keys, ['-/a/1@3']);
  t.is(deletes.recorder.events[0]!.prevKv, undefined);
});

test('a slow watcher falls behind, is bounded, catches up and loses nothing', async (t) => {
  const { log, feed, hub, watch } = setUp(t, { eventsMax: 100, bytesMax: 1024 * 1024 });
  const slow = await watch('/a/*');
  const fast = await watch('/a/*');
  for (let round = 0; round < 30; round++) {
    for (let n = 0; n < 100; n++) log.commit(`/a/${n}`);
    feed.publish();
    await drain(fast.recorder);
  }
  t.deepEqual(hub.counts(), { synced: 1, behind: 1 });
  await drain(slow.recorder);
  t.deepEqual(hub.counts(), { synced: 2, behind: 0 });
  for (const { recorder } of [slow, fast]) {
    t.is(recorder.events.length, 3000);
    t.deepEqual(brokenGuarantees(recorder, log.events), []);
  }
});

test('a start below the compact revision, and a lagging watcher, end with compacted', async (t) => {
  const { log, feed, hub, watch } = setUp(t, { eventsMax: 10, bytesMax: 1024 * 1024 });
  const behind = await watch('/a/*');
  for (let n = 0; n < 3000; n++) log.commit(`/a/${n}`);
  feed.publish(2000n);
  feed.publish(2500n);
  feed.publish();
  t.is(hub.counts().behind, 1);
  log.compactRevision = 2900n;
  const early = await watch('/a/*', { startRevision: 2899n });
  await drain(early.recorder);
  t.like(early.recorder.error, { reason: 'compacted', compactRevision: 2900n });
  t.deepEqual(early.recorder.batches, []);
  await drain(behind.recorder);
  t.like(behind.recorder.error, { reason: 'compacted', compactRevision: 2900n });
  t.deepEqual(brokenGuarantees(behind.recorder, log.events), [], 'what it got before was right');
  const atIt = await watch('/a/*', { startRevision: 2900n });
  await drain(atIt.recorder);
  t.is(atIt.recorder.error, undefined);
  t.is(atIt.recorder.events[0]!.kv.modRevision, 2900n);
  t.deepEqual(brokenGuarantees(atIt.recorder, log.events), []);
});

test('a feed that lost history ends those who need it, and only them', async (t) => {
  const { log, feed, watch } = setUp(t);
  const lagging = await watch('/a/*');
  const ahead = await watch('/a/*', { startRevision: 30n });
  for (let n = 0; n < 20; n++) log.commit(`/a/${n}`);
  feed.compacted(10n);
  await drain(lagging.recorder);
  t.like(lagging.recorder.error, { reason: 'compacted', compactRevision: 10n });
  feed.publish();
  for (let n = 0; n < 20; n++) log.commit(`/a/${n}`);
  feed.publish();
  await drain(ahead.recorder);
  t.is(ahead.recorder.error, undefined);
  t.deepEqual(brokenGuarantees(ahead.recorder, log.events), []);
});

test('a mark comes after what is queued, and once for several requests', async (t) => {
  const { log, feed, watch } = setUp(t);
  const { recorder } = await watch('/a/*');
  log.commit('/a/1');
  feed.publish();
  recorder.watch.requestProgress();
  recorder.watch.requestProgress();
  log.commit('/b/1');
  feed.publish();
  await until(() => feed.asked === 1);
  feed.answer();
  await drain(recorder);
  t.deepEqual(recorder.keys, ['/a/1@2']);
  t.deepEqual(recorder.marks, [3n]);
  t.deepEqual(brokenGuarantees(recorder, log.events), []);
});

test('watches that ask in one turn share one question, so what comes behind it parts them not', async (t) => {
  const { log, feed, watch } = setUp(t);
  const [a, b] = [await watch('/a/*'), await watch('/b/*')];
  log.commit('/a/1');
  feed.publish();
  for (const { recorder } of [a, b]) recorder.watch.requestProgress();
  await until(() => feed.asked === 1);
  feed.answer();
  for (const { recorder } of [a, b]) await drain(recorder);
  t.deepEqual([a.recorder.marks, b.recorder.marks], [[2n], [2n]]);
  t.is(feed.asked, 0);
});

test('the feed runs for watchers only, and a while longer', async (t) => {
  const { log, feed, clock, hub, watch } = setUp(t);
  t.false(feed.running);
  const first = await watch('/a/*');
  t.true(feed.running);
  first.abort.abort();
  await drain(first.recorder);
  t.true(first.recorder.ended);
  t.is(first.recorder.error, undefined);
  clock.advance(29_000);
  await turn();
  t.true(feed.running);
  const second = await watch('/a/*');
  clock.advance(60_000);
  await turn();
  t.true(feed.running);
  await second.recorder.stop();
  t.deepEqual(hub.counts(), { synced: 0, behind: 0 });
  clock.advance(31_000);
  await until(() => !feed.running);
  log.commit('/a/unseen');
  const third = await watch('/a/*');
  log.commit('/a/seen');
  feed.publish();
  await drain(third.recorder);
  t.deepEqual(third.recorder.keys, ['/a/seen@3']);
});

test('closing ends every watch with stopped', async (t) => {
  const { hub, watch } = setUp(t);
  const { recorder } = await watch('/a/*');
  recorder.pull();
  hub.close();
  await drain(recorder);
  t.like(recorder.error, { reason: 'stopped' });
  const refused = await t.throwsAsync<EtcdError>(watch('/a/*'));
  t.is(refused.reason, 'stopped');
});

test('an outage of the log makes a watcher wait, not end', async (t) => {
  const { log, feed, clock, watch } = setUp(t);
  for (let n = 2; n <= 5; n++) log.commit(`/a/${n}`);
  const { recorder } = await watch('/a/*', { startRevision: 2n });
  feed.publish();
  log.fault = new Error('connection refused');
  await drain(recorder);
  t.false(recorder.ended);
  log.fault = undefined;
  clock.advance(5000);
  await drain(recorder);
  t.deepEqual(brokenGuarantees(recorder, log.events), []);
  t.is(recorder.events.length, 4);
});

test('what has left the ring is not kept for a watcher that does not take it', async (t) => {
  const { log, feed, hub, watch } = setUp(t, { eventsMax: 10, bytesMax: 1024 * 1024 });
  const [still, other] = [await watch('/a/*'), await watch('/a/*')];
  for (let n = 0; n < 30; n++) {
    log.commit(`/a/${n}`);
    feed.publish();
    await drain(other.recorder);
  }
  t.deepEqual(hub.counts(), { synced: 1, behind: 1 });
  await drain(still.recorder);
  for (const { recorder } of [still, other]) t.is(recorder.events.length, 30);
  t.deepEqual(brokenGuarantees(still.recorder, log.events), []);
  t.deepEqual(hub.counts(), { synced: 2, behind: 0 });
});

test('history from the ring comes in pieces of bounded size', async (t) => {
  const { log, feed, watch } = setUp(t, { eventsMax: 1000, bytesMax: 64 * 1024 * 1024 });
  await watch('/b/*');
  for (let n = 0; n < 10; n++) log.commit({ key: `/a/${n}`, value: 'x'.repeat(1024 * 1024) });
  feed.publish();
  const { recorder } = await watch('/a/*', { startRevision: 2n });
  await drain(recorder);
  t.deepEqual(
    recorder.batches.map(({ events }) => events.length),
    [4, 4, 2],
  );
  t.deepEqual(log.reads, []);
});

test('a watcher takes nothing before its turn, and gives the turn back when it asks for more', async (t) => {
  const { log, feed, watch } = setUp(t);
  const turns: (() => void)[] = [];
  const given: string[] = [];
  const pace: WatchPace = {
    turn: (from) =>
      new Promise((resolve) => {
        turns.push(() => resolve(() => void given.push(from)));
      }),
  };
  const { recorder } = await watch('/a/*', {}, pace);
  log.commit('/a/1');
  feed.publish();
  await drain(recorder);
  log.commit('/a/2');
  feed.publish();
  t.deepEqual(recorder.batches, []);
  turns.shift()!();
  await until(() => recorder.batches.length === 1);
  t.deepEqual(recorder.keys, ['/a/1@2', '/a/2@3'], 'all that came meanwhile');
  t.deepEqual(given, []);
  recorder.pull();
  t.deepEqual(given, ['memory']);
});

test('how late events are taken is counted for watches that are synced, and how far others are behind', async (t) => {
  const { log, feed, clock, hub, watch } = setUp(t);
  const { recorder } = await watch('/a/*');
  const late = await watch('/a/*', { startRevision: 2n });
  log.commit('/a/1', '/a/2');
  feed.publish();
  clock.advance(30);
  await drain(recorder);
  const { lagSeconds, delivered } = hub.stats();
  t.deepEqual([lagSeconds.count, delivered], [1, 2]);
  t.true(Math.abs(lagSeconds.sum - 0.03) < 1e-9, `${lagSeconds.sum}`);
  for (let n = 0; n < 1_100; n++) log.commit('/a/1');
  feed.publish();
  log.commit('/a/1');
  feed.publish();
  const stats = hub.stats();
  t.is(stats.watchers.behind, 2);
  t.true(stats.behindRevisions >= 1, `${stats.behindRevisions}`);
  await drain(recorder);
  await drain(late.recorder);
  const after = hub.stats();
  t.like(after, { behindRevisions: 0, watchers: { synced: 2, behind: 0 } });
  t.is(after.delivered, recorder.events.length + late.recorder.events.length);
});
