// Traces as a collector gets them: the caller's trace goes on through the gateway, its stores and their statements, and nothing that
// clients keep is in it.

import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { randomBytes } from 'node:crypto';
import { encodeRangeRequest } from '../src/etcd/codec/kv.ts';
import { encode } from '../src/etcd/wire.ts';
import { EtcdClient } from './conformance/client.ts';
import { rangeRequest } from './conformance/requests.ts';
import { startCollector, type ReceivedSpan, type TestCollector } from './servers/collector.ts';
import {
  freePort,
  testEtcd,
  startSwitchyard,
  testDatabase,
  waitFor,
  type SqlEngine,
} from './servers/index.ts';

const key = '/registry/secrets/default/geheimer-name';
const value = 'geheimer-inhalt';
const put = encode([key, value] as const, (writer, [name, content]) => {
  writer.string(1, name);
  writer.string(2, content);
});
const get = encodeRangeRequest(rangeRequest(key));
const always = ['--distributed-tracing-sampling-rate', '1000000'];

const tracingFlags = (address: string) => [
  '--enable-distributed-tracing',
  '--distributed-tracing-address',
  address,
  '--distributed-tracing-instance-id',
  'here',
];

/** A caller with a span of its own. */
function callerOf(t: ExecutionContext, endpoint: string) {
  const client = new Client(new URL(endpoint).host, credentials.createInsecure());
  t.teardown(() => client.close());
  const same = (bytes: Buffer) => bytes;
  return async (method: string, request: Buffer, { isSampled = true } = {}) => {
    const [traceId, spanId] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')];
    const metadata = new Metadata();
    metadata.set('traceparent', `00-${traceId}-${spanId}-0${isSampled ? 1 : 0}`);
    const error = await new Promise<ServiceError | null>((resolve) =>
      client.makeUnaryRequest(`/etcdserverpb.KV/${method}`, same, same, request, metadata, resolve),
    );
    return { traceId, spanId, error };
  };
}

async function spansOf(
  { spans }: TestCollector,
  traceId: string,
  isThere: (span: ReceivedSpan) => boolean,
): Promise<readonly ReceivedSpan[]> {
  const mine = () => spans.filter((span) => span.traceId === traceId);
  await waitFor(() => mine().some(isThere), { what: 'the spans of a trace', deadlineMs: 30_000 });
  return mine();
}

const isServer = ({ kind }: ReceivedSpan) => kind === 2;
const isWithin = (inner: ReceivedSpan, outer: ReceivedSpan) =>
  inner.parentId === outer.spanId && inner.startNs >= outer.startNs && inner.endNs <= outer.endNs;

const systems: Readonly<Record<SqlEngine, string>> = {
  sqlite: 'sqlite',
  postgres: 'postgresql',
  mysql: 'mysql',
};

for (const [engine, system] of Object.entries(systems) as [SqlEngine, string][]) {
  test(`${engine}: calls, stores and statements are in the caller's trace`, async (t) => {
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    t.teardown(() => database.dispose());
    const collector = await startCollector();
    t.teardown(() => collector.dispose());
    const args = tracingFlags(collector.address);
    const gateway = await startSwitchyard({ defaultEndpoint: database.url, args });
    t.teardown(() => gateway.dispose());
    const call = callerOf(t, gateway.endpoint);
    for (const [method, request, operation] of [
      ['Put', put, 'txn'],
      ['Range', get, 'range'],
    ] as const) {
      const caller = await call(method, request);
      t.is(caller.error, null);
      const found = await spansOf(collector, caller.traceId, isServer);
      const served = found.find(isServer)!;
      t.is(served.parentId, caller.spanId);
      t.like(served, {
        service: 'switchyard',
        instance: 'here',
        name: `etcdserverpb.KV/${method}`,
        attributes: {
          'rpc.system': 'grpc',
          'rpc.service': 'etcdserverpb.KV',
          'rpc.method': method,
          'rpc.grpc.status_code': '0',
          'switchyard.store': 'default',
        },
        status: { code: 0 },
      });
      const store = found.find(({ name }) => name === `store.${operation}`)!;
      t.true(isWithin(store, served));
      const statements = found.filter(({ parentId }) => parentId === store.spanId);
      t.true(statements.length > 0);
      for (const statement of statements) {
        t.true(isWithin(statement, store));
        t.is(statement.attributes['db.system.name'], system);
        t.is(statement.attributes['db.query.summary'], statement.name);
      }
      t.true(statements.some(({ attributes }) => /switchyard_/u.test(String(attributes['db.query.text']))));
      t.is(found.length, 2 + statements.length);
    }
    const unsampled = await call('Range', get, { isSampled: false });
    const failed = await call('Range', encodeRangeRequest(rangeRequest('')));
    t.like((await spansOf(collector, failed.traceId, isServer)).find(isServer), {
      attributes: { 'rpc.grpc.status_code': '3' },
      // The client's fault is not the server's.
      status: { code: 0 },
    });
    t.false(collector.spans.some(({ traceId }) => traceId === unsampled.traceId));
    const text = JSON.stringify(collector.spans, (_, part: unknown) => (typeof part === 'bigint' ? 0 : part));
    t.notRegex(text, /geheim|67656865696d|Z2VoZWlt/iu);
  });
}

test('many calls in one batch: its statements are in the trace of each', async (t) => {
  const collector = await startCollector();
  t.teardown(() => collector.dispose());
  const gateway = await startSwitchyard({ args: tracingFlags(collector.address) });
  t.teardown(() => gateway.dispose());
  const call = callerOf(t, gateway.endpoint);
  const callers = await Promise.all(Array.from({ length: 8 }, () => call('Put', put)));
  for (const { traceId, spanId } of callers) {
    const found = await spansOf(collector, traceId, isServer);
    t.is(found.find(isServer)!.parentId, spanId);
    t.true(found.some(({ attributes }) => 'db.system.name' in attributes));
    const ids = new Set(found.map((span) => span.spanId));
    t.true(found.every((span) => isServer(span) || ids.has(span.parentId)));
  }
});

test('an etcd behind the gateway goes on with the trace', async (t) => {
  const collector = await startCollector();
  t.teardown(() => collector.dispose());
  const etcd = await testEtcd({
    args: [
      '--enable-distributed-tracing',
      `--distributed-tracing-address=${collector.address}`,
      '--distributed-tracing-service-name=etcd',
    ],
  });
  t.teardown(() => etcd.dispose());
  const args = tracingFlags(collector.address);
  const gateway = await startSwitchyard({ defaultEndpoint: etcd.endpoint, args });
  t.teardown(() => gateway.dispose());
  const caller = await callerOf(t, gateway.endpoint)('Put', put);
  t.is(caller.error, null);
  const found = await spansOf(collector, caller.traceId, ({ service }) => service === 'etcd');
  await spansOf(collector, caller.traceId, ({ service, kind }) => service === 'switchyard' && kind === 2);
  const ours = collector.spans.filter(
    (span) => span.traceId === caller.traceId && span.service === 'switchyard',
  );
  const served = ours.find(isServer)!;
  const asked = ours.find(({ kind }) => kind === 3)!;
  t.is(served.parentId, caller.spanId);
  t.true(isWithin(asked, served));
  t.is(asked.name, 'etcdserverpb.KV/Put');
  t.is(found.find(({ service, kind }) => service === 'etcd' && kind === 2)?.parentId, asked.spanId);
});

test('traces that begin here are recorded by the rate, and none without the flag', async (t) => {
  const collector = await startCollector();
  t.teardown(() => collector.dispose());
  const flags = tracingFlags(collector.address);
  const [all, none, off] = await Promise.all([
    startSwitchyard({ args: [...flags, ...always] }),
    startSwitchyard({ args: flags }),
    startSwitchyard({ env: { ...process.env, OTEL_EXPORTER_OTLP_ENDPOINT: `http://${collector.address}` } }),
  ]);
  t.teardown(() => Promise.all([all, none, off].map((gateway) => gateway.dispose())));
  for (const gateway of [none, off, all]) {
    const client = new EtcdClient(gateway.endpoint);
    t.teardown(() => client.close());
    await client.put('a', '1');
    // What is left is sent at a stop.
    await gateway.kill('SIGTERM');
    t.is(gateway.exitCode, 0, gateway.logs());
  }
  const roots = collector.spans.filter(({ parentId }) => parentId === '');
  t.deepEqual(
    roots.map(({ name }) => name),
    ['etcdserverpb.KV/Put'],
  );
});

test('a collector that is away costs the gateway nothing but spans, and gets them when it is there', async (t) => {
  const port = await freePort();
  const gateway = await startSwitchyard({ args: tracingFlags(`127.0.0.1:${port}`) });
  t.teardown(() => gateway.dispose());
  const call = callerOf(t, gateway.endpoint);
  const early = await call('Put', put);
  t.is(early.error, null);
  await waitFor(() => gateway.logs().includes('spans cannot be sent'), {
    what: 'the warning',
    deadlineMs: 30_000,
  });
  for (let n = 0; n < 3_000; n += 100) {
    const calls = Array.from({ length: 100 }, () => call('Range', get));
    t.true((await Promise.all(calls)).every(({ error }) => error === null));
  }
  const collector = await startCollector(port);
  t.teardown(() => collector.dispose());
  t.is((await spansOf(collector, early.traceId, isServer)).find(isServer)!.parentId, early.spanId);
  await waitFor(() => gateway.logs().includes('spans were dropped'), {
    what: 'the count',
    deadlineMs: 30_000,
  });
  const late = await call('Range', get);
  await spansOf(collector, late.traceId, isServer);
});
