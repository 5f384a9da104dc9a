// What several watches give to one stream comes out in order, and an answer in pieces in one piece.

import test from 'ava';
import { StreamOutlet } from './watch-outlet.ts';

function setUp() {
  const written: string[] = [];
  const stream = {
    write: (message: Buffer) => {
      written.push(message.toString());
      return Promise.resolve();
    },
  };
  const signal = new AbortController().signal;
  const outlet = new StreamOutlet(stream, { signal, fail: () => undefined });
  const write = (text: string, from?: object, isLast = true) =>
    outlet.write(Buffer.from(text), from === undefined ? undefined : { from, isLast });
  return { written, write };
}

test('what others give waits for the last piece', async (t) => {
  const { written, write } = setUp();
  const leg = {};
  const given = [write('a'), write('b1', leg, false), write('c'), write('b2', leg, false), write('d')];
  t.deepEqual(written, ['a', 'b1', 'b2']);
  given.push(write('b3', leg));
  t.deepEqual(written, ['a', 'b1', 'b2', 'b3', 'c', 'd']);
  await Promise.all(given);
});

test('pieces of two that wait for each other come one after the other', async (t) => {
  const { written, write } = setUp();
  const [one, two] = [{}, {}];
  const given = [write('1a', one, false), write('2a', two, false), write('x'), write('1b', one)];
  t.deepEqual(written, ['1a', '1b', '2a']);
  given.push(write('1c', one), write('2b', two));
  t.deepEqual(written, ['1a', '1b', '2a', '2b', 'x', '1c']);
  await Promise.all(given);
});
