// Streams from one who does not end them as etcd does.

import test, { type ExecutionContext } from 'ava';
import { once } from 'node:events';
import { connect, createServer, type ServerHttp2Stream } from 'node:http2';
import { grpcCode } from '../../etcd/errors.ts';
import { RawStatusError } from '../store.ts';
import { framed } from './grpc-message.ts';
import { EtcdRawStream } from './raw-stream.ts';

async function callTo(t: ExecutionContext, answer: (stream: ServerHttp2Stream) => void) {
  const server = createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    answer(stream);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const session = connect(`http://127.0.0.1:${port}`);
  t.teardown(() => {
    session.destroy();
    server.close();
  });
  const call = session.request({ ':method': 'POST' });
  return { call, stream: new EtcdRawStream(call, AbortSignal.timeout(20_000)) };
}

test('a page about an error is an error, and no message', async (t) => {
  const { call, stream } = await callTo(t, (to) => {
    to.respond({ ':status': 503, 'content-type': 'text/html' });
    to.write('<html>no backend</html>');
  });
  const closed = once(call, 'close');
  const error = await t.throwsAsync(stream[Symbol.asyncIterator]().next(), { instanceOf: RawStatusError });
  t.deepEqual([error?.code, error?.message], [grpcCode.unavailable, 'etcd answered with HTTP status 503']);
  await t.throwsAsync(stream.write(Buffer.from('x')), { instanceOf: RawStatusError });
  await closed;
  t.true(call.destroyed);
});

test('a stream that is over and unread ends when it is cancelled', async (t) => {
  const { call, stream } = await callTo(t, (to) => {
    to.respond({ ':status': 200 }, { waitForTrailers: true });
    to.on('wantTrailers', () => to.sendTrailers({ 'grpc-status': '0' }));
    to.end(framed(Buffer.from('unread')));
  });
  stream.end();
  await once(call, 'trailers');
  // The last frame comes after the trailers.
  while (!call.closed) await new Promise((resolve) => setImmediate(resolve));
  t.false(call.destroyed);
  const closed = once(call, 'close', { signal: AbortSignal.timeout(10_000) });
  stream.cancel();
  await closed;
  t.pass();
});
