// The line through samples, and what counts as flat.

import test from 'ava';
import { leastSquares, trendOf } from './trend.ts';

const every10 = (values: readonly number[]) => values.map((value, index) => ({ at: index * 10, value }));

test('trend: the line of points on a line is that line', (t) => {
  const line = leastSquares(every10([5, 7, 9, 11]))!;
  t.true(Math.abs(line.slope - 0.2) < 1e-9);
  t.true(Math.abs(line.start - 5) < 1e-9);
});

test('trend: one point in time has no line', (t) => {
  t.is(leastSquares([]), undefined);
  t.is(leastSquares([{ at: 3, value: 1 }]), undefined);
  t.is(trendOf(every10([4]), 0.1), undefined);
});

test('trend: what grows in the first half only is flat', (t) => {
  t.true(trendOf(every10([10, 40, 70, 100, 101, 99, 100]), 0.05)!.flat);
});

test('trend: what grows in the second half is not flat', (t) => {
  const trend = trendOf(every10([100, 100, 100, 100, 110, 120, 130]), 0.1)!;
  t.false(trend.flat);
  t.true(Math.abs(trend.growth - 30 / 115) < 1e-9);
});

test('trend: what falls is flat', (t) => {
  t.true(trendOf(every10([100, 90, 80, 70, 60, 50]), 0.1)!.flat);
});
