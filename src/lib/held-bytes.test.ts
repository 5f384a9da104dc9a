// Bounds of a part, and what is left to it when all together hold too much.

import test from 'ava';
import { HeldBytes } from './held-bytes.ts';

test('a part may hold its bound, or its share while all together hold too much', (t) => {
  const all = new HeldBytes({ partMax: 100, allMax: 150, share: 10 });
  const [first, second, third] = [all.newPart(), all.newPart(), all.newPart()];
  first.add(99);
  t.false(first.isFull);
  first.add(1);
  t.true(first.isFull);
  second.add(50);
  t.is(all.bytes, 150);
  t.deepEqual([first.isFull, second.isFull, third.isFull], [true, true, false]);
  third.add(10);
  t.true(third.isFull, 'its share');
  let less = 0;
  second.onLess = () => less++;
  second.drop(50);
  first.drop(100);
  t.is(less, 1, 'it hears of its own');
  t.deepEqual([all.bytes, third.isFull], [10, false]);
});

test('who holds more than its share hears when all together do not hold too much any more', (t) => {
  const all = new HeldBytes({ partMax: 100, allMax: 150, share: 10 });
  const [first, second] = [all.newPart(), all.newPart()];
  second.add(50);
  first.add(100);
  let told = 0;
  second.onLess = () => told++;
  t.true(second.isFull);
  first.drop(1);
  t.deepEqual([told, second.isFull], [1, false]);
  first.drop(99);
  t.is(told, 1);
  second.onLess = undefined;
  second.drop(50);
  t.deepEqual([told, all.waiting.size], [1, 0]);
});
