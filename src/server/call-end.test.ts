// The ends of calls, and what makes them wait: what is counted, and what handlers hear, over a connection whose client the test plays.

import test from 'ava';
import { duplexPair } from 'node:stream';
import { acceptCall, type IncomingCall } from '../grpc/incoming-call.ts';
import { grpcCode } from '../grpc/codes.ts';
import { messagePrefix } from '../grpc/message.ts';
import { StatusError, statusIn } from '../grpc/status.ts';
import { clientPreface, errorCode, frameFlag, frameType } from '../http2/frame.ts';
import { HeaderDecoder, type HeaderFields } from '../http2/hpack.ts';
import { RawPeer, turns, until } from '../http2/http2-fakes.ts';
import { ServerConnection } from '../http2/server-connection.ts';
import { systemClock } from '../lib/clock.ts';
import { silentLogger } from '../lib/log.ts';
import { CallAdapters, type Serve, type StreamHandler } from './call.ts';
import { ClientLoads } from './client-load.ts';
import { FailureLog } from './failure-log.ts';
import { CallMetrics, codeNames } from './metrics/calls.ts';

const path = '/x.X/Y';
const head: HeaderFields = [
  ':method',
  'POST',
  ':scheme',
  'http',
  ':path',
  path,
  'content-type',
  'application/grpc',
];

function setUp(make: (adapters: CallAdapters) => Serve, messageBytesMax = 1_000) {
  const shutdown = new AbortController();
  const metrics = new CallMetrics();
  const adapters = new CallAdapters({
    failures: new FailureLog({ logger: silentLogger, clock: systemClock }),
    metrics,
    observer: {},
    shutdown: shutdown.signal,
    onBroken: (error) => {
      throw error;
    },
  });
  const serve = make(adapters);
  const refusals: string[] = [];
  const loads = new ClientLoads({
    refused: (tooMuch, path_) => {
      refusals.push(tooMuch);
      if (path_ !== undefined) metrics.refused(path_, grpcCode.resourceExhausted);
    },
  });
  const load = loads.newClient(() => undefined);
  const [socket, other] = duplexPair();
  const connection = new ServerConnection({
    socket,
    streamWindowBytes: 65_535,
    connectionWindowBytes: 65_535,
    onStream: (stream, fields) =>
      acceptCall(stream, fields, {
        messageBytesMax,
        load,
        serve: (call: IncomingCall) => (call.path === path ? serve(call, load) : undefined),
      }),
  });
  const peer = new RawPeer(other);
  other.write(clientPreface);
  peer.settings();
  /** How calls have ended, by code, and how many have not. */
  const counted = () =>
    [...metrics.methods()].flatMap(({ byStore, started, ended }) => {
      const codes = [...byStore.values()].flatMap((calls) =>
        calls.codes.flatMap((count, code) => (count > 0 ? [`${codeNames[code]} ${count}`] : [])),
      );
      return [...codes, `open ${started - ended}`];
    });
  /** The last headers of a stream. */
  const statusOf = (streamId: number) => {
    const decoder = new HeaderDecoder({ tableBytesMax: 4_096, listBytesMax: 65_536 });
    const last = peer.of(frameType.headers, streamId).at(-1);
    return last === undefined ? undefined : statusIn(decoder.decode(last.payload)!);
  };
  const send = (streamId: number, message: string, isEnd = false) =>
    peer.send(
      frameType.data,
      isEnd ? frameFlag.endStream : 0,
      streamId,
      Buffer.concat([messagePrefix(message.length), Buffer.from(message)]),
    );
  return { adapters, shutdown, connection, peer, metrics, counted, statusOf, send, load, refusals };
}

/** Reads all messages; what became of the reading is in `ends`. */
function reader() {
  const read: string[] = [];
  const ends: string[] = [];
  const handler: StreamHandler = async (stream) => {
    try {
      for await (const message of stream) read.push(message.toString());
      ends.push('whole');
    } catch (error) {
      ends.push((error as Error).name);
      throw error;
    }
  };
  return { read, ends, handler };
}

test('call: a stream that the client resets is canceled for its reader too, and counted so', async (t) => {
  const { read, ends, handler } = reader();
  const { adapters, peer, counted, send } = setUp((of) => of.bidi(path, handler));
  peer.headers(1, head);
  send(1, 'first');
  await until(() => read.length === 1, 'a message');
  t.is(adapters.streamsOpen, 1);
  peer.reset(1, errorCode.cancel);
  await adapters.idle();
  t.deepEqual(ends, ['AbortError']);
  t.deepEqual(counted(), ['Canceled 1', 'open 0']);
});

test('call: a client that half-closes is read to the end', async (t) => {
  const { read, ends, handler } = reader();
  const { adapters, peer, counted, send, statusOf } = setUp((of) => of.bidi(path, handler));
  peer.headers(1, head);
  send(1, 'first');
  send(1, 'last', true);
  await until(() => statusOf(1) !== undefined, 'a status');
  await adapters.idle();
  t.deepEqual([read, ends], [['first', 'last'], ['whole']]);
  t.deepEqual(counted(), ['OK 1', 'open 0']);
});

test('call: one whose deadline is over is counted as that', async (t) => {
  const { ends, handler } = reader();
  const { adapters, peer, counted, statusOf } = setUp((of) => of.bidi(path, handler));
  peer.headers(1, [...head, 'grpc-timeout', '1m']);
  await until(() => statusOf(1) !== undefined, 'a status');
  t.deepEqual(statusOf(1), { code: grpcCode.deadlineExceeded, details: 'context deadline exceeded' });
  await adapters.idle();
  t.deepEqual(ends, ['AbortError']);
  t.deepEqual(counted(), ['DeadlineExceeded 1', 'open 0']);
});

test('call: a message that is too large ends the handler, and is counted as that', async (t) => {
  const { ends, handler } = reader();
  const { adapters, peer, counted, statusOf } = setUp((of) => of.bidi(path, handler), 3);
  peer.headers(1, head);
  peer.send(frameType.data, 0, 1, messagePrefix(4));
  await until(() => statusOf(1) !== undefined, 'a status');
  await adapters.idle();
  t.deepEqual(ends, ['AbortError']);
  t.deepEqual(counted(), ['ResourceExhausted 1', 'open 0']);
});

test('call: one that is refused for what its client holds is counted once, said in part or not begun', async (t) => {
  const { read, handler } = reader();
  const make = (of: CallAdapters) => of.bidi(path, handler);
  const { adapters, peer, counted, statusOf, load, refusals } = setUp(make, 100_000);
  peer.headers(1, head);
  await turns();
  load.asked.add(2 ** 30);
  const part = Buffer.concat([messagePrefix(60_000), Buffer.alloc(15_000)]);
  peer.send(frameType.data, 0, 1, part);
  await until(() => statusOf(1) !== undefined, 'a status');
  await adapters.idle();
  t.deepEqual(read, []);
  t.deepEqual(counted(), ['ResourceExhausted 1', 'open 0']);
  peer.headers(3, head);
  await until(() => statusOf(3) !== undefined, 'another status');
  t.deepEqual(counted(), ['ResourceExhausted 2', 'open 0']);
  t.deepEqual(refusals, ['asked', 'asked']);
  load.asked.drop(2 ** 30);
});

test('call: requests that cannot be read, or never come whole, are counted as how they ended', async (t) => {
  const { peer, counted, send, statusOf } = setUp((of) => of.unary(path, async (request) => request), 10);
  peer.headers(1, head, true);
  await until(() => statusOf(1) !== undefined, 'a status');
  peer.headers(3, head);
  send(3, 'too long for that');
  await until(() => statusOf(3) !== undefined, 'a status');
  peer.headers(5, [...head, 'grpc-timeout', '1m']);
  await until(() => statusOf(5) !== undefined, 'a status');
  peer.headers(7, head);
  peer.reset(7, errorCode.cancel);
  peer.headers(9, head);
  send(9, 'fine', true);
  await until(() => statusOf(9) !== undefined, 'a status');
  const codes = ['OK 1', 'Canceled 1', 'DeadlineExceeded 1', 'ResourceExhausted 1', 'Internal 1'];
  t.deepEqual(counted(), [...codes, 'open 0']);
});

test('call: one that is done only after its deadline is counted as what its client was told', async (t) => {
  const work = Promise.withResolvers<Buffer>();
  let begun = 0;
  const { adapters, peer, metrics, counted, send, statusOf } = setUp((of) =>
    of.unary(path, () => {
      begun++;
      return work.promise;
    }),
  );
  peer.headers(1, [...head, 'grpc-timeout', '200m']);
  send(1, 'do', true);
  await until(() => statusOf(1) !== undefined, 'a status');
  t.is(begun, 1);
  work.resolve(Buffer.from('done'));
  await adapters.idle();
  t.deepEqual(counted(), ['DeadlineExceeded 1', 'open 0']);
  t.is([...metrics.methods()][0]!.messagesSent, 0);
});

test('call: an error of an etcd is counted by its name, as one of ours', async (t) => {
  const details = 'etcdserver: mvcc: database space exceeded';
  const { adapters, peer, metrics, send } = setUp((of) =>
    of.unary(path, () => Promise.reject(new StatusError(grpcCode.resourceExhausted, details))),
  );
  peer.headers(1, head);
  send(1, 'put', true);
  await until(() => metrics.errors.size === 1, 'an error');
  await adapters.idle();
  t.deepEqual([...metrics.errors.values()], [new Map([['noSpace', 1]])]);
});

test('call: a stream that the server drains ends with Unavailable, and its reader with it', async (t) => {
  const { read, ends, handler } = reader();
  const { adapters, peer, shutdown, counted, statusOf, send } = setUp((of) => of.bidi(path, handler));
  peer.headers(1, head);
  send(1, 'first');
  await until(() => read.length === 1, 'a message');
  shutdown.abort();
  await until(() => statusOf(1) !== undefined, 'a status');
  t.deepEqual(statusOf(1), { code: grpcCode.unavailable, details: 'etcdserver: server stopped' });
  await adapters.idle();
  await until(() => ends.length === 1, 'the end of the reader');
  t.deepEqual(ends, ['AbortError']);
  t.deepEqual(counted(), ['Unavailable 1', 'open 0']);
});

test('call: a stream handler that throws at once ends its own call and no other', async (t) => {
  const { adapters, connection, peer, counted, statusOf } = setUp((of) =>
    of.bidi(path, () => {
      throw new Error('at once');
    }),
  );
  peer.headers(1, head);
  await until(() => statusOf(1) !== undefined, 'a status');
  t.is(statusOf(1)?.code, grpcCode.internal);
  await adapters.idle();
  t.true(connection.isOpen);
  t.deepEqual(counted(), ['Internal 1', 'open 0']);
});

test('call: what the client does not take holds its writer back, until it is taken or the call is over', async (t) => {
  const took: string[] = [];
  const { adapters, peer } = setUp((of) =>
    of.bidi(path, async (stream) => {
      for (const name of ['a', 'b', 'c', 'd']) {
        await stream.write(Buffer.alloc(60_000, name));
        took.push(name);
      }
    }),
  );
  peer.headers(1, head);
  // One is always on its way.
  await until(() => took.length === 2, 'two messages');
  await turns();
  t.deepEqual(took, ['a', 'b']);
  peer.windowUpdate(0, 1_000_000);
  peer.windowUpdate(1, 60_000);
  await until(() => took.length === 3, 'another message');
  await turns();
  t.deepEqual([took, peer.dataOf(1).length], [['a', 'b', 'c'], 65_535 + 60_000]);
  peer.reset(1, errorCode.cancel);
  await adapters.idle();
  t.deepEqual(took, ['a', 'b', 'c', 'd']);
});

test('call: a handler that does not read holds its client back', async (t) => {
  const reading = Promise.withResolvers<void>();
  const { peer, send, statusOf } = setUp(
    (of) =>
      of.bidi(path, async (stream) => {
        await reading.promise;
        for await (const message of stream) t.is(message.length, 16_000);
      }),
    16_000,
  );
  peer.headers(1, head);
  for (let count = 0; count < 4; count++) send(1, 'x'.repeat(16_000));
  await turns();
  t.is(peer.of(frameType.windowUpdate, 1).length, 0);
  reading.resolve();
  await until(() => peer.of(frameType.windowUpdate, 1).length > 0, 'a wider window');
  send(1, 'x'.repeat(16_000), true);
  await until(() => statusOf(1) !== undefined, 'a status');
  t.is(statusOf(1)?.code, grpcCode.ok);
});
