// How connections end, what they bear, and what reaches whom, with one at the other end who keeps no rules.

import test from 'ava';
import { errorCode, frameFlag, frameType, uint32 } from './frame.ts';
import { encodeStateless } from './hpack.ts';
import {
  clientWithRawServer,
  frameBytes,
  Heard,
  request,
  serverWithRawClient,
  turns,
  until,
} from './http2-fakes.ts';
import { setting } from './settings.ts';

const answer = encodeStateless([':status', '200']);
const post = [':method', 'POST', ':scheme', 'http', ':path', '/'];

test('server: an answer goes through windows of any size, byte by byte where it must', async (t) => {
  for (const window of [1, 3, 7]) {
    const { peer, streams } = serverWithRawClient();
    peer.settings([setting.initialWindowSize, window]);
    peer.headers(1, request, true);
    await until(() => streams.has(1), 'a stream');
    const stream = streams.get(1)!;
    stream.headers(answer, false);
    stream.data(Buffer.from('hello world'), true, Buffer.from('12345'));
    for (let sent = 0; sent < 16; sent += window) {
      await until(() => peer.dataOf(1).length === Math.min(sent + window, 16), `${sent + window} bytes`);
      await turns(3);
      t.is(peer.dataOf(1).length, Math.min(sent + window, 16));
      peer.windowUpdate(1, window);
    }
    t.is(peer.dataOf(1).toString(), '12345hello world');
    t.is(peer.of(frameType.data, 1).at(-1)!.flags & frameFlag.endStream, 1);
  }
});

test('server: an end without data needs no window, not even a negative one', async (t) => {
  const { peer, streams } = serverWithRawClient();
  peer.settings([setting.initialWindowSize, 10]);
  peer.headers(1, request, true);
  await until(() => streams.has(1), 'a stream');
  const stream = streams.get(1)!;
  stream.headers(answer, false);
  stream.data(Buffer.from('1234567890'), false);
  peer.settings([setting.initialWindowSize, 0]);
  await until(() => peer.of(frameType.settings).length === 3, 'two acknowledgements');
  stream.data(Buffer.alloc(0), true);
  await until(() => stream.isClosed, 'the end of the stream');
  await turns();
  t.is(peer.dataOf(1).toString(), '1234567890');
});

test('server: streams that wait for the socket take turns', async (t) => {
  const { peer, streams } = serverWithRawClient();
  peer.settings([setting.initialWindowSize, 2 ** 30]);
  peer.windowUpdate(0, 2 ** 30);
  const ids = Array.from({ length: 40 }, (_, index) => 2 * index + 1);
  for (const id of ids) peer.headers(id, request, true);
  await until(() => streams.size === ids.length, 'all streams');
  peer.socket.pause();
  // More than goes out at once, for each.
  for (const stream of streams.values()) {
    stream.headers(answer, false);
    stream.data(Buffer.alloc(512 * 1024), true);
  }
  peer.socket.resume();
  await until(() => peer.dataOf(1).length >= 64 * 1024, 'some of the first answer');
  const amounts = ids.map((id) => peer.dataOf(id).length);
  t.true(Math.min(...amounts) > 0, amounts.join(' '));
});

test('server: a connection that a listener ends takes nothing more, and every listener hears of it', async (t) => {
  const { connection, socket, peer, heard, closed, opened } = serverWithRawClient();
  peer.settings();
  opened.listener = (stream) => {
    const listener = new Heard();
    if (stream.id === 3) connection.destroy();
    return listener;
  };
  await turns();
  peer.socket.cork();
  for (const id of [1, 3, 5]) peer.headers(id, request);
  peer.socket.uncork();
  await until(() => closed.count > 0, 'the end');
  await turns();
  t.true(socket.destroyed);
  t.false(heard.has(5));
  t.deepEqual(
    [...heard.values()].map(({ resets }) => resets),
    [['lost'], ['lost']],
  );
  t.is(closed.count, 1);
});

test('server: a listener that throws ends its connection, not the process', async (t) => {
  const { peer, heard, closed } = serverWithRawClient();
  peer.settings();
  peer.headers(1, request);
  peer.headers(3, request);
  await until(() => heard.size === 2, 'two streams');
  heard.get(3)!.onSome = () => {
    throw new TypeError('a bug');
  };
  peer.send(frameType.data, 0, 3, [1]);
  await until(() => peer.isEnded, 'the end');
  t.is(peer.goawayCode, errorCode.internalError);
  t.false(peer.of(frameType.goaway)[0]!.payload.includes('a bug'));
  t.deepEqual(heard.get(1)!.resets, ['lost']);
  peer.socket.end();
  await until(() => closed.count > 0, 'the end');
  t.like(closed.error?.cause, { message: 'a bug' });
});

test('server: a client that says no more is gone, and so are its calls', async (t) => {
  const { peer, socket, heard, streams, closed } = serverWithRawClient();
  peer.settings();
  peer.headers(1, request);
  await until(() => heard.size === 1, 'a stream');
  // An answer that it will not read either.
  peer.socket.pause();
  streams.get(1)!.headers(answer, false);
  streams.get(1)!.data(Buffer.alloc(1_000_000), false);
  peer.socket.end();
  await until(() => closed.count > 0, 'the end');
  t.deepEqual(heard.get(1)!.resets, ['lost']);
  t.true(socket.destroyed);
});

/** Frames that make a server answer, by the stream that each may take. */
const floods: Readonly<Record<string, (id: number) => Buffer>> = {
  PING: () => frameBytes(frameType.ping, 0, 0, Buffer.alloc(8)),
  SETTINGS: () => frameBytes(frameType.settings, 0, 0, Buffer.alloc(0)),
  'requests that are reset': (id) => frameBytes(frameType.headers, 5, id, encodeStateless([':path', '/'])),
  'requests that are answered': (id) => frameBytes(frameType.headers, 5, id, encodeStateless(request)),
};

for (const [what, frameOf] of Object.entries(floods)) {
  test.serial(`server: one who floods with ${what} and does not read is cut off`, async (t) => {
    const { connection, peer, socket, closed, opened } = serverWithRawClient();
    opened.listener = (stream) => {
      if (what.endsWith('reset')) stream.reset(errorCode.protocolError);
      else stream.headers(answer, true);
      return new Heard();
    };
    peer.settings();
    await turns();
    peer.socket.pause();
    for (let id = 1; id < 2_000_000 && !socket.writableEnded;) {
      const frames: Buffer[] = [];
      for (let count = 0; count < 5_000; count++, id += 2) frames.push(frameOf(id));
      peer.socket.write(Buffer.concat(frames));
      // A few hundred are taken in a turn.
      await turns(25);
      t.true(connection.streamCount < 25_000);
    }
    t.true(socket.writableEnded);
    t.true(socket.writableLength < 6_000_000, `${socket.writableLength} bytes`);
    socket.destroy();
    await until(() => closed.count > 0, 'the end');
    t.is((closed.error as { code?: number } | undefined)?.code, errorCode.enhanceYourCalm);
  });
}

test('server: an endless header block is cut off', async (t) => {
  const { peer } = serverWithRawClient();
  peer.settings();
  peer.send(frameType.headers, 0, 1, encodeStateless(request));
  for (let count = 0; count < 100; count++) peer.send(frameType.continuation, 0, 1);
  await until(() => peer.isEnded, 'the end');
  t.is(peer.goawayCode, errorCode.enhanceYourCalm);
});

test('server: what was sent before a reset was read is passed over', async (t) => {
  const { connection, peer, streams } = serverWithRawClient();
  peer.settings();
  peer.headers(1, request);
  await until(() => streams.has(1), 'a stream');
  streams.get(1)!.headers(answer, true);
  for (let count = 0; count < 3; count++) peer.send(frameType.data, 0, 1, [1]);
  peer.headers(1, ['x', 'y'], true);
  peer.headers(3, request);
  await until(() => streams.has(3), 'another stream');
  await turns();
  t.deepEqual(peer.resetsOf(1), [errorCode.noError]);
  t.is(peer.goawayCode, undefined);
  t.true(connection.isOpen);
});

test('server: a client that has met an error gets what was answered, then the end', async (t) => {
  const { peer, streams, closed } = serverWithRawClient();
  peer.settings();
  peer.headers(1, request, true);
  peer.send(frameType.goaway, 0, 0, Buffer.concat([uint32(0), uint32(0xffff)]));
  await until(() => streams.has(1), 'a stream');
  await turns();
  t.is(closed.count, 0);
  streams.get(1)!.headers(answer, true);
  await until(() => peer.isEnded, 'the end');
  t.is(peer.of(frameType.headers, 1).length, 1);
  peer.socket.end();
  await until(() => closed.count > 0, 'the end');
  t.regex(closed.error?.message ?? '', /GOAWAY with code 65535/);
});

test('server: a window that a frame names a thousand times is the one named last', async (t) => {
  const { peer, streams } = serverWithRawClient();
  peer.settings();
  peer.headers(1, request, true);
  await until(() => streams.has(1), 'a stream');
  const many = Array.from({ length: 1_000 }, (_, index) => [setting.initialWindowSize, index] as const);
  peer.settings(...many, [setting.initialWindowSize, 5]);
  await until(() => peer.of(frameType.settings).length === 3, 'two acknowledgements');
  streams.get(1)!.data(Buffer.from('1234567890'), true);
  await turns();
  t.is(peer.dataOf(1).toString(), '12345');
});

test('client: an interim answer that ends the stream is no answer', async (t) => {
  const { connection, peer } = clientWithRawServer();
  peer.settings();
  await until(() => connection.isOpen, 'the greeting');
  const heard = new Heard();
  connection.open(post, [], heard);
  await until(() => peer.of(frameType.headers).length === 1, 'a request');
  peer.headers(1, [':status', '103']);
  peer.headers(1, [':status', '103'], true);
  await until(() => heard.resets.length > 0, 'a reset');
  t.deepEqual(heard.resets, [errorCode.protocolError]);
  t.deepEqual(heard.headers, []);
});

test('client: what comes of a stream that it has reset is passed over', async (t) => {
  const { connection, peer } = clientWithRawServer();
  peer.settings();
  await until(() => connection.isOpen, 'the greeting');
  const heard = new Heard();
  const stream = connection.open(post, [], heard);
  stream.reset(errorCode.cancel);
  peer.headers(1, [':status', '200']);
  for (let count = 0; count < 3; count++) peer.send(frameType.data, 0, 1, [1, 2, 3]);
  peer.headers(1, ['grpc-status', '0'], true);
  peer.send(frameType.ping, 0, 0, Buffer.alloc(8));
  await until(() => peer.of(frameType.ping).length === 1, 'the answer to a ping');
  t.deepEqual(peer.resetsOf(1), [errorCode.cancel]);
  t.deepEqual([heard.headers, heard.data, heard.resets], [[], [], []]);
});

test('client: streams that were never sent are told so, whatever ends the connection', async (t) => {
  for (const end of ['goaway', 'lost', 'broken'] as const) {
    const { connection, peer, closed } = clientWithRawServer();
    peer.settings([setting.maxConcurrentStreams, 1]);
    await until(() => connection.isOpen, 'the greeting');
    const [first, second] = [new Heard(), new Heard()];
    connection.open(post, [], first);
    connection.open(post, [], second);
    t.is(connection.streamCount, 2);
    await until(() => peer.of(frameType.headers).length === 1, 'a request');
    if (end === 'goaway') peer.send(frameType.goaway, 0, 0, Buffer.concat([uint32(1), uint32(0)]));
    else if (end === 'lost') peer.socket.destroy();
    else peer.send(frameType.ping, 0, 0, [1]);
    await until(() => second.ends > 0, 'the end of the stream');
    t.deepEqual(second.resets, [errorCode.refusedStream]);
    t.false(connection.isOpen);
    if (end === 'goaway') t.deepEqual(first.resets, []);
    else await until(() => first.resets[0] === 'lost', 'the loss of the other');
    if (end === 'broken') {
      await until(() => peer.goawayCode === errorCode.frameSizeError, 'a GOAWAY');
      // No stream of the server was looked at: there are none.
      t.is(peer.of(frameType.goaway)[0]!.payload.readUInt32BE(0), 0);
    }
    connection.destroy();
    t.is(closed.count, 1);
    for (const heard of [first, second]) t.deepEqual(heard.wrong, []);
  }
});

test('client: a server that has met an error may still end what it has begun', async (t) => {
  const { connection, peer, closed } = clientWithRawServer();
  peer.settings();
  await until(() => connection.isOpen, 'the greeting');
  const [first, second] = [new Heard(), new Heard()];
  for (const heard of [first, second]) connection.open(post, [], heard).data(Buffer.from('x'), true);
  await until(() => peer.of(frameType.data).length === 2, 'two requests');
  const payload = Buffer.concat([
    uint32(1),
    uint32(errorCode.enhanceYourCalm),
    Buffer.from('too_many_pings'),
  ]);
  peer.send(frameType.goaway, 0, 0, payload);
  peer.headers(1, [':status', '200', 'grpc-status', '0'], true);
  peer.socket.end();
  await until(() => closed.count > 0, 'the end');
  t.true(first.isWhole);
  t.deepEqual(second.resets, [errorCode.refusedStream]);
  t.regex(closed.error?.message ?? '', /GOAWAY with code 11: too_many_pings/);
});

test('client: a server that has met an error and does not close is left', async (t) => {
  const { connection, peer, closed } = clientWithRawServer();
  peer.settings();
  await until(() => connection.isOpen, 'the greeting');
  const heard = new Heard();
  connection.open(post, [], heard);
  await until(() => peer.of(frameType.headers).length === 1, 'a request');
  peer.send(frameType.goaway, 0, 0, Buffer.concat([uint32(1), uint32(errorCode.refusedStream)]));
  await until(() => closed.count > 0, 'the end');
  // Sent, and so perhaps done.
  t.deepEqual(heard.resets, ['lost']);
});
