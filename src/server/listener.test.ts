// The client port beside gRPC: HTTP/1 on the same port, garbage, silence, and the end of the server.

import test from 'ava';
import { connect } from 'node:net';
import { once } from 'node:events';
import { encodeRangeRequest } from '../etcd/codec/kv.ts';
import { decodeStatusResponse } from '../etcd/codec/maintenance.ts';
import { EtcdError } from '../etcd/errors.ts';
import { rangeRequest } from '../etcd/requests.ts';
import { clientPreface, frameFlag, frameType } from '../http2/frame.ts';
import { frameBytes } from '../http2/http2-fakes.ts';
import { parseListenUrl } from '../lib/listen-url.ts';
import { silentLogger } from '../lib/log.ts';
import { listen } from './listener.ts';
import { MemoryStore, memoryRouter, TestGateway } from './server-fakes.ts';

const someRange = encodeRangeRequest(rangeRequest(Buffer.from('a')));

/** Sends `bytes` and gives what comes back until the server closes. */
async function talk(url: string, bytes: Buffer | string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(bytes);
  await once(socket, 'close');
  return Buffer.concat(parts).toString('latin1');
}

test('http: /version and /health answer on the client port and on the metrics port', async (t) => {
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')));
  t.teardown(() => gateway.close());
  for (const url of [...gateway.server.clientUrls, ...gateway.server.metricsUrls]) {
    const version = (await (await fetch(`${url}/version`)).json()) as Record<string, string>;
    t.like(version, { etcdserver: '3.6.14', etcdcluster: '3.6.0', storage: '3.6.0' });
    t.deepEqual(await (await fetch(`${url}/health`)).json(), { health: 'true', reason: '' });
    t.is((await fetch(`${url}/nothing`)).status, 404);
    t.is((await fetch(`${url}/health`, { method: 'POST' })).status, 405);
  }
});

test('http: /readyz and Status name the store that fails and why, /livez and /health do not mind', async (t) => {
  const dead = new MemoryStore('dead');
  dead.failure = new EtcdError('timeout', { cause: new Error('password authentication failed') });
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default'), { d: dead }));
  t.teardown(() => gateway.close());
  const [url] = gateway.server.metricsUrls;
  const response = await fetch(`${url}/readyz`);
  t.is(response.status, 503);
  const text = await response.text();
  t.regex(text, /^\[\+\]store\/default ok$/m);
  t.regex(text, /^\[-\]store\/dead failed: not reached since the start: password authentication failed$/m);
  t.is((await fetch(`${url}/livez`)).status, 200);
  t.is((await fetch(`${url}/health`)).status, 200);
  const { errors } = decodeStatusResponse(await gateway.unary('Maintenance/Status', Buffer.alloc(0)));
  t.deepEqual(errors, [
    'switchyard: store dead does not answer: not reached since the start: password authentication failed',
  ]);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  t.regex(metrics, /^switchyard_store_up\{store="dead",.*\} 0$/m);
  t.regex(metrics, /^switchyard_placement_mismatch\{root="example.com\/things",.*\} 1$/m);
});

test('http: /readyz and /metrics name types whose store is not in the topology', async (t) => {
  const unserved = () => [{ root: 'example.com/things', store: 'gone' }];
  const gateway = await TestGateway.start({ ...memoryRouter(new MemoryStore('default')), unserved });
  t.teardown(() => gateway.close());
  const [url] = gateway.server.metricsUrls;
  const response = await fetch(`${url}/readyz`);
  t.is(response.status, 503);
  t.regex(await response.text(), /^\[-\]type\/example\.com\/things failed: its store gone is not in/m);
  t.is((await fetch(`${url}/health`)).status, 200);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  t.regex(metrics, /^switchyard_type_unserved\{root="example\.com\/things",store="gone"\} 1$/m);
});

test('http: /metrics explains every metric and names codes as gRPC does', async (t) => {
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')));
  t.teardown(() => gateway.close());
  await gateway.unary('KV/Range', someRange);
  await t.throwsAsync(gateway.unary('KV/Range', encodeRangeRequest(rangeRequest(Buffer.alloc(0)))));
  const metrics = await (await fetch(`${gateway.server.metricsUrls[0]}/metrics`)).text();
  t.regex(metrics, /^switchyard_build_info\{version="0\.0\.0"\} 1$/m);
  const range = 'grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Range"';
  const handled = (rest: string) => metrics.includes(`\ngrpc_server_handled_total{${range},${rest}} 1\n`);
  t.true(handled('store="default",grpc_code="OK"'), metrics);
  t.true(handled('store="default",grpc_code="InvalidArgument"'), metrics);
  t.true(metrics.includes(`\ngrpc_server_handling_seconds_count{${range},store="default"} 2\n`), metrics);
  t.regex(metrics, /^switchyard_connections 1$/m);
  t.regex(metrics, /^process_start_time_seconds \d{10}/m);
  const typed = [...metrics.matchAll(/^# TYPE (\w+)/gmu)].map(([, name]) => name);
  t.deepEqual(
    [...metrics.matchAll(/^# HELP (\w+) \S/gmu)].map(([, name]) => name),
    typed,
  );
});

test('http: a store that hangs fails its check and does not hold up the answer', async (t) => {
  const hung = new MemoryStore('hung');
  hung.hold = new Promise(() => undefined);
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default'), { h: hung }));
  t.teardown(() => gateway.close());
  const response = await fetch(`${gateway.server.metricsUrls[0]}/readyz`);
  t.is(response.status, 503);
  t.regex(await response.text(), /store\/hung failed: .*no answer within/);
});

test('port: garbage is answered with a 400 or a closed connection and hurts nobody', async (t) => {
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')));
  t.teardown(() => gateway.close());
  const url = gateway.server.clientUrls[0]!;
  t.regex(await talk(url, 'hello there\r\n\r\n'), /^HTTP\/1\.1 400/);
  // A TLS hello on a plain port.
  t.regex(await talk(url, Buffer.from('16030100f8010000f40303', 'hex')), /^HTTP\/1\.1 400/);
  // Begins like HTTP/2 and goes on like nothing.
  await talk(url, `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${'\xff'.repeat(100)}`);
  await gateway.unary('KV/Range', someRange);
  t.pass();
});

test('port: headers that are too large are counted as such', async (t) => {
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')));
  t.teardown(() => gateway.close());
  const refusals = async () => {
    const page = await (await fetch(`${gateway.server.metricsUrls[0]}/metrics`)).text();
    const found = page.matchAll(/^switchyard_client_refusals_total\{limit="(\w+)"\} ([1-9]\d*)$/gmu);
    return [...found].map(([, limit, count]) => `${limit}: ${count}`);
  };
  const greeting = Buffer.concat([clientPreface, frameBytes(frameType.settings, 0, 0, Buffer.alloc(0))]);
  const whole = frameFlag.endHeaders | frameFlag.endStream;
  // Two thousand times `:method: GET`, of one byte each: the request is refused, and the connection ends with what is none.
  const many = frameBytes(frameType.headers, whole, 1, Buffer.alloc(2_000, 0x82));
  await talk(gateway.server.clientUrls[0]!, Buffer.concat([greeting, many, Buffer.alloc(100, 0xff)]));
  t.deepEqual(await refusals(), ['headers: 1']);
  // A block that does not end: the connection is closed.
  const frame = (type: number) => frameBytes(type, 0, 1, Buffer.alloc(16_384));
  const parts = [frame(frameType.headers), ...Array.from({ length: 5 }, () => frame(frameType.continuation))];
  await talk(gateway.server.clientUrls[0]!, Buffer.concat([greeting, ...parts]));
  t.deepEqual(await refusals(), ['headers: 2']);
});

test('port: a preface that comes byte by byte is still HTTP/2', async (t) => {
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')));
  t.teardown(() => gateway.close());
  const socket = connect(Number(new URL(gateway.server.clientUrls[0]!).port), '127.0.0.1');
  t.teardown(() => socket.destroy());
  socket.setNoDelay(true);
  await once(socket, 'connect');
  const preface = Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    Buffer.from('000000040000000000', 'hex'),
  ]);
  for (const byte of preface) {
    socket.write(Buffer.from([byte]));
    await new Promise(setImmediate);
  }
  const [frame] = (await once(socket, 'data')) as [Buffer];
  // The server's SETTINGS frame.
  t.is(frame[3], 4);
});

test('drain: a call under way is finished, new connections are refused', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store));
  const held = Promise.withResolvers<void>();
  await gateway.unary('KV/Range', someRange);
  store.hold = held.promise;
  const call = gateway.unary('KV/Range', someRange);
  const url = gateway.server.clientUrls[0]!;
  // Probes hang with the store, so wait for the call through what it holds: one turn of the loop per hop.
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
  const drained = gateway.server.drain();
  await t.throwsAsync(fetch(`${url}/version`));
  held.resolve();
  await t.notThrowsAsync(call);
  await drained;
  await gateway.close();
});

test('drain: a call that never ends is cut off after the drain timeout', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store), { drainTimeoutMs: 50 });
  await gateway.unary('KV/Range', someRange);
  store.hold = new Promise(() => undefined);
  const call = gateway.unary('KV/Range', someRange);
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
  await Promise.all([gateway.server.drain(), t.throwsAsync(call)]);
  await gateway.close();
});

test('listener: a connection that stops in the middle of an HTTP request is closed', async (t) => {
  const open = async (options: { readonly silenceTimeoutMs?: number }) => {
    const listener = await listen({
      url: parseListenUrl('http://127.0.0.1:0')!,
      injectHttp2: () => t.fail(),
      handleHttp: (_, response) => response.end('whole'),
      logger: silentLogger,
      ...options,
    });
    t.teardown(async () => {
      listener.destroy();
      await listener.stopAccepting();
    });
    return listener.url;
  };
  const impatient = await open({ silenceTimeoutMs: 50 });
  t.is(await talk(impatient, ''), '');
  t.is(await talk(impatient, 'GET /livez HTTP/1.1\r\nHost:'), '');
  // On a machine that is busy a whole request may take longer than that.
  const patient = await open({});
  t.regex(await talk(patient, 'GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'), /whole/);
});
