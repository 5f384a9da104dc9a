// The bridge from calls to functions: how streams end with the server, and what a handler hears of an end.

import test from 'ava';
import { getEventListeners } from 'node:events';
import { duplexPair } from 'node:stream';
import { acceptCall } from '../grpc/incoming-call.ts';
import { statusIn } from '../grpc/status.ts';
import { grpcCode } from '../grpc/codes.ts';
import { clientPreface, errorCode, frameType } from '../http2/frame.ts';
import { HeaderDecoder } from '../http2/hpack.ts';
import { RawPeer, request, until } from '../http2/http2-fakes.ts';
import { ServerConnection } from '../http2/server-connection.ts';
import { systemClock } from '../lib/clock.ts';
import { silentLogger } from '../lib/log.ts';
import { CallAdapters, type CallContext, type StreamHandler } from './call.ts';
import { ClientLoads } from './client-load.ts';
import { FailureLog } from './failure-log.ts';
import { CallMetrics } from './metrics/calls.ts';

const path = '/etcdserverpb.Watch/Watch';

/** A client that the test plays, of a server with one method. */
function serve(handler: StreamHandler) {
  const [socket, other] = duplexPair();
  const shutdown = new AbortController();
  const adapters = new CallAdapters({
    failures: new FailureLog({ logger: silentLogger, clock: systemClock }),
    metrics: new CallMetrics(),
    observer: {},
    shutdown: shutdown.signal,
    onBroken: (error) => {
      throw error;
    },
  });
  const method = adapters.bidi(path, handler);
  const load = new ClientLoads({ refused: () => undefined }).newClient(() => undefined);
  const connection = new ServerConnection({
    socket,
    streamWindowBytes: 65_535,
    connectionWindowBytes: 65_535,
    onStream: (stream, fields) =>
      acceptCall(stream, fields, { messageBytesMax: 100, load, serve: (call) => method(call, load) }),
  });
  const peer = new RawPeer(other);
  other.write(clientPreface);
  peer.settings();
  const ask = (id: number) =>
    peer.headers(id, [...request.slice(0, -1), path, 'content-type', 'application/grpc']);
  return { peer, ask, adapters, shutdown, load, connection };
}

test('call: the end of the server ends every stream, and streams add nothing to its signal', async (t) => {
  const { peer, ask, adapters, shutdown, connection } = serve(() => new Promise(() => undefined));
  t.teardown(() => connection.destroy());
  const ids = Array.from({ length: 100 }, (_, index) => 2 * index + 1);
  for (const id of ids) ask(id);
  await until(() => adapters.streamsOpen === ids.length, 'all streams');
  t.is(getEventListeners(shutdown.signal, 'abort').length, 1);
  shutdown.abort();
  await adapters.idle();
  await until(() => peer.of(frameType.headers).length === ids.length, 'all statuses');
  for (const { payload } of peer.of(frameType.headers)) {
    const fields = new HeaderDecoder({ tableBytesMax: 4_096, listBytesMax: 65_536 }).decode(payload)!;
    t.deepEqual(statusIn(fields), { code: grpcCode.unavailable, details: 'etcdserver: server stopped' });
  }
});

test('call: a handler whose client is gone hears of it, and is waited for', async (t) => {
  const contexts: CallContext[] = [];
  const ended = Promise.withResolvers<void>();
  const { peer, ask, adapters, load, connection } = serve((_, context) => {
    contexts.push(context);
    return ended.promise;
  });
  t.teardown(() => connection.destroy());
  ask(1);
  await until(() => contexts.length === 1, 'the call');
  peer.reset(1, errorCode.cancel);
  await until(() => contexts[0]!.signal.aborted, 'the end');
  t.is((contexts[0]!.signal.reason as Error).name, 'AbortError');
  t.deepEqual([adapters.streamsOpen, load.abandoned], [1, 1]);
  ended.resolve();
  await adapters.idle();
  t.deepEqual([adapters.streamsOpen, load.abandoned], [0, 0]);
});
