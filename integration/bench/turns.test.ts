// The order of targets.

import test from 'ava';
import { inTurn } from './turns.ts';

test('turns: everybody has a turn, once', (t) => {
  for (const length of [0, 1, 2, 3, 4, 6, 8, 10]) {
    const items = Array.from({ length }, (_, index) => index);
    for (let turn = 0; turn < 12; turn++)
      t.deepEqual(
        inTurn(items, turn).toSorted((a, b) => a - b),
        items,
      );
  }
});

test('turns: with eight nobody always follows the same one, nor comes first', (t) => {
  const items = [0, 1, 2, 3, 4, 5, 6, 7];
  const before = items.map(() => new Set<number | undefined>());
  for (let turn = 0; turn < 8; turn++) {
    const order = inTurn(items, turn);
    for (const [place, item] of order.entries()) before[item]!.add(order[place - 1]);
  }
  for (const seen of before) t.true(seen.size >= 4);
});
