// Streams from one who does not end them as etcd does.

import test, { type ExecutionContext } from 'ava';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import { grpcCode } from '../../grpc/codes.ts';
import { messagePrefix } from '../../grpc/message.ts';
import { StatusError } from '../../grpc/status.ts';
import { frameType } from '../../http2/frame.ts';
import { clientWithRawServer, request, turns, until } from '../../http2/http2-fakes.ts';
import type { Http2Stream, StreamListener } from '../../http2/stream.ts';
import { EtcdMember } from './member.ts';
import type { OpenStream } from './outgoing-call.ts';
import { EtcdRawStream } from './raw-stream.ts';

const framed = (message: Buffer) => Buffer.concat([messagePrefix(message.length), message]);

async function callTo(t: ExecutionContext, answer: (stream: ServerHttp2Stream) => void) {
  const server = createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    answer(stream);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const member = new EtcdMember({ url: new URL(`http://127.0.0.1:${port}`), tls: () => ({}) });
  t.teardown(() => {
    member.close();
    server.close();
  });
  t.true(await member.ready(performance.now() + 10_000), member.reason);
  let call: Http2Stream | undefined;
  const stream = new EtcdRawStream(
    (listener) => (call = member.open('/x', {}, listener)),
    AbortSignal.timeout(20_000),
  );
  return { call: call!, stream };
}

/** One message, and that all is well. */
function answerUnread(to: ServerHttp2Stream): void {
  to.respond({ ':status': 200 }, { waitForTrailers: true });
  to.on('wantTrailers', () => to.sendTrailers({ 'grpc-status': '0' }));
  to.end(framed(Buffer.from('unread')));
}

test('a page about an error is an error, and no message', async (t) => {
  const { call, stream } = await callTo(t, (to) => {
    to.respond({ ':status': 503, 'content-type': 'text/html' });
    to.write('<html>no backend</html>');
  });
  const error = await t.throwsAsync(stream[Symbol.asyncIterator]().next(), { instanceOf: StatusError });
  t.deepEqual([error?.code, error?.message], [grpcCode.unavailable, 'etcd answered with HTTP status 503']);
  await t.throwsAsync(stream.write(Buffer.from('x')), { instanceOf: StatusError });
  t.true(call.isClosed);
});

test('what came before the end of a stream is read after it, and the stream is closed all the same', async (t) => {
  const { call, stream } = await callTo(t, answerUnread);
  stream.end();
  while (!call.isClosed) await new Promise((resolve) => setImmediate(resolve));
  const messages = [];
  for await (const message of stream) messages.push(message.toString());
  t.deepEqual(messages, ['unread']);
});

test('a server that ends without a status, or within a message, has failed', async (t) => {
  const read = async (answer: (stream: ServerHttp2Stream) => void) => {
    const { stream } = await callTo(t, answer);
    return t.throwsAsync(stream[Symbol.asyncIterator]().next(), { instanceOf: StatusError });
  };
  const bare = await read((to) => {
    to.respond({ ':status': 200 });
    to.end();
  });
  t.deepEqual(
    [bare?.code, bare?.message],
    [grpcCode.internal, 'etcd ended the call without a status (HTTP/2 code 0)'],
  );
  const cut = await read((to) => {
    to.respond({ ':status': 200 }, { waitForTrailers: true });
    to.on('wantTrailers', () => to.sendTrailers({ 'grpc-status': '0' }));
    to.end(framed(Buffer.from('whole')).subarray(0, 7));
  });
  t.is(cut?.message, 'switchyard: etcd ended within a message');
});

test('a stream whose connection is lost before it begins has failed, whether anybody reads it or not', async (t) => {
  const member = new EtcdMember({ url: new URL('http://127.0.0.1:1'), tls: () => ({}) });
  member.close();
  const { signal } = new AbortController();
  const stream = () =>
    new EtcdRawStream(
      Promise.resolve((listener: StreamListener) => member.open('/x', {}, listener)),
      signal,
    );
  stream();
  const lost = { instanceOf: StatusError, message: 'switchyard: the connection to etcd was lost' };
  t.is((await t.throwsAsync(stream()[Symbol.asyncIterator]().next(), lost))?.code, grpcCode.unavailable);
  await t.throwsAsync(stream().write(Buffer.from('x')), lost);
});

test('a stream whose connection comes late takes what waited for it', async (t) => {
  const { peer, open } = await peerOf();
  const opening = Promise.withResolvers<OpenStream>();
  const stream = new EtcdRawStream(opening.promise, AbortSignal.timeout(20_000));
  const written = stream.write(Buffer.from('asked'));
  const read = stream[Symbol.asyncIterator]().next();
  stream.end();
  opening.resolve(open);
  await written;
  await until(() => peer.of(frameType.data, 1).length > 0, 'the request');
  t.deepEqual(peer.dataOf(1), framed(Buffer.from('asked')));
  peer.headers(1, [':status', '200', 'content-type', 'application/grpc']);
  peer.send(frameType.data, 0, 1, framed(Buffer.from('answered')));
  t.is((await read).value?.toString(), 'answered');
});

test('a stream that is cancelled before it begins ends at once, and never begins', async (t) => {
  const never: OpenStream = () => {
    t.fail('opened');
    throw new Error('Expected not to be opened');
  };
  const opening = Promise.withResolvers<OpenStream>();
  const stream = new EtcdRawStream(opening.promise, new AbortController().signal);
  const reading = t.throwsAsync(stream[Symbol.asyncIterator]().next(), { instanceOf: StatusError });
  const writing = t.throwsAsync(stream.write(Buffer.from('x')), { instanceOf: StatusError });
  stream.cancel();
  t.is((await reading)?.code, grpcCode.canceled);
  t.is((await writing)?.code, grpcCode.canceled);
  opening.resolve(never);
  await new Promise((resolve) => setImmediate(resolve));
  const abort = new AbortController();
  abort.abort();
  const late = new EtcdRawStream(never, abort.signal);
  await t.throwsAsync(late[Symbol.asyncIterator]().next(), { name: 'AbortError' });
});

test('a stream that is cancelled with messages unread is canceled, and not cut off', async (t) => {
  const { call, stream } = await callTo(t, answerUnread);
  stream.end();
  while (!call.isClosed) await new Promise((resolve) => setImmediate(resolve));
  stream.cancel();
  const error = await t.throwsAsync(stream[Symbol.asyncIterator]().next(), { instanceOf: StatusError });
  t.is(error?.code, grpcCode.canceled);
});

/** An etcd that the test plays, whose windows are HTTP/2's own. */
async function peerOf() {
  const { connection, peer } = clientWithRawServer();
  peer.settings();
  await until(() => connection.isOpen, 'a greeting');
  const open: OpenStream = (listener) => connection.open(request, [], listener);
  return { peer, open };
}

async function splicedTo() {
  const { peer, open } = await peerOf();
  const abort = new AbortController();
  return { peer, abort, stream: new EtcdRawStream(open, abort.signal) };
}

test('a stream that is not read holds etcd back, and lets it go on when it is', async (t) => {
  const { peer, stream } = await splicedTo();
  await until(() => peer.of(frameType.headers).length > 0, 'a call');
  peer.headers(1, [':status', '200', 'content-type', 'application/grpc']);
  for (let count = 0; count < 4; count++) {
    const bytes = framed(Buffer.alloc(16_000, count));
    peer.send(frameType.data, 0, 1, bytes);
  }
  await turns();
  t.is(peer.of(frameType.windowUpdate, 1).length, 0);
  const messages = stream[Symbol.asyncIterator]();
  for (let count = 0; count < 4; count++) t.is((await messages.next()).value?.[0], count);
  await until(() => peer.of(frameType.windowUpdate, 1).length > 0, 'a wider window');
});

test('a writer waits for a window, and no longer than the stream lasts', async (t) => {
  const { peer, abort, stream } = await splicedTo();
  const whole = Buffer.alloc(70_000);
  let written = 0;
  const first = stream.write(whole).then(() => written++);
  await turns();
  t.is(written, 0);
  peer.windowUpdate(0, 100_000);
  peer.windowUpdate(1, 10_000);
  await first;
  t.is(peer.dataOf(1).length, whole.length + 5);
  const second = t.throwsAsync(stream.write(whole), { name: 'AbortError' });
  await turns();
  abort.abort();
  await second;
});
