// A bound on lines of one kind.

import test from 'ava';
import type { Clock } from './clock.ts';
import { LineBudget } from './line-budget.ts';

test('line budget: the first lines of a while are written, the rest is counted', async (t) => {
  let sleepers: (() => void)[] = [];
  const clock: Clock = { now: () => 0, sleep: () => new Promise((wake) => sleepers.push(wake)) };
  const pass = async () => {
    const woken = sleepers;
    sleepers = [];
    for (const wake of woken) wake();
    await new Promise(setImmediate);
  };
  const told: number[] = [];
  const budget = new LineBudget({ clock, linesMax: 2, perMs: 10, leftOut: (lines) => told.push(lines) });
  const take = (count: number) => Array.from({ length: count }, () => budget.take());
  t.deepEqual(take(4), [true, true, false, false]);
  await pass();
  t.deepEqual(told, [2]);
  t.deepEqual(take(1), [true]);
  await pass();
  t.deepEqual([told, sleepers.length], [[2], 1]);
  await pass();
  // Nothing came: nobody waits any more.
  t.is(sleepers.length, 0);
  t.deepEqual(take(3), [true, true, false]);
  budget.flush();
  budget.flush();
  t.deepEqual(told, [2, 1]);
});
