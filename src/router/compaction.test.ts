// Compaction over several stores: the point in time that is noted, and the stores and notes that are missing.

import test from 'ava';
import { systemClock, type Clock } from '../lib/clock.ts';
import { silentLogger } from '../lib/log.ts';
import { Compaction } from './compaction.ts';
import { FakeStore } from './router-fakes.ts';

const signal = () => AbortSignal.timeout(10_000);

/** `clock`: the real one unless given. */
function scene(clock: Clock = systemClock) {
  const [first, one, two] = [
    new FakeStore('default', 100n),
    new FakeStore('one', 10n),
    new FakeStore('two', 20n),
  ];
  const options = { defaultStore: first, others: [one, two], clock, logger: silentLogger };
  return { first, one, two, compaction: new Compaction(options) };
}

function compact(compaction: Compaction, revision: bigint) {
  return compaction.compact({ revision, physical: false }, signal());
}

test('each store is compacted where it was when the revision was noted', async (t) => {
  const { first, one, two, compaction } = scene();
  await compaction.note(100n, signal());
  one.revision = 15n;
  two.revision = 25n;
  first.revision = 200n;
  await compaction.note(200n, signal());
  one.revision = 99n;
  await compact(compaction, 150n);
  t.deepEqual([first.compacted, one.compacted, two.compacted], [150n, 10n, 20n]);
  await compact(compaction, 200n);
  t.deepEqual([first.compacted, one.compacted, two.compacted], [200n, 15n, 25n]);
});

test('without a note the other stores keep their history', async (t) => {
  const { one, compaction } = scene();
  await compact(compaction, 50n);
  t.is(one.compacted, 0n);
});

test('a store that is down is skipped, and caught up at the next time', async (t) => {
  const { first, one, two, compaction } = scene();
  await compaction.note(100n, signal());
  one.down = true;
  first.revision = 200n;
  two.revision = 30n;
  await compaction.note(200n, signal());
  await compact(compaction, 100n);
  t.deepEqual([one.compacted, two.compacted], [0n, 20n]);
  one.down = false;
  // The note of 200 has nothing about it, the one before does.
  await compact(compaction, 200n);
  t.deepEqual([one.compacted, two.compacted], [10n, 30n]);
});

test('what the default store refuses is refused, and what others missed is made up for', async (t) => {
  const { first, one, compaction } = scene();
  await compaction.note(100n, signal());
  first.compacted = 100n;
  t.like(await t.throwsAsync(compact(compaction, 100n)), { reason: 'compacted' });
  t.is(one.compacted, 10n);
  t.like(await t.throwsAsync(compact(compaction, 1000n)), { reason: 'futureRevision' });
});

test('gateways that note at once lose nothing, and the notes are bounded', async (t) => {
  const { first, compaction } = scene();
  for (let at = 101n; at < 200n; at += 3n) {
    first.revision = at + 300n;
    await Promise.all([at, at + 1n, at + 2n].map((revision) => compaction.note(revision, signal())));
  }
  const notes = JSON.parse(first.value('/switchyard/compaction-notes') ?? '[]') as { revision: string }[];
  t.is(notes.length, 64);
  t.is(notes.at(-1)?.revision, '199');
  t.deepEqual(
    notes.map(({ revision }) => revision),
    notes.map((_, index) => String(136 + index)),
  );
});

test('notes that cannot be read are begun anew', async (t) => {
  const { first, compaction } = scene();
  first.put('/switchyard/compaction-notes', '{"broken');
  await compaction.note(101n, signal());
  t.regex(first.value('/switchyard/compaction-notes') ?? '', /"revision":"101"/u);
});

test('notes are written behind the txns, the latest of a crowd always', async (t) => {
  const { first, one, compaction } = scene();
  first.revision = 103n;
  await Promise.all([101n, 102n, 103n].map((revision) => compaction.noteSoon(revision, systemClock.now())));
  one.revision = 50n;
  await compact(compaction, 103n);
  t.is(one.compacted, 10n);
});

test('a compaction waits for the note under way', async (t) => {
  const { one, compaction } = scene();
  const noted = compaction.noteSoon(100n, systemClock.now());
  await compact(compaction, 100n);
  t.is(one.compacted, 10n);
  await noted;
});

test('a note that cannot be written fails nobody and is given up at the end', async (t) => {
  const { first, one, compaction } = scene();
  first.down = true;
  await compaction.noteSoon(100n, systemClock.now());
  first.down = false;
  const hanging = Promise.withResolvers<never>();
  one.status = () => hanging.promise;
  void compaction.noteSoon(101n, systemClock.now());
  await compaction.close();
  t.pass();
});

test('a gateway that was paused notes nothing of what was long ago', async (t) => {
  let now = 0;
  const { first, one, compaction } = scene({ ...systemClock, now: () => now });
  await compaction.noteSoon(100n, now);
  // The txn, or the other store's answer about its revision, waits for a process that does not run.
  one.status = () => {
    now += 60_000;
    one.revision = 99n;
    return FakeStore.prototype.status.call(one);
  };
  first.revision = 200n;
  await compaction.noteSoon(200n, now);
  await compact(compaction, 200n);
  t.deepEqual([first.compacted, one.compacted], [200n, 10n]);
});
