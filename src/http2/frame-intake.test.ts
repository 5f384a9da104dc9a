// One who sends much at once is taken in shares, all of it, and in order.

import test from 'ava';
import { frameFlag, frameType } from './frame.ts';
import { frameBytes, Heard, request, serverWithRawClient, until } from './http2-fakes.ts';
import { encodeStateless } from './hpack.ts';

/** Counts turns of the event loop until it is told to stop. */
function turnCounter() {
  const counter = { turn: 0, stop: () => clearImmediate(next) };
  const count = () => {
    counter.turn++;
    next = setImmediate(count);
  };
  let next = setImmediate(count);
  return counter;
}

test('server: one who sends much at once leaves turns of the event loop to the others', async (t) => {
  const wide = 2 ** 31 - 1;
  const { peer, heard, opened } = serverWithRawClient({
    connectionWindowBytes: wide,
    streamWindowBytes: wide,
  });
  peer.settings();
  const counter = turnCounter();
  const bytesInTurn = new Map<number, number>();
  opened.listener = () => {
    const listener = new Heard();
    listener.onData = (chunk, isEnd) => {
      bytesInTurn.set(counter.turn, (bytesInTurn.get(counter.turn) ?? 0) + chunk.length);
      listener.isWhole = isEnd;
    };
    return listener;
  };
  peer.headers(1, request);
  const data = frameBytes(frameType.data, 0, 1, Buffer.alloc(16_384));
  for (let sent = 0; sent < 64; sent++) peer.socket.write(Buffer.concat([data, data, data, data]));
  peer.send(frameType.data, frameFlag.endStream, 1);
  await until(() => heard.get(1)?.isWhole === true, 'all of it');
  counter.stop();
  t.is(
    [...bytesInTurn.values()].reduce((sum, bytes) => sum + bytes, 0),
    64 * 65_536,
  );
  t.true(Math.max(...bytesInTurn.values()) <= 6 * 65_536, [...bytesInTurn.values()].join(' '));
});

test('server: of thousands of requests in one piece some are taken at a time, in their order', async (t) => {
  const { peer, heard, opened } = serverWithRawClient();
  peer.settings();
  const counter = turnCounter();
  const inTurn = new Map<number, number>();
  const order: number[] = [];
  opened.listener = (stream) => {
    inTurn.set(counter.turn, (inTurn.get(counter.turn) ?? 0) + 1);
    order.push(stream.id);
    return new Heard();
  };
  const ids = Array.from({ length: 3_000 }, (_, index) => 2 * index + 1);
  const block = encodeStateless(request);
  const flags = frameFlag.endHeaders | frameFlag.endStream;
  peer.socket.write(Buffer.concat(ids.map((id) => frameBytes(frameType.headers, flags, id, block))));
  await until(() => heard.size === ids.length, 'all requests');
  counter.stop();
  t.deepEqual(order, ids);
  t.true(Math.max(...inTurn.values()) <= 256, [...inTurn.values()].join(' '));
  peer.send(frameType.ping, 0, 0, Buffer.alloc(8));
  await until(() => peer.of(frameType.ping).length === 1, 'an answer to what comes afterwards');
});
