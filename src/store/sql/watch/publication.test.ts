// Watchers that want the same get the same objects.

import test from 'ava';
import { batchOf, joined, Publication } from './publication.ts';
import { FakeLog } from './watch-fakes.ts';

function publicationOf(log: FakeLog, ...keys: readonly string[]) {
  const after = log.revision;
  const through = log.commit(...keys);
  const events = log.events.filter(({ kv }) => kv.modRevision > after);
  return new Publication(events, { after, through, knownAt: 0 });
}

test('a publication is one batch with previous values and one without, each made once', (t) => {
  const log = new FakeLog();
  publicationOf(log, 'a');
  const publication = publicationOf(log, 'a', 'b');
  t.is(publication.plain, publication.plain);
  t.deepEqual(
    publication.whole.events.map(({ prevKv }) => prevKv?.modRevision),
    [2n, undefined],
  );
  t.true(publication.plain.events.every((event) => !('prevKv' in event)));
  t.is(publication.plain.revision, 3n);
});

test('the same batches are joined once, others anew', (t) => {
  const log = new FakeLog();
  const batches = ['a', 'b', 'c'].map((key) => publicationOf(log, key).whole);
  const [first, second, third] = batches;
  t.is(joined([first!]), first!);
  const all = joined(batches);
  t.is(joined([...batches]), all);
  t.deepEqual(all.events, log.events);
  t.is(all.revision, 4n);
  t.deepEqual(joined([first!, second!]).events, log.events.slice(0, 2));
  t.deepEqual(joined([second!, third!]).events, log.events.slice(1));
  // A watch with a filter has a batch of its own in front.
  t.deepEqual(joined([batchOf(second!.events), third!]).events, log.events.slice(1));
});
