// Streams from one who does not end them as etcd does.

import test, { type ExecutionContext } from 'ava';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import { grpcCode } from '../../grpc/codes.ts';
import { messagePrefix } from '../../grpc/message.ts';
import { StatusError } from '../../grpc/status.ts';
import type { Http2Stream } from '../../http2/stream.ts';
import { EtcdMember } from './member.ts';
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
  const member = new EtcdMember({ url: new URL(`http://127.0.0.1:${port}`), tls: {} });
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
  const { call, stream } = await callTo(t, (to) => {
    to.respond({ ':status': 200 }, { waitForTrailers: true });
    to.on('wantTrailers', () => to.sendTrailers({ 'grpc-status': '0' }));
    to.end(framed(Buffer.from('unread')));
  });
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
