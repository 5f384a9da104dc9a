// What the health pages and the health service say while a server starts, serves, misses a store and stops.

import { Client, credentials, Metadata } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { servingStatus } from '../etcd/codec/maintenance.ts';
import { EtcdError } from '../etcd/errors.ts';
import { WireReader, WireWriter } from '../etcd/wire.ts';
import { until } from '../http2/http2-fakes.ts';
import { systemClock } from '../lib/clock.ts';
import { silentLogger } from '../lib/log.ts';
import type { Router } from '../router/router.ts';
import { health, livez, readyz, version } from './health-pages.ts';
import { LifeCycle } from './life-cycle.ts';
import { createReadiness } from './readiness.ts';
import { MemoryStore, memoryRouter, TestGateway } from './server-fakes.ts';
import type { ServerOptions } from './server.ts';

const none = new URLSearchParams();
const statusNames = new Map(Object.entries(servingStatus).map(([name, value]) => [value, name]));

/** The pages of a server in the phase that the test says. */
function pagesOf(t: ExecutionContext, router: Router) {
  const lifeCycle = new LifeCycle();
  const readiness = createReadiness({
    stores: () => router.stores(),
    clock: systemClock,
    logger: silentLogger,
  });
  t.teardown(() => readiness.close());
  return { lifeCycle, options: { readiness, router, lifeCycle, version: '0.0.0' } };
}

function encodeService(service: string): Buffer {
  const writer = new WireWriter();
  writer.string(1, service);
  return writer.finish();
}

function statusIn(response: Buffer): string | undefined {
  const reader = new WireReader(response);
  let status = 0;
  for (let field = reader.next(); field !== 0; field = reader.next()) status = reader.enum();
  return statusNames.get(status as never);
}

/** A gateway and its health service. */
async function setUp(t: ExecutionContext, router: Router, options: Partial<ServerOptions> = {}) {
  const gateway = await TestGateway.start(router, options);
  const client = new Client(new URL(gateway.server.clientUrls[0]!).host, credentials.createInsecure());
  t.teardown(() => gateway.close());
  t.teardown(() => client.close());
  const same = (bytes: Buffer) => bytes;
  const check = (service: string) =>
    new Promise<string | undefined>((resolve, reject) =>
      client.makeUnaryRequest(
        '/grpc.health.v1.Health/Check',
        same,
        same,
        encodeService(service),
        new Metadata(),
        (error, response) => (error === null ? resolve(statusIn(response!)) : reject(error)),
      ),
    );
  /** What a watch is told, in order; its end last. */
  const watch = (service: string): (string | undefined)[] => {
    const told: (string | undefined)[] = [];
    client
      .makeServerStreamRequest(
        '/grpc.health.v1.Health/Watch',
        same,
        same,
        encodeService(service),
        new Metadata(),
      )
      .on('data', (response: Buffer) => told.push(statusIn(response)))
      .on('error', (error) => told.push(error.message));
    return told;
  };
  const page = async (path: string) => {
    const response = await fetch(`${gateway.server.metricsUrls[0]}${path}`);
    return `${response.status} ${(await response.text()).trim()}`;
  };
  return { gateway, check, watch, page };
}

test('health: a start shows until all addresses are listened on', async (t) => {
  const { lifeCycle, options } = pagesOf(t, memoryRouter(new MemoryStore('default')));
  const started = await readyz('', none, options);
  t.is(started.code, 503);
  t.is(
    started.body,
    '[+]ping ok\n[-]startup failed: not all addresses are listened on yet\n[+]store/default ok\n[+]shutdown ok\nreadyz check failed\n',
  );
  t.deepEqual(await health(options), { code: 503, body: { health: 'false', reason: 'starting' } });
  t.like((await version(options)).body, { state: 'starting', etcdserver: '3.6.14' });
  t.is(livez('', none).code, 200);
  lifeCycle.enter('serving');
  t.deepEqual(await readyz('', none, options), { code: 200, body: 'ok\n' });
  t.like((await version(options)).body, { state: 'serving' });
});

test('health: a store that was not reached since the start is told apart from one that is lost', async (t) => {
  const store = new MemoryStore('late');
  store.failure = new Error('connection refused');
  const { check, page, watch } = await setUp(t, memoryRouter(new MemoryStore('default'), { l: store }));
  t.regex(
    await page('/readyz'),
    /^\[-\]store\/late failed: not reached since the start: connection refused$/m,
  );
  t.regex(await page('/version'), /"state":"degraded"/);
  t.deepEqual([await check(''), await check('late')], ['serving', 'notServing']);
  const told = watch('late');
  await until(() => told.length === 1, 'the first word');
  store.failure = undefined;
  await waitForPage(page, '/readyz', '200 ok');
  await until(() => told.length === 2, 'the news');
  t.regex(await page('/version'), /"state":"serving"/);
  store.failure = new Error('connection refused');
  await waitForPage(page, '/readyz', /^503 .*^\[-\]store\/late failed: connection refused$/msu);
  await until(() => told.length === 3, 'the news');
  t.deepEqual(told, ['notServing', 'serving', 'notServing']);
  t.is(await page('/livez'), '200 ok');
  t.is(await page('/health'), '200 {"health":"true","reason":""}');
});

test('health: a lost default store ends what is told of the whole, and not the version', async (t) => {
  const store = new MemoryStore('default');
  const found = { ...(await store.status()), version: '3.5.21' };
  store.status = () => Promise.resolve(found);
  const { check, page, watch } = await setUp(t, memoryRouter(store));
  t.is(await page('/health'), '200 {"health":"true","reason":""}');
  const told = watch('');
  await until(() => told.length === 1, 'the first word');
  store.status = () => Promise.reject(new EtcdError('timeout', { cause: new Error('no route') }));
  await waitForPage(page, '/health', '503 {"health":"false","reason":"no route"}');
  await until(() => told.length === 2, 'the news');
  t.deepEqual(told, ['serving', 'notServing']);
  t.is(await check(''), 'notServing');
  t.regex(await page('/version'), /"etcdserver":"3\.5\.21","etcdcluster":"3\.5\.0".*"state":"degraded"/);
});

test('health: a stop is told at once, while clients are still served', async (t) => {
  const { gateway, check, page, watch } = await setUp(t, memoryRouter(new MemoryStore('default')), {
    shutdownDelayMs: 60_000,
    clock: {
      ...systemClock,
      sleep: (ms, signal) => (ms === 60_000 ? delay.promise : systemClock.sleep(ms, signal)),
    },
  });
  const delay = Promise.withResolvers<void>();
  const told = watch('default');
  await until(() => told.length === 1, 'the first word');
  const drained = gateway.server.drain();
  await until(() => told.length === 2, 'the news');
  t.deepEqual(told, ['serving', 'notServing']);
  t.regex(await page('/readyz'), /^503 .*^\[-\]shutdown failed: switchyard is stopping$/msu);
  t.is(await page('/readyz?exclude=shutdown'), '200 ok');
  t.is(await page('/health'), '503 {"health":"false","reason":"stopping"}');
  t.regex(await page('/version'), /"state":"stopping"/);
  t.is(await page('/livez'), '200 ok');
  // A new connection of a client that does not know yet.
  t.is((await fetch(`${gateway.server.clientUrls[0]}/livez`)).status, 200);
  t.deepEqual([await check(''), await check('default')], ['notServing', 'notServing']);
  delay.resolve();
  await drained;
  await until(() => told.length === 3, 'the end');
  t.is(told[2], '14 UNAVAILABLE: etcdserver: server stopped');
});

test('health: without a delay a watch still hears of the stop before its end', async (t) => {
  const { gateway, watch } = await setUp(t, memoryRouter(new MemoryStore('default')));
  const told = watch('');
  await until(() => told.length === 1, 'the first word');
  await gateway.server.drain();
  await until(() => told.length === 3, 'the end');
  t.deepEqual(told, ['serving', 'notServing', '14 UNAVAILABLE: etcdserver: server stopped']);
});

test('health: single checks, verbose and exclude are as in Kubernetes', async (t) => {
  const store = new MemoryStore('down');
  store.failure = new Error('away');
  const unserved = () => [{ root: 'example.com/things', store: 'gone' }];
  const router = { ...memoryRouter(new MemoryStore('default'), { d: store }), unserved };
  const { page } = await setUp(t, router);
  t.is(await page('/livez?verbose'), '200 [+]ping ok\nlivez check passed');
  t.is(await page('/livez/ping'), '200 ok');
  t.is(await page('/readyz/store/default'), '200 ok');
  t.regex(await page('/readyz/store/down'), /^503 \[-\]store\/down failed: .*away$/);
  t.regex(
    await page('/readyz/type/example.com/things'),
    /^503 \[-\]type\/example\.com\/things failed: its store gone/,
  );
  t.is(await page('/readyz/type/example.com/others'), '200 ok');
  t.regex(await page('/readyz/nothing'), /^404 Expected \/readyz\/ping, /);
  const query = '?verbose&exclude=store/down&exclude=type/example.com/things&exclude=nothing';
  t.is(
    await page(`/readyz${query}`),
    [
      '200 [+]ping ok',
      '[+]startup ok',
      '[+]store/default ok',
      '[+]store/down excluded: ok',
      '[+]type/example.com/things excluded: ok',
      '[+]shutdown ok',
      'warn: some health checks cannot be excluded: no matches for "nothing"',
      'readyz check passed',
    ].join('\n'),
  );
  t.is(await page('/readyz%zz'), '404 Expected /livez, /readyz, /health, /version or /metrics');
});

/** Stores are asked anew when the last answer is half a second old. */
async function waitForPage(
  page: (path: string) => Promise<string>,
  path: string,
  expected: string | RegExp,
): Promise<void> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const text = await page(path);
    if (typeof expected === 'string' ? text === expected : expected.test(text)) return;
    if (performance.now() > deadline) throw new Error(`Expected ${String(expected)}, got ${text}`);
    await systemClock.sleep(20);
  }
}
