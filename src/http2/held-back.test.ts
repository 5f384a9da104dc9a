// Streams that wait: what they count, and that many of them that wait for the same window cost no more than what they send.

import test from 'ava';
import { HeldBytes } from '../lib/held-bytes.ts';
import { errorCode, frameFlag, frameType } from './frame.ts';
import { encodeStateless } from './hpack.ts';
import { HeldBack } from './held-back.ts';
import { Heard, request, serverWithRawClient, turns, until } from './http2-fakes.ts';
import { setting } from './settings.ts';
import type { Http2Stream, StreamHost } from './stream.ts';

const answer = encodeStateless([':status', '200']);
const newPart = () => new HeldBytes({ partMax: 1e9, allMax: 1e9, share: 1e9 }).newPart();

test('what waits is counted, whatever becomes of it', async (t) => {
  const { connection, peer, streams } = serverWithRawClient();
  const held = newPart();
  peer.settings([setting.initialWindowSize, 10]);
  for (const id of [1, 3, 5]) peer.headers(id, request, true);
  await until(() => streams.size === 3, 'three streams');
  for (const stream of streams.values()) {
    stream.held = held;
    stream.headers(answer, false);
    stream.data(Buffer.alloc(100), false, Buffer.alloc(5));
    stream.headers(answer, true);
  }
  const trailers = answer.length;
  await until(() => peer.of(frameType.data).length === 3, 'what the windows take');
  t.is(held.bytes, 3 * (95 + trailers));
  // One is taken, one is left, one is lost.
  peer.windowUpdate(1, 50);
  await until(() => held.bytes === 3 * (95 + trailers) - 50, 'a part of one');
  peer.windowUpdate(1, 50);
  await until(() => streams.get(1)!.isClosed, 'the end of one');
  t.is(held.bytes, 2 * (95 + trailers));
  peer.reset(3, errorCode.cancel);
  await until(() => held.bytes === 95 + trailers, 'the end of another');
  connection.destroy();
  t.is(held.bytes, 0);
});

test('streams that wait for the window of the connection are not looked at until it opens, and then in turn', (t) => {
  let looks = 0;
  const sent: number[] = [];
  const host = { sendWindow: 3, outbox: { hasRoom: true } };
  const streams = Array.from({ length: 1_000 }, (_, id) => ({
    get canSend() {
      looks++;
      return true;
    },
    needsWindow: true,
    sendSome: () => {
      host.sendWindow--;
      sent.push(id);
      return true;
    },
  }));
  const heldBack = new HeldBack();
  for (const stream of streams) heldBack.add(stream as unknown as Http2Stream);
  const send = () => heldBack.sendInto(host as unknown as StreamHost);
  send();
  t.deepEqual(sent, [0, 1, 2]);
  const first = looks;
  for (let turn = 0; turn < 100; turn++) send();
  t.is(looks, first, 'nothing has changed');
  for (let turn = 0; turn < 500; turn++) {
    host.sendWindow = 2;
    send();
  }
  t.true(looks < first + 10_000, `${looks} looks`);
  t.deepEqual(sent, [...streams.keys(), 0, 1, 2]);
  t.false(heldBack.isEmpty);
  for (const stream of streams) heldBack.delete(stream as unknown as Http2Stream);
  t.true(heldBack.isEmpty);
});

test('what needs no window passes those that wait for it', async (t) => {
  const { peer, streams } = serverWithRawClient();
  peer.settings([setting.initialWindowSize, 1_000_000]);
  for (const id of [1, 3]) peer.headers(id, request, true);
  await until(() => streams.size === 2, 'two streams');
  const [first, second] = [streams.get(1)!, streams.get(3)!];
  first.headers(answer, false);
  first.data(Buffer.alloc(100_000), true);
  await until(() => peer.dataOf(1).length === 65_535, 'a window');
  second.headers(answer, false);
  second.data(Buffer.alloc(0), true);
  await until(() => second.isClosed, 'the end of the other');
  peer.windowUpdate(0, 100_000);
  await until(() => peer.dataOf(1).length === 100_000, 'the rest');
  t.is(peer.of(frameType.data, 1).at(-1)!.flags & frameFlag.endStream, 1);
});

for (const event of ['room', 'reset'] as const) {
  test(`server: a listener that throws when it hears of ${event} ends its connection, not the process`, async (t) => {
    const { connection, peer, heard, streams, closed, opened } = serverWithRawClient();
    opened.listener = (stream) => {
      const listener = new Heard();
      const fail = () => {
        throw new TypeError('a bug');
      };
      if (stream.id === 1) listener[event === 'room' ? 'onRoom' : 'onReset'] = fail;
      return listener;
    };
    peer.settings([setting.initialWindowSize, 0]);
    for (const id of [1, 3]) peer.headers(id, request);
    await until(() => streams.size === 2, 'two streams');
    streams.get(1)!.headers(answer, false);
    streams.get(1)!.data(Buffer.alloc(10), false);
    if (event === 'room') peer.windowUpdate(1, 10);
    else connection.destroy();
    await until(() => closed.count > 0 || peer.isEnded, 'the end');
    peer.socket.end();
    await until(() => closed.count > 0, 'the end');
    t.deepEqual(heard.get(3)!.resets, ['lost']);
    t.like(closed.error?.cause, { message: 'a bug' });
    await turns();
    t.is(closed.count, 1);
  });
}

test('server: a client that does not greet in time is cut off', async (t) => {
  const { peer, closed } = serverWithRawClient({ greetingMsMax: 20 });
  await until(() => peer.isEnded, 'the end');
  t.is(peer.goawayCode, errorCode.settingsTimeout);
  peer.socket.end();
  await until(() => closed.count > 0, 'the end');
  const other = serverWithRawClient({ greetingMsMax: 20 });
  other.peer.settings();
  await new Promise((resolve) => setTimeout(resolve, 60));
  t.false(other.peer.isEnded);
  other.connection.destroy();
});
