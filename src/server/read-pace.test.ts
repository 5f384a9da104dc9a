// When reads begin: by what their client has not taken, and by what those under way are expected to bring.

import test from 'ava';
import { HeldBytes } from '../lib/held-bytes.ts';
import { ReadPace } from './read-pace.ts';

const { signal } = new AbortController();
const turn = () => new Promise((resolve) => setImmediate(resolve));

function setUp(first: number, least = 1) {
  const all = new HeldBytes({ partMax: 1_000, allMax: 2_000, share: 100 });
  const held = all.newPart();
  const pace = new ReadPace(held, { first, least });
  const begun: number[] = [];
  const begin = (n: number, until = signal) => Promise.resolve(pace.begin(until)).then(() => begun.push(n));
  return { all, held, pace, begun, begin };
}

test('as many reads begin as are expected to fit, and one in any case', async (t) => {
  const { pace, begun, begin } = setUp(400);
  for (const n of [1, 2, 3]) void begin(n);
  await turn();
  t.deepEqual(begun, [1, 2]);
  pace.done(0);
  await turn();
  t.deepEqual(begun, [1, 2, 3]);
  const large = setUp(5_000);
  for (const n of [1, 2]) void large.begin(n);
  await turn();
  t.deepEqual(large.begun, [1]);
});

test('what the client has not taken keeps reads waiting, in their order', async (t) => {
  const { held, begun, begin } = setUp(10);
  held.add(1_000);
  for (const n of [1, 2, 3]) void begin(n);
  await turn();
  t.deepEqual(begun, []);
  held.drop(1);
  await turn();
  t.deepEqual(begun, [1], 'nothing else is under way');
  held.drop(500);
  await turn();
  t.deepEqual(begun, [1, 2, 3]);
  void begin(4);
  await turn();
  t.is(begun.at(-1), 4);
});

test('answers that are larger than expected are expected from then on, and forgotten slowly', async (t) => {
  const { pace, begun, begin } = setUp(10);
  await begin(0);
  pace.done(500);
  for (const n of [1, 2, 3]) void begin(n);
  await turn();
  t.deepEqual(begun, [0, 1, 2]);
  for (const _ of [1, 2]) pace.done(1);
  await turn();
  pace.done(1);
  for (let count = 0; count < 40; count++) {
    await begin(4);
    pace.done(1);
  }
  begun.length = 0;
  for (let n = 0; n < 50; n++) void begin(n);
  await turn();
  t.is(begun.length, 50);
});

test('however small answers were, so few are under way at once', async (t) => {
  const { pace, begun, begin } = setUp(100, 100);
  for (let count = 0; count < 20; count++) {
    await begin(0);
    pace.done(1);
  }
  begun.length = 0;
  for (let n = 0; n < 50; n++) void begin(n);
  await turn();
  t.is(begun.length, 10);
});

test('one who gives up leaves its place to those behind it', async (t) => {
  const { held, pace, begun, begin } = setUp(600);
  const abort = new AbortController();
  await begin(0);
  const gone = begin(1, abort.signal);
  void begin(2);
  abort.abort(new Error('gone'));
  await t.throwsAsync(gone, { message: 'gone' });
  await t.throwsAsync(begin(3, abort.signal), { message: 'gone' });
  pace.done(0);
  await turn();
  t.deepEqual(begun, [0, 2]);
  t.is(held.bytes, 0);
});

test('while all clients together hold too much, one who holds little goes on', async (t) => {
  const { all, held, begun, begin } = setUp(10);
  const other = all.newPart();
  other.add(2_000);
  await begin(1);
  held.add(100);
  void begin(2);
  await turn();
  t.deepEqual(begun, [1]);
  held.drop(50);
  await turn();
  t.deepEqual(begun, [1, 2]);
});

test('one who holds its share goes on when another has taken its answers', async (t) => {
  const { all, held, begun, begin } = setUp(10);
  const other = all.newPart();
  other.add(2_000);
  held.add(100);
  void begin(1);
  await turn();
  t.deepEqual(begun, []);
  other.drop(200);
  await turn();
  t.deepEqual(begun, [1]);
});
