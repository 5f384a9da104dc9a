// Random histories against the hub with the real feed and a log in memory: whatever commits, offers, compactions, outages and
// slow consumers do, every watcher gets exactly the events of its range, in order, whole revisions, and no mark ahead of it.

import test from 'ava';
import fc from 'fast-check';
import type { EtcdError } from '../../../etcd/errors.ts';
import type { WatchCreateRequest } from '../../../etcd/types.ts';
import { silentLogger } from '../../../lib/log.ts';
import { createChangeFeed } from './change-feed.ts';
import { brokenGuarantees, FakeClock, FakeLog, Recorder, turn, watchRequest } from './watch-fakes.ts';
import { createWatchHub } from './watch-hub.ts';

type Step =
  | {
      readonly kind: 'commit';
      readonly keys: readonly string[];
      readonly by: 'own' | 'other';
      readonly isDelete: boolean;
    }
  | { readonly kind: 'watch'; readonly pattern: string; readonly back: number }
  | { readonly kind: 'pull' | 'stop' | 'progress'; readonly which: number }
  | { readonly kind: 'compact'; readonly back: number }
  | { readonly kind: 'outage' | 'hint' | 'advance' | 'turn' };

const key = fc.constantFrom('/a/1', '/a/2', '/a/10', '/b/1', '/b', '/a');
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('commit' as const),
      keys: fc.uniqueArray(key, { minLength: 1, maxLength: 4 }),
      by: fc.constantFrom('own' as const, 'own' as const, 'other' as const),
      isDelete: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('watch' as const),
      pattern: fc.constantFrom('/a/*', '/a/1', '/*', '/b*', '/a/1*'),
      back: fc.integer({ min: -3, max: 12 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'pull' as const,
        'pull' as const,
        'pull' as const,
        'progress' as const,
        'stop' as const,
      ),
      which: fc.nat(20),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('compact' as const), back: fc.nat(15) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'hint' as const,
        'advance' as const,
        'turn' as const,
        'turn' as const,
        'outage' as const,
      ),
    }),
  },
);

/** Plays a history against a hub with the real feed; gives what was broken. */
async function play(steps: readonly Step[]): Promise<string[]> {
  const log = new FakeLog();
  const clock = new FakeClock();
  const feed = createChangeFeed({
    reader: log,
    driver: {},
    clock,
    logger: silentLogger,
    lift: async () => undefined,
  });
  const hub = createWatchHub({
    reader: log,
    feed,
    clock,
    logger: silentLogger,
    ring: { eventsMax: 8, bytesMax: 1024 * 1024 },
  });
  const recorders: Recorder[] = [];
  const opening: Promise<void>[] = [];
  const open = async (request: WatchCreateRequest) => {
    try {
      recorders.push(new Recorder(await hub.watch(request, new AbortController().signal), request));
    } catch (error) {
      // An outage at the moment of the call is the caller's to hear of.
      if (error !== outage) throw error;
    }
  };
  const outage = new Error('outage');
  // Every read takes a turn before and after it looks, so that commits and offers overtake it.
  log.gate = turn;
  log.delay = turn;
  for (const next of steps) {
    const recorder =
      'which' in next && recorders.length > 0 ? recorders[next.which % recorders.length] : undefined;
    switch (next.kind) {
      case 'commit': {
        const after = log.revision;
        const through = log.commit(...next.keys.map((name) => ({ key: name, isDelete: next.isDelete })));
        const events = log.events.filter(({ kv }) => kv.modRevision > after);
        if (next.by === 'own') feed.offer({ after, through, events });
        break;
      }
      case 'watch': {
        const start = log.revision + 1n - BigInt(next.back);
        opening.push(
          open(watchRequest(next.pattern, { startRevision: next.back === 0 || start < 1n ? 0n : start })),
        );
        break;
      }
      case 'pull':
        recorder?.pull();
        break;
      case 'progress':
        recorder?.watch.requestProgress();
        break;
      case 'stop':
        await recorder?.stop();
        break;
      case 'compact': {
        const revision = log.revision - BigInt(next.back);
        if (revision > log.compactRevision) log.compactRevision = revision;
        break;
      }
      case 'outage':
        log.fault = log.fault === undefined ? outage : undefined;
        break;
      case 'hint':
        feed.hint();
        break;
      case 'advance':
        clock.advance(100);
        break;
      case 'turn':
        await turn();
        break;
    }
  }
  log.fault = undefined;
  await Promise.all(opening);
  for (const recorder of recorders) recorder.watch.requestProgress();
  const isDone = (recorder: Recorder) =>
    recorder.ended ||
    (recorder.batches.at(-1)?.revision ?? 0n) >= log.revision ||
    recorder.start > log.revision;
  // Everybody gets everything in the end.
  for (let round = 0; round < 300 && !recorders.every(isDone); round++) {
    clock.advance(3000);
    for (const recorder of recorders) recorder.pull();
    await turn();
  }
  const broken = recorders.flatMap((recorder) => {
    const { error } = recorder;
    const found = brokenGuarantees(recorder, log.events);
    if (error !== undefined && (error as EtcdError).reason !== 'compacted')
      found.push(`ended by ${(error as Error).message}`);
    if (!isDone(recorder)) found.push(`stuck at ${recorder.batches.at(-1)?.revision} of ${log.revision}`);
    return found;
  });
  hub.close();
  return broken;
}

for (const seed of [1, 20_260_101, 777_777_777]) {
  test(`every watcher gets its events in any history (seed ${seed})`, async (t) => {
    t.timeout(60_000);
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 80 }), async (steps) => {
        const broken = await play(steps);
        if (broken.length > 0) throw new Error(broken.join('\n'));
      }),
      { seed, numRuns: 300 },
    );
    t.pass();
  });
}
