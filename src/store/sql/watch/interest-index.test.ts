// The index finds exactly the ranges that contain a key, whatever their shape.

import test from 'ava';
import fc from 'fast-check';
import { contains, prefixRange, successor, type KeyRange } from '../../../etcd/range.ts';
import { InterestIndex } from './interest-index.ts';

/** Few distinct bytes, so that keys and ranges meet. */
const bytes = fc
  .array(fc.constantFrom(0, 0x2f, 0x61, 0xff), { maxLength: 4 })
  .map((list) => Buffer.from(list));

const range: fc.Arbitrary<KeyRange> = fc.oneof(
  bytes.map((key) => ({ start: key, end: successor(key) })),
  bytes.map(prefixRange),
  bytes.map((start) => ({ start, end: undefined })),
  fc.tuple(bytes, bytes).map(([start, end]) => ({ start, end })),
);

test('matches what contains the key, once, through additions and removals', (t) => {
  const step = fc.record({ range, member: fc.nat(3), isRemoval: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 40 }),
      fc.array(bytes, { minLength: 1, maxLength: 10 }),
      (steps, keys) => {
        const index = new InterestIndex<number>();
        const expected: { range: KeyRange; member: number }[] = [];
        const sameAs = (a: (typeof steps)[number]) => (b: { range: KeyRange; member: number }) =>
          a.member === b.member &&
          a.range.start.equals(b.range.start) &&
          (a.range.end === undefined || b.range.end === undefined
            ? a.range.end === b.range.end
            : a.range.end.equals(b.range.end));
        for (const next of steps) {
          const at = expected.findIndex(sameAs(next));
          if (next.isRemoval) {
            index.delete(next.range, next.member);
            if (at >= 0) expected.splice(at, 1);
          } else {
            index.add(next.range, next.member);
            if (at < 0) expected.push(next);
          }
        }
        return keys.every((key) => {
          const found: number[] = [];
          index.match(key, (interest) => found.push(...interest.members));
          const due = expected.filter((one) => contains(one.range, key)).map(({ member }) => member);
          const ascending = (list: readonly number[]) => list.toSorted((a, b) => a - b).join();
          return ascending(found) === ascending(due);
        });
      },
    ),
    { seed: 7, numRuns: 1000 },
  );
  t.pass();
});

test('watchers of one range share an interest', (t) => {
  const index = new InterestIndex<string>();
  const prefix = prefixRange(Buffer.from('/registry/pods/'));
  index.add(prefix, 'first');
  index.add({ start: Buffer.from(prefix.start), end: prefix.end }, 'second');
  const seen: string[][] = [];
  index.match(Buffer.from('/registry/pods/a'), ({ members }) => seen.push([...members]));
  index.match(Buffer.from('/registry/podsets/a'), ({ members }) => seen.push([...members]));
  t.deepEqual(seen, [['first', 'second']]);
});
