// Which bucket a value falls into.

import test from 'ava';
import { Histogram } from './histogram.ts';

test('histogram: a bound belongs to its bucket, and what is above all to the last', (t) => {
  const histogram = new Histogram([1, 2, 4]);
  for (const value of [0, 1, 1.5, 2, 3, 4, 5, 100]) histogram.observe(value);
  t.deepEqual(histogram.counts, [2, 2, 2, 2]);
  t.is(histogram.count, 8);
  t.is(histogram.sum, 116.5);
});
