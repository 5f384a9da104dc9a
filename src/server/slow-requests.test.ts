// Slow requests in the log: what is told of them and what is not, and the ids by which requests are found again.

import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { encodeRangeRequest } from '../etcd/codec/kv.ts';
import { rangeRequest } from '../etcd/requests.ts';
import { encode } from '../etcd/wire.ts';
import { until } from '../http2/http2-fakes.ts';
import { systemClock } from '../lib/clock.ts';
import { createLogger, type LogLevel } from '../lib/log.ts';
import { MemoryStore, memoryRouter, TestGateway } from './server-fakes.ts';

interface Line {
  readonly message: string;
  readonly request: string;
  readonly ms: number;
  readonly waitedMs: number;
  readonly databaseMs: number;
  readonly sentMs: number;
  readonly lines?: number;
}

async function setUp(
  t: ExecutionContext,
  { level = 'info', atLeastMs = 20 }: { level?: LogLevel; atLeastMs?: number },
) {
  const lines: Line[] = [];
  const logger = createLogger({
    level,
    format: 'json',
    write: (line) => void lines.push(JSON.parse(line) as Line),
  });
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store), { logger, slowRequestsMs: atLeastMs });
  const client = new Client(new URL(gateway.server.clientUrls[0]!).host, credentials.createInsecure());
  t.teardown(() => gateway.close());
  t.teardown(() => client.close());
  const same = (bytes: Buffer) => bytes;
  /** The trailing metadata of a call, or of its failure. */
  const ask = (method: string, request: Buffer, requestId?: string) =>
    new Promise<Metadata>((resolve) => {
      const metadata = new Metadata();
      if (requestId !== undefined) metadata.set('x-request-id', requestId);
      const done = (error: ServiceError | null) => error !== null && resolve(error.metadata);
      client
        .makeUnaryRequest(`/etcdserverpb.KV/${method}`, same, same, request, metadata, done)
        .on('status', (status) => resolve(status.metadata));
    });
  const [range, txn] = [store.range.bind(store), store.txn.bind(store)];
  /** From now on the store takes so long for an answer. */
  const pause = (ms: number) => {
    const slowly = async <T>(work: Promise<T>): Promise<T> => {
      await systemClock.sleep(ms);
      return await work;
    };
    store.range = (request) => slowly(range(request));
    store.txn = (request) => slowly(txn(request));
  };
  const slow = () => lines.filter(({ message }) => message === 'slow request');
  return { gateway, store, lines, slow, ask, pause };
}

const get = encodeRangeRequest(rangeRequest(Buffer.from('secret-key')));
const put = encode(['secret-key', 'secret-value'] as const, (writer, [key, value]) => {
  writer.string(1, key);
  writer.string(2, value);
});

test('slow requests: are told with store, type and where the time went, never with keys or values', async (t) => {
  const { ask, pause, slow, lines } = await setUp(t, {});
  await ask('Put', put);
  pause(50);
  await ask('Put', put, 'mine-1');
  await ask('Range', get);
  t.is(slow().length, 2);
  const [written, read] = slow();
  t.like(written, {
    request: 'mine-1',
    method: '/etcdserverpb.KV/Put',
    store: 'default',
    type: 'type s',
    code: 0,
  });
  t.like(read, { method: '/etcdserverpb.KV/Range' });
  for (const { ms, waitedMs, databaseMs, sentMs } of slow()) {
    t.true(ms >= 20 && sentMs === 0, `${ms} ${sentMs}`);
    t.true(Math.abs(ms - waitedMs - databaseMs - sentMs) < 1);
  }
  t.notRegex(JSON.stringify(lines), /secret/);
});

test('slow requests: keys are told when the log is for debugging, values never', async (t) => {
  const { ask, pause, slow, lines } = await setUp(t, { level: 'debug' });
  pause(50);
  await ask('Put', put);
  t.like(slow()[0], { keys: [['secret-key']] });
  t.notRegex(JSON.stringify(lines), /secret-value/);
});

test('slow requests: are told up to a bound, and then counted', async (t) => {
  const { gateway, ask, slow, lines } = await setUp(t, { atLeastMs: 0.000_001 });
  await Promise.all(Array.from({ length: 50 }, () => ask('Range', get)));
  t.is(slow().length, 20);
  await gateway.close();
  t.like(
    lines.find(({ message }) => message === 'more slow requests are not told one by one'),
    { lines: 30 },
  );
});

test('slow requests: the time that a client takes for its answer is told as that', async (t) => {
  const { gateway, store, slow } = await setUp(t, {});
  store.put('l', 'x'.repeat(1_000_000));
  const client = new Client(new URL(gateway.server.clientUrls[0]!).host, credentials.createInsecure());
  t.teardown(() => client.close());
  const same = (bytes: Buffer) => bytes;
  const request = encodeRangeRequest(rangeRequest(Buffer.from('l')));
  // A client that reads nothing: what fits its window is all it gets.
  const call = client.makeServerStreamRequest('/etcdserverpb.KV/Range', same, same, request, new Metadata());
  const ended = new Promise((resolve) => call.on('status', resolve));
  call.pause();
  await systemClock.sleep(50);
  t.is(slow().length, 0);
  call.resume();
  call.on('data', () => undefined);
  await ended;
  await until(() => slow().length === 1, 'the line');
  const { ms, sentMs } = slow()[0]!;
  t.true(sentMs > 0 && sentMs <= ms, `${sentMs} of ${ms}`);
});

test('request id: what the client gave comes back, and a failure has one in any case', async (t) => {
  const { ask, lines } = await setUp(t, { level: 'debug' });
  t.deepEqual((await ask('Range', get)).get('x-request-id'), []);
  t.deepEqual((await ask('Range', get, 'mine-2')).get('x-request-id'), ['mine-2']);
  const empty = encodeRangeRequest(rangeRequest(Buffer.alloc(0)));
  const [own] = (await ask('Range', empty)).get('x-request-id');
  t.regex(String(own), /^[0-9a-f]{10}-/);
  t.deepEqual((await ask('Range', empty, 'mine-3')).get('x-request-id'), ['mine-3']);
  const failed = lines.filter(({ message }) => message === 'call failed');
  t.deepEqual(
    failed.map(({ request }) => request),
    [String(own), 'mine-3'],
  );
});
