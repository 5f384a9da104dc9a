// Reads, offers and notifications in every order: the feed publishes each event once, in order, and never goes back.

import test from 'ava';
import type { EtcdError } from '../../../etcd/errors.ts';
import type { Event, Revision } from '../../../etcd/types.ts';
import { silentLogger } from '../../../lib/log.ts';
import {
  createChangeFeed,
  type ChangeFeedOptions,
  type FeedBatch,
  type FeedListener,
} from './change-feed.ts';
import { FakeClock, FakeLog, turn, until } from './watch-fakes.ts';

class Listener implements FeedListener {
  readonly batches: FeedBatch[] = [];
  readonly compactions: Revision[] = [];

  publish(batch: FeedBatch): void {
    this.batches.push(batch);
  }

  compacted(revision: Revision): void {
    this.compactions.push(revision);
  }

  get events(): Event[] {
    return this.batches.flatMap(({ events }) => events);
  }
}

function setUp({
  lift = async () => undefined,
  ...options
}: Partial<Pick<ChangeFeedOptions, 'lift'>> & {
  listen?: (onHint: () => void, signal: AbortSignal) => Promise<void>;
} = {}) {
  const log = new FakeLog();
  const clock = new FakeClock();
  const listener = new Listener();
  const feed = createChangeFeed({ reader: log, driver: options, clock, logger: silentLogger, lift });
  const start = (after = log.revision) => feed.start(after, listener);
  /** One commit as its committer offers it. */
  const commitAndOffer = (...keys: readonly string[]) => {
    const after = log.revision;
    const through = log.commit(...keys);
    feed.offer({ after, through, events: log.events.filter(({ kv }) => kv.modRevision > after) });
    return through;
  };
  return { log, clock, listener, feed, start, commitAndOffer };
}

/** Reads stop, before or after they have looked at the log, until `go` or `end`. */
function gateOf(log: FakeLog, where: 'gate' | 'delay' = 'gate') {
  let open = Promise.withResolvers<void>();
  let waiting = 0;
  log[where] = async () => {
    waiting++;
    await open.promise;
    waiting--;
  };
  return {
    get waiting() {
      return waiting;
    },
    go() {
      const before = open;
      open = Promise.withResolvers();
      before.resolve();
    },
    end() {
      log[where] = undefined;
      open.resolve();
    },
  };
}

test('reads on a hint and by poll, whole revisions, each event once', async (t) => {
  const { log, clock, listener, feed, start } = setUp();
  log.commit('before');
  start();
  await until(() => clock.sleeping === 1, 'the feed to rest');
  log.commit('a', 'b');
  feed.hint();
  await until(() => feed.applied === 3n);
  await until(() => clock.sleeping === 1);
  log.commit('c');
  await turn();
  t.is(feed.applied, 3n, 'it rests');
  clock.advance(50);
  await until(() => feed.applied === 4n);
  t.deepEqual(listener.events, log.events.slice(1));
  t.deepEqual(
    listener.batches.map(({ after, through }) => [after, through]),
    [
      [2n, 3n],
      [3n, 4n],
    ],
  );
  feed.stop();
  t.false(feed.running);
});

test('an offer that follows is published in the same turn, without a read', async (t) => {
  const { log, clock, listener, feed, start, commitAndOffer } = setUp();
  start();
  await until(() => clock.sleeping === 1);
  const reads = log.reads.length;
  commitAndOffer('a', 'b');
  t.is(feed.applied, 2n);
  commitAndOffer('c');
  t.deepEqual(listener.events, log.events);
  await turn();
  t.is(log.reads.length, reads);
  feed.stop();
  commitAndOffer('d');
  t.is(listener.events.length, 3, 'a stopped feed takes no offers');
});

test('offers behind gaps wait for the reads that close them', async (t) => {
  const { log, clock, listener, feed, start, commitAndOffer } = setUp();
  start();
  await until(() => clock.sleeping === 1);
  const gate = gateOf(log, 'delay');
  log.commit("another gateway's");
  feed.hint();
  // What is read now was looked up before the commits below.
  await until(() => gate.waiting === 1);
  commitAndOffer('own');
  commitAndOffer('own');
  log.commit("another gateway's");
  commitAndOffer('behind a second gap');
  t.is(feed.applied, 1n);
  gate.go();
  await until(() => feed.applied === 4n, 'both offers to follow the read');
  t.deepEqual(listener.events, log.events.slice(0, 3));
  gate.end();
  await until(() => feed.applied === 6n);
  t.deepEqual(listener.events, log.events);
  feed.stop();
});

test('a read in flight is cut to what offers have not published', async (t) => {
  const { log, clock, listener, feed, start, commitAndOffer } = setUp();
  start();
  await until(() => clock.sleeping === 1);
  const gate = gateOf(log);
  log.commit('a');
  feed.hint();
  await until(() => gate.waiting === 1);
  gate.go();
  await until(() => log.reads.length === 1 && gate.waiting === 1);
  feed.offer({ after: 1n, through: 2n, events: [...log.events] });
  commitAndOffer('b', 'c');
  log.commit("another gateway's");
  gate.end();
  await until(() => feed.applied === 4n);
  t.deepEqual(listener.events, log.events);
  feed.stop();
});

test('the log is read only when the counter says that there is something', async (t) => {
  const { log, clock, feed, start, commitAndOffer } = setUp();
  start();
  await until(() => clock.sleeping === 1);
  commitAndOffer('a');
  await feed.caughtUp();
  clock.advance(1000);
  await until(() => log.revisionReads === 3 && clock.sleeping === 1);
  t.is(log.reads.length, 0);
  log.commit("another gateway's");
  await feed.caughtUp();
  t.is(feed.applied, log.revision);
  t.is(log.reads.length, 1);
  feed.stop();
});

test('while others write the feed looks more often', async (t) => {
  const { log, clock, listener, feed, start } = setUp();
  start();
  const looksIn = async (ms: number) => {
    await until(() => clock.sleeping === 1);
    const before = log.revisionReads;
    clock.advance(ms);
    await turn();
    await until(() => clock.sleeping === 1);
    return log.revisionReads - before;
  };
  t.is(await looksIn(5), 0);
  t.is(await looksIn(10), 1);
  log.commit("another gateway's");
  t.is(await looksIn(15), 1);
  t.is(listener.events.length, 1);
  t.is(await looksIn(5), 1);
  await looksIn(31_000);
  t.is(await looksIn(5), 0);
  feed.stop();
});

test('an offer that the feed has read already is dropped', async (t) => {
  const { log, listener, feed, start } = setUp();
  start();
  log.commit('a');
  feed.hint();
  await until(() => feed.applied === 2n);
  feed.offer({ after: 1n, through: 2n, events: log.events });
  t.is(listener.events.length, 1);
  log.commit('b');
  // Overlapping: only the new part counts.
  feed.offer({ after: 1n, through: 3n, events: log.events });
  t.deepEqual(listener.events, log.events);
  feed.stop();
});

test('a log that went back ends every watch above what was seen, whatever is offered meanwhile', async (t) => {
  const lifting = Promise.withResolvers<Revision | undefined>();
  const asked: Revision[] = [];
  const lift = (seen: Revision) => {
    asked.push(seen);
    return lifting.promise;
  };
  const { log, listener, feed, start, commitAndOffer } = setUp({ lift });
  start();
  for (let n = 0; n < 5; n++) commitAndOffer('a');
  await until(() => feed.applied === 6n);
  log.revision = 3n;
  feed.hint();
  await until(() => asked.length === 1);
  t.deepEqual(asked, [6n]);
  feed.offer({ after: 3n, through: 100n, events: [] });
  t.is(feed.applied, 6n);
  log.revision = 100n;
  log.compactRevision = 100n;
  lifting.resolve(100n);
  await until(() => feed.applied === 100n);
  t.deepEqual(listener.compactions, [100n]);
  t.is(listener.events.length, 5);
  commitAndOffer('b');
  t.is(listener.events.at(-1)?.kv.modRevision, 101n);
  feed.stop();
});

test('an outage delays and loses nothing', async (t) => {
  const { log, clock, listener, feed, start } = setUp();
  start();
  await until(() => clock.sleeping === 1);
  log.fault = new Error('connection refused');
  log.commit('a');
  feed.hint();
  for (let attempt = 0; attempt < 5; attempt++) {
    await until(() => clock.sleeping === 1);
    clock.advance(2000);
    await turn();
  }
  t.is(feed.applied, 1n);
  const caughtUp = feed.caughtUp();
  log.fault = undefined;
  await until(() => {
    clock.advance(2000);
    return feed.applied === 2n;
  });
  await caughtUp;
  t.deepEqual(listener.events, log.events);
  feed.stop();
});

test('falling behind a compaction is told, and the feed goes on above it', async (t) => {
  const { log, clock, listener, feed, start } = setUp();
  start();
  await until(() => clock.sleeping === 1);
  for (let revision = 2; revision <= 10; revision++) log.commit(`k${revision}`);
  log.compactRevision = 8n;
  feed.hint();
  await until(() => feed.applied === 10n);
  t.deepEqual(listener.compactions, [8n]);
  t.deepEqual(
    listener.events.map(({ kv }) => kv.modRevision),
    [8n, 9n, 10n],
  );
  feed.stop();
});

test('a compaction error of a read that offers have overtaken means nothing', async (t) => {
  const { log, clock, listener, feed, start, commitAndOffer } = setUp();
  start();
  await until(() => clock.sleeping === 1);
  const gate = gateOf(log);
  feed.hint();
  await until(() => gate.waiting === 1);
  for (let revision = 2; revision <= 6; revision++) commitAndOffer(`k${revision}`);
  log.compactRevision = 5n;
  gate.end();
  await until(() => clock.sleeping === 1);
  t.is(feed.applied, 6n);
  t.deepEqual(listener.compactions, []);
  t.deepEqual(listener.events, log.events);
  feed.stop();
});

test('caughtUp waits for a read that began after it', async (t) => {
  const { log, clock, feed, start } = setUp();
  start();
  await until(() => clock.sleeping === 1);
  const gate = gateOf(log);
  feed.hint();
  await until(() => gate.waiting === 1);
  let done = false;
  const caughtUp = feed.caughtUp().then(() => {
    done = true;
  });
  log.commit('a');
  gate.go();
  await until(() => gate.waiting === 1, 'a second read');
  await turn();
  t.false(done);
  gate.end();
  await caughtUp;
  t.is(feed.applied, 2n);
  const rejected = feed.caughtUp();
  feed.stop();
  t.is((await t.throwsAsync<EtcdError>(rejected)).reason, 'stopped');
  await t.throwsAsync(feed.caughtUp());
});

test('notifications are hints, and a listener that fails is started again', async (t) => {
  const calls: (() => void)[] = [];
  let failure: Error | undefined = new Error('no LISTEN today');
  const { log, clock, feed, start } = setUp({
    listen: (onHint, signal) => {
      calls.push(onHint);
      if (failure !== undefined) return Promise.reject(failure);
      return new Promise((resolve) => {
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    },
  });
  start();
  await until(() => clock.sleeping === 2, 'the feed and the listener to rest');
  failure = undefined;
  clock.advance(50);
  await until(() => calls.length === 2);
  await until(() => clock.sleeping === 1);
  log.commit('a');
  calls[1]!();
  await until(() => feed.applied === 2n);
  t.is(calls.length, 2);
  feed.stop();
});
