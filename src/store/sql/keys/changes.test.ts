// Changes of the past against a plain list of them.

import test from 'ava';
import fc from 'fast-check';
import { contains, type KeyRange } from '../../../etcd/range.ts';
import { PastChanges } from './changes.ts';

interface Change {
  readonly revision: number;
  readonly key: Buffer;
  readonly by: 1 | -1;
}

const key = fc
  .array(fc.constantFrom('a', 'b', '/', '\u00ff'), { maxLength: 3 })
  .map((parts) => Buffer.from(parts.join(''), 'latin1'));
const range: fc.Arbitrary<KeyRange> = fc
  .tuple(key, fc.option(key, { nil: undefined }))
  .map(([start, end]) => ({ start, end }));

/** Several changes have the same revision, and portions are passed many times over. */
const history = fc
  .array(fc.record({ step: fc.nat(2), key, by: fc.constantFrom(1 as const, -1 as const) }), {
    minLength: 1,
    maxLength: 40,
  })
  .map((pattern) => {
    const changes: Change[] = [];
    let revision = 10;
    for (let i = 0; i < 5_000; i++) {
      const { step, key: at, by } = pattern[i % pattern.length]!;
      revision += step;
      changes.push({ revision, key: at, by });
    }
    return changes;
  });

const gainedIn = (changes: readonly Change[], of: KeyRange, after: number) =>
  changes.reduce(
    (sum, { revision, key: at, by }) => (revision > after && contains(of, at) ? sum + by : sum),
    0,
  );

test('what a range has gained since any revision', (t) => {
  fc.assert(
    fc.property(
      history,
      fc.array(fc.tuple(range, fc.double({ min: 0, max: 1, noNaN: true })), { minLength: 1, maxLength: 8 }),
      (changes, questions) => {
        const past = new PastChanges(10);
        for (const { revision, key: at, by } of changes) past.add(revision, at, by);
        const last = changes.at(-1)!.revision;
        for (const [of, part] of questions) {
          const after = 10 + Math.round((last - 10) * part);
          t.is(past.gained(of, after), gainedIn(changes, of, after));
        }
        t.is(past.gained({ start: Buffer.alloc(0), end: undefined }, 9), undefined);
      },
    ),
    { seed: 5, numRuns: 60 },
  );
});

test('only so many changes are kept, and older ones are not guessed at', (t) => {
  const past = new PastChanges(0, { bytesMax: 100_000 });
  const changes: Change[] = [];
  for (let revision = 1; revision <= 20_000; revision++) {
    const change = { revision, key: Buffer.from(`k${revision % 97}`), by: 1 } as const;
    changes.push(change);
    past.add(revision, change.key, change.by);
    t.true(past.bytes <= 100_000);
  }
  t.true(past.since > 10_000 && past.since < 19_000, `since ${past.since}`);
  const all = { start: Buffer.alloc(0), end: undefined };
  t.is(past.gained(all, past.since - 1), undefined);
  t.is(past.gained(all, past.since), gainedIn(changes, all, past.since));
});

test('keys are copied: what they were a part of may go', (t) => {
  const past = new PastChanges(0);
  const message = Buffer.from('xab');
  past.add(1, message.subarray(1), 1);
  message.fill('z');
  t.is(past.gained({ start: Buffer.from('ab'), end: Buffer.from('ac') }, 0), 1);
});
