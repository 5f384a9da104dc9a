// What the calls of a connection may make this side hold, over a connection whose client the test plays.

import test, { type ExecutionContext } from 'ava';
import { duplexPair } from 'node:stream';
import { clientPreface, errorCode, frameFlag, frameType } from '../http2/frame.ts';
import { HeaderDecoder, type HeaderFields } from '../http2/hpack.ts';
import { RawPeer, request, turns, until } from '../http2/http2-fakes.ts';
import { ServerConnection } from '../http2/server-connection.ts';
import { grpcCode } from './codes.ts';
import { testLoad } from './grpc-fakes.ts';
import { acceptCall, type IncomingCall } from './incoming-call.ts';
import { messagePrefix } from './message.ts';
import { statusIn } from './status.ts';

/** What a call weighs at least. */
const callBytes = 16_384;
const head: HeaderFields = [...request, 'content-type', 'application/grpc'];
const ok = { code: grpcCode.ok, details: '' };

function peerOf(t: ExecutionContext, partMax: number) {
  const [socket, other] = duplexPair();
  const load = testLoad({ partMax });
  const served: IncomingCall[] = [];
  let cancelled = 0;
  const listener = {
    onMessage: () => undefined,
    onCancelled: () => cancelled++,
    onRoom: () => undefined,
  };
  const serve = (call: IncomingCall) => {
    served.push(call);
    call.countAnswerIn(load.answers);
    return listener;
  };
  const connection = new ServerConnection({
    socket,
    streamWindowBytes: 1_000_000,
    connectionWindowBytes: 1_000_000,
    onStream: (stream, fields) => acceptCall(stream, fields, { messageBytesMax: 1_000_000, load, serve }),
  });
  t.teardown(() => connection.destroy());
  const peer = new RawPeer(other);
  other.write(clientPreface);
  peer.settings();
  const say = (id: number, bytes: Buffer, isEnd = false) => {
    for (let at = 0; at < bytes.length; at += 16_384) {
      const piece = bytes.subarray(at, at + 16_384);
      const end = isEnd && at + 16_384 >= bytes.length ? frameFlag.endStream : 0;
      peer.send(frameType.data, end, id, piece);
    }
  };
  const statusOf = async (id: number) => {
    await until(() => peer.of(frameType.headers, id).length > 0, 'an answer');
    const decoder = new HeaderDecoder({ tableBytesMax: 4_096, listBytesMax: 65_536 });
    return statusIn(decoder.decode(peer.of(frameType.headers, id).at(-1)!.payload)!)?.code;
  };
  return { connection, peer, load, served, say, statusOf, cancelled: () => cancelled };
}

test('calls above the bound are refused until others are over', async (t) => {
  const { peer, load, served, statusOf } = peerOf(t, 2 * callBytes);
  for (const id of [1, 3, 5]) peer.headers(id, head);
  t.is(await statusOf(5), grpcCode.resourceExhausted);
  t.is(served.length, 2);
  t.deepEqual(load.refusals, ['/']);
  served[0]!.finish(ok);
  served[1]!.finish(ok);
  t.is(load.asked.bytes, 0);
  peer.headers(7, head);
  await until(() => served.length === 3, 'another call');
});

test('half of a request that would be too much is refused, what is whole or small is not', async (t) => {
  const { peer, load, served, say, statusOf, cancelled } = peerOf(t, 300_000);
  for (const id of [1, 3, 5, 7]) peer.headers(id, head);
  await until(() => served.length === 4, 'four calls');
  const half = Buffer.concat([messagePrefix(200_000), Buffer.alloc(150_000)]);
  say(1, half);
  say(3, half);
  t.is(await statusOf(3), grpcCode.resourceExhausted);
  t.is(cancelled(), 1);
  t.deepEqual(peer.of(frameType.headers, 1), []);
  // As much as it may hold, but for these.
  const { bytes } = load.asked;
  load.asked.add(300_000 - bytes);
  say(5, Buffer.concat([messagePrefix(100), Buffer.alloc(100)]));
  await until(() => served[2]!.take() !== undefined, 'a small message');
  say(7, Buffer.concat([messagePrefix(16_000), Buffer.alloc(16_000)]), true);
  await until(() => served[3]!.isWhole, 'a whole one');
  t.is(served[3]!.read()?.length, 16_000);
  load.asked.drop(300_000 - bytes);
  for (const call of served) call.finish(ok);
  t.is(load.asked.bytes, 0);
});

test('a request counts for as long as somebody works for it, whoever has left', async (t) => {
  const { peer, load, served, say } = peerOf(t, 1e9);
  for (const id of [1, 3]) {
    peer.headers(id, head);
    say(id, Buffer.concat([messagePrefix(50_000), Buffer.alloc(50_000)]), true);
  }
  await until(() => served.length === 2 && served.every((call) => call.isWhole), 'two requests');
  for (const call of served) call.read();
  served[0]!.begin();
  const { bytes } = load.asked;
  t.true(bytes > 2 * (callBytes + 50_000));
  for (const id of [1, 3]) peer.reset(id, errorCode.cancel);
  await until(() => served.every((call) => call.isFinished), 'both to be left');
  t.is(load.asked.bytes, bytes / 2, 'only one is worked for');
  served[0]!.finish(ok);
  served[1]!.finish(ok);
  t.is(load.asked.bytes, 0);
});

test('messages of a stream count until they are taken', async (t) => {
  const { peer, load, served, say } = peerOf(t, 1e9);
  peer.headers(1, head);
  const message = Buffer.concat([messagePrefix(1_000), Buffer.alloc(1_000)]);
  say(1, Buffer.concat([message, message]));
  await until(() => served.length === 1 && load.asked.bytes > callBytes + 2_000, 'two messages');
  const { bytes } = load.asked;
  served[0]!.take();
  t.is(load.asked.bytes, bytes - message.length);
  peer.socket.destroy();
  await until(() => load.asked.bytes === 0, 'nothing');
});

test('answers count until the client has taken them, and too many of them refuse calls', async (t) => {
  const { peer, load, served, statusOf } = peerOf(t, 100_000);
  for (const id of [1, 3]) peer.headers(id, head, true);
  await until(() => served.length === 2, 'two calls');
  for (const call of served) {
    call.write(Buffer.alloc(100_000));
    call.finish(ok);
  }
  await until(() => peer.dataOf(1).length + peer.dataOf(3).length === 65_535, 'a window of it');
  const { bytes } = load.answers;
  t.true(bytes >= 200_000 - 65_535, `${bytes} bytes`);
  peer.headers(5, head, true);
  t.is(await statusOf(5), grpcCode.resourceExhausted);
  peer.reset(3, errorCode.cancel);
  await until(() => load.answers.bytes < bytes, 'less');
  peer.windowUpdate(0, 1_000_000);
  peer.windowUpdate(1, 1_000_000);
  await until(() => peer.dataOf(1).length === 100_005, 'all of the other');
  await turns();
  t.is(load.answers.bytes, 0);
  peer.headers(7, head, true);
  await until(() => served.length === 3, 'another call');
});
