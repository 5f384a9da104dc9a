// A set of ranges against a list that is looked through.

import test from 'ava';
import fc from 'fast-check';
import { contains, keyRange } from './range.ts';
import { KeyRangeSet } from './range-set.ts';

const key = fc
  .array(fc.constantFrom(0, 1, 97, 255), { minLength: 1, maxLength: 3 })
  .map((codes) => Buffer.from(codes));
const rangeEnd = fc.oneof(fc.constant(Buffer.alloc(0)), fc.constant(Buffer.from([0])), key);
const range = fc.tuple(key, rangeEnd).map(([start, end]) => keyRange(start, end));
const ranges = fc.array(range, { maxLength: 20 });

test('range set: has what one of the ranges contains, however they came', (t) => {
  const property = fc.property(ranges, ranges, fc.array(key), (own, others, keys) => {
    const set = new KeyRangeSet();
    for (const one of own) set.add(one);
    const other = new KeyRangeSet();
    for (const one of others) other.add(one);
    set.addAll(other);
    for (const asked of keys) {
      const expected = [...own, ...others].some((one) => contains(one, asked));
      if (set.has(asked) !== expected) return false;
    }
    return true;
  });
  t.notThrows(() => fc.assert(property, { numRuns: 2_000 }));
});
