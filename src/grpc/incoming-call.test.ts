// Calls as they arrive: which are served, and how the others are answered; how they end, whoever ends them.

import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { duplexPair } from 'node:stream';
import { clientPreface, errorCode, frameFlag, frameType } from '../http2/frame.ts';
import { encodeStateless, HeaderDecoder, type HeaderFields } from '../http2/hpack.ts';
import { frameBytes, framesIn, HandSocket, RawPeer, request, turns, until } from '../http2/http2-fakes.ts';
import { ServerConnection } from '../http2/server-connection.ts';
import { grpcCode } from './codes.ts';
import { testLoad } from './grpc-fakes.ts';
import { acceptCall, type IncomingCall } from './incoming-call.ts';
import { messagePrefix } from './message.ts';
import { fieldOf, statusIn } from './status.ts';

interface Served {
  readonly call: IncomingCall;
  messages: number;
  cancelled: number;
}

const framed = (text: string) => Buffer.concat([messagePrefix(text.length), Buffer.from(text)]);

/** A client that the test plays; calls to `/a.B/C` are served by whoever looks into `served`. */
function peerOf(t: ExecutionContext) {
  const [socket, other] = duplexPair();
  const served: Served[] = [];
  const load = testLoad();
  const serve = (call: IncomingCall) => {
    if (call.path !== '/a.B/C') return undefined;
    const one: Served = { call, messages: 0, cancelled: 0 };
    served.push(one);
    return {
      onMessage: () => one.messages++,
      onCancelled: () => one.cancelled++,
      onRoom: () => undefined,
    };
  };
  const connection = new ServerConnection({
    socket,
    streamWindowBytes: 65_535,
    connectionWindowBytes: 65_535,
    onStream: (stream, fields) => acceptCall(stream, fields, { messageBytesMax: 100, load, serve }),
  });
  t.teardown(() => connection.destroy());
  const peer = new RawPeer(other);
  other.write(clientPreface);
  peer.settings();
  const ask = (id: number, more: HeaderFields = [], { path = '/a.B/C', method = 'POST' } = {}) =>
    peer.headers(id, [
      ':method',
      method,
      ':scheme',
      'http',
      ':path',
      path,
      ...(more.includes('content-type') ? [] : ['content-type', 'application/grpc']),
      ...more,
    ]);
  const say = (id: number, bytes: Buffer, isEnd = false) =>
    peer.send(frameType.data, isEnd ? frameFlag.endStream : 0, id, bytes);
  /** The fields of each header block of an answer. */
  const answersTo = (id: number) =>
    peer
      .of(frameType.headers, id)
      .map(({ payload }) =>
        new HeaderDecoder({ tableBytesMax: 4_096, listBytesMax: 65_536 }).decode(payload)!,
      );
  const statusOf = async (id: number) => {
    await until(() => answersTo(id).some((fields) => statusIn(fields) !== undefined), 'a status');
    return statusIn(answersTo(id).at(-1)!);
  };
  return { connection, peer, served, load, ask, say, answersTo, statusOf };
}

test('incoming call: what is compressed is refused in the words of grpc-go, before anybody serves it', async (t) => {
  const { ask, statusOf, served } = peerOf(t);
  ask(1, ['grpc-encoding', 'gzip']);
  t.deepEqual(await statusOf(1), {
    code: grpcCode.unimplemented,
    details: 'grpc: Decompressor is not installed for grpc-encoding "gzip"',
  });
  ask(3, ['grpc-timeout', 'soon']);
  t.is((await statusOf(3))?.code, grpcCode.internal);
  t.is(served.length, 0);
  ask(5, ['grpc-encoding', 'identity']);
  await until(() => served.length === 1, 'a call');
});

test('incoming call: what nobody serves is said to be unknown', async (t) => {
  const { ask, statusOf } = peerOf(t);
  const cases = { '/a.B/D': 'unknown method D for service a.B', D: 'malformed method name: "D"' };
  for (const [index, [path, details]] of Object.entries(cases).entries()) {
    ask(2 * index + 1, [], { path });
    t.deepEqual(await statusOf(2 * index + 1), { code: grpcCode.unimplemented, details });
  }
});

test('incoming call: who does not speak gRPC is answered in HTTP', async (t) => {
  const { ask, answersTo, peer } = peerOf(t);
  ask(1, [], { method: 'GET' });
  ask(3, ['content-type', 'application/json']);
  ask(5, ['content-type', 'application/grpcx']);
  await until(() => answersTo(5).length > 0, 'three answers');
  t.deepEqual(
    [1, 3, 5].map((id) => fieldOf(answersTo(id)[0]!, ':status')),
    ['405', '415', '415'],
  );
  // None has said all: they need not go on.
  t.deepEqual(
    [1, 3, 5].map((id) => peer.resetsOf(id)),
    [[0], [0], [0]],
  );
});

test('incoming call: heads that HTTP/2 forbids are reset', async (t) => {
  const { ask, peer, served } = peerOf(t);
  const heads = [
    ['x', 'a\nb'],
    ['x', 'a\0b'],
    ['x', 'a\rb'],
    ['X', 'a'],
    ['te', 'gzip'],
    ['connection', 'close'],
  ];
  for (const [index, head] of heads.entries()) ask(2 * index + 1, head);
  await until(() => peer.of(frameType.rstStream).length === heads.length, 'all resets');
  for (const index of heads.keys()) t.deepEqual(peer.resetsOf(2 * index + 1), [errorCode.protocolError]);
  t.is(served.length, 0);
});

test('incoming call: metadata is what is neither HTTP nor gRPC, with all values of a name', async (t) => {
  const { ask, served } = peerOf(t);
  const own = ['te', 'trailers', 'user-agent', 'me', 'grpc-timeout', '1H', 'x-bin', 'AAEC'];
  ask(1, ['x', '1', 'y', '', 'x', '2', 'constructor', '3', '__proto__', '4', 'x', '3', ...own]);
  await until(() => served.length === 1, 'a call');
  t.deepEqual(Object.entries(served[0]!.call.metadata()), [
    ['x', '1, 2, 3'],
    ['y', ''],
    ['constructor', '3'],
    ['__proto__', '4'],
  ]);
});

test('incoming call: a deadline ends it once, for both sides', async (t) => {
  const { ask, say, statusOf, served, peer, connection } = peerOf(t);
  ask(1, ['grpc-timeout', '1m']);
  const began = performance.now();
  t.deepEqual(await statusOf(1), { code: grpcCode.deadlineExceeded, details: 'context deadline exceeded' });
  t.true(performance.now() - began >= 1);
  await until(() => peer.resetsOf(1).length > 0, 'the end of the stream');
  t.is(connection.streamCount, 0);
  const [{ call, ...heard }] = served as [Served];
  t.deepEqual(heard, { messages: 0, cancelled: 1 });
  say(1, framed('late'));
  call.write(Buffer.from('late'));
  call.finish({ code: grpcCode.ok, details: '' });
  await turns();
  t.is(peer.of(frameType.headers, 1).length, 1);
  t.is(served[0]!.messages, 0);
});

test('incoming call: it ends by its client at every point, and nothing is sent after', async (t) => {
  const { ask, say, served, peer, connection } = peerOf(t);
  const points: ((id: number, one: Served) => void)[] = [
    () => undefined,
    (id) => say(id, framed('half').subarray(0, 7)),
    (id) => say(id, framed('whole'), true),
    (_, { call }) => call.write(Buffer.from('some')),
  ];
  for (const [index, reach] of points.entries()) {
    const id = 2 * index + 1;
    ask(id);
    await until(() => served.length === index + 1, 'a call');
    const one = served[index]!;
    reach(id, one);
    await turns(3);
    peer.reset(id, errorCode.cancel);
    await until(() => one.cancelled > 0, 'the cancellation');
    const sent = peer.frames.length;
    one.call.write(Buffer.from('late'));
    one.call.finish({ code: grpcCode.ok, details: '' });
    await turns();
    t.is(peer.frames.length, sent);
    t.is(one.cancelled, 1);
    t.true(one.call.isFinished);
  }
  t.is(connection.streamCount, 0);
});

test('incoming call: a message above the limit, and trailers that are none, end it', async (t) => {
  const { ask, say, statusOf, served, peer } = peerOf(t);
  ask(1);
  say(1, messagePrefix(101));
  t.is((await statusOf(1))?.code, grpcCode.resourceExhausted);
  ask(3);
  peer.headers(3, [':path', '/'], true);
  await until(() => peer.resetsOf(3).length > 0, 'a reset');
  t.deepEqual(peer.resetsOf(3), [errorCode.protocolError]);
  t.deepEqual(
    served.map(({ cancelled }) => cancelled),
    [1, 1],
  );
  ask(5);
  say(5, framed('x'));
  peer.headers(5, ['x', 'y'], true);
  await until(() => served[2]?.call.isWhole === true, 'the whole request');
  t.is(served[2]!.call.read()?.toString(), 'x');
  t.is(served[2]!.cancelled, 0);
});

test('incoming call: who leaves calls that are being worked for gets no more of them for now', async (t) => {
  const { ask, served, load, peer } = peerOf(t);
  for (const id of [1, 3]) ask(id);
  await until(() => served.length === 2, 'two calls');
  const [worked, unworked] = served as [Served, Served];
  worked.call.begin();
  for (const id of [1, 3]) peer.reset(id, errorCode.cancel);
  await until(() => unworked.cancelled === 1, 'both to be left');
  t.is(load.abandoned, 1);
  load.abandoned += 9_999;
  ask(5);
  await until(() => peer.resetsOf(5).length > 0, 'a refusal');
  t.deepEqual(peer.resetsOf(5), [errorCode.refusedStream]);
  for (const { call } of served) call.finish({ code: grpcCode.ok, details: '' });
  t.is(load.abandoned, 9_999);
  ask(7);
  await until(() => served.length === 3, 'another call');
});

test('incoming call: whatever is said in it, it is served or ended, and no bug is met', (t) => {
  const head = encodeStateless([...request, 'content-type', 'application/grpc']);
  const some = fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes));
  const said = fc.oneof(
    some,
    some.map((bytes) => Buffer.concat([messagePrefix(bytes.length), bytes])),
    fc.nat(300).map(messagePrefix),
  );
  const piece = fc.tuple(fc.constantFrom(1, 3), said, fc.constantFrom(0, 0, 0, 1));
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), fc.integer({ min: 1, max: 20 }), (pieces, cut) => {
      const socket = new HandSocket();
      const served: Served[] = [];
      const load = testLoad();
      const connection = new ServerConnection({
        socket,
        streamWindowBytes: 65_535,
        connectionWindowBytes: 65_535,
        onStream: (stream, fields) =>
          acceptCall(stream, fields, {
            messageBytesMax: 100,
            load,
            serve: (call) => {
              const one: Served = { call, messages: 0, cancelled: 0 };
              served.push(one);
              const onMessage = () => {
                one.messages++;
                if (call.isWhole) call.finish({ code: grpcCode.ok, details: '' });
              };
              return { onMessage, onCancelled: () => one.cancelled++, onRoom: () => undefined };
            },
          }),
      });
      const bytes = Buffer.concat([
        clientPreface,
        frameBytes(frameType.settings, 0, 0, Buffer.alloc(0)),
        ...[1, 3].map((id) => frameBytes(frameType.headers, frameFlag.endHeaders, id, head)),
        ...pieces.map(([id, payload, end]) => frameBytes(frameType.data, end, id, payload)),
      ]);
      for (let at = 0; at < bytes.length; at += cut) socket.give(bytes.subarray(at, at + cut));
      t.true(connection.isOpen);
      connection.destroy();
      t.deepEqual(
        framesIn(socket.written).filter(({ type }) => type === frameType.goaway),
        [],
      );
      for (const { call, cancelled } of served) {
        t.true(call.isFinished);
        t.true(cancelled <= 1);
      }
      t.is(load.asked.bytes, 0);
    }),
  );
});
