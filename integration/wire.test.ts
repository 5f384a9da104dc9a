// What lies below the messages: sizes, pings, many streams on one connection, metadata, TLS with and without client certificates;
// with switchyard started by its flags.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTls } from 'node:tls';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { decodeRangeResponse, encodeRangeRequest } from '../src/etcd/codec/kv.ts';
import { prefixRange } from '../src/etcd/range.ts';
import { EtcdClient } from './conformance/client.ts';
import { endOf, op, rangeRequest } from './conformance/requests.ts';
import { failure } from './conformance/scene.ts';
import { createCertificates, type Certificates } from './servers/certificates.ts';
import { skipped } from './servers/database.ts';
import {
  freePort,
  startSwitchyard,
  tempFolder,
  testEtcd,
  waitFor,
  type Switchyard,
} from './servers/index.ts';

const mebibyte = 1024 * 1024;
const streamsMany = 2_000;

let shared: Switchyard;

test.before('switchyard starts', async (t) => {
  shared = await startSwitchyard();
  t.pass();
});
test.after.always('switchyard stops', () => shared?.dispose());

function client(
  t: ExecutionContext,
  endpoint: string,
  options?: ConstructorParameters<typeof EtcdClient>[1],
) {
  const opened = new EtcdClient(endpoint, options);
  t.teardown(() => opened.close());
  return opened;
}

test('a request above 1.5 MiB is refused in the words of etcd, far above too', async (t) => {
  const etcd = client(t, shared.endpoint);
  await etcd.put('size/fits', Buffer.alloc(1.5 * mebibyte - 100));
  for (const size of [1.5 * mebibyte + 1, 3 * mebibyte, 7 * mebibyte]) {
    const refused = await failure(etcd.put('size/large', Buffer.alloc(size)));
    t.is(refused, '3 etcdserver: request is too large');
  }
  const success = [op.put('size/a', Buffer.alloc(mebibyte)), op.put('size/b', Buffer.alloc(mebibyte))];
  t.is(await failure(etcd.txn({ success })), '3 etcdserver: request is too large');
  t.is((await etcd.range('size/', { rangeEnd: endOf('size/') })).count, 1);
});

test('what no etcd would take ends the call and not the connection', async (t) => {
  const etcd = client(t, shared.endpoint);
  const refused = await failure(etcd.put('size/absurd', Buffer.alloc(20 * mebibyte)));
  t.regex(refused, /^8 /);
  t.is((await etcd.range('size/absurd')).count, 0);
});

test('an answer of many megabytes arrives', async (t) => {
  const etcd = client(t, shared.endpoint);
  const value = Buffer.alloc(mebibyte, 'x');
  for (let index = 0; index < 24; index++) await etcd.put(`large/${index}`, value);
  const { kvs } = await etcd.range('large/', { rangeEnd: endOf('large/') });
  t.is(kvs.length, 24);
  t.true(kvs.every((kv) => kv.value.equals(value)));
});

test('messages that are none are refused, the connection lives on', async (t) => {
  const etcd = client(t, shared.endpoint);
  const malformed = Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]);
  for (const method of ['KV/Range', 'KV/Put', 'KV/Txn', 'Lease/LeaseGrant']) {
    t.not(await failure(etcd.unary(method, malformed)), 'no error', method);
  }
  t.is((await etcd.range('none')).count, 0);
  t.regex(await failure(etcd.unary('KV/Nothing', Buffer.alloc(0))), /^12 /);
  t.regex(await failure(etcd.unary('/no.such.Service/Method', Buffer.alloc(0))), /^12 /);
});

test('pings are permitted, far more often than clients of etcd send them', async (t) => {
  const session = connectHttp2(shared.endpoint);
  t.teardown(() => session.destroy());
  await once(session, 'connect');
  let goAway = false;
  session.on('goaway', () => (goAway = true));
  const ping = () =>
    new Promise<number>((resolve, reject) => {
      session.ping((error, took) => (error === null ? resolve(took) : reject(error)));
    });
  // etcd's clients ping every 30 s, and a server that minds would say so after a few.
  for (let count = 0; count < 50; count++) await ping();
  t.false(goAway);
  t.false(session.closed);
});

test(`${streamsMany} watch streams on one connection`, async (t) => {
  const etcd = client(t, shared.endpoint);
  const guard = await etcd.guard(prefixRange(Buffer.from('streams/')));
  const streams = Array.from({ length: streamsMany }, () => etcd.watchStream());
  const created = await Promise.all(streams.map((stream, index) => stream.create(`streams/${index % 10}`)));
  t.true(created.every((answer) => answer.created && answer.watchId === 0n));
  for (let index = 0; index < 10; index++) await etcd.put(`streams/${index}`, 'x');
  const events = await Promise.all(streams.map((stream) => stream.events(1, 60_000)));
  t.true(events.every(([event], index) => event?.kv.key.toString() === `streams/${index % 10}`));
  t.is((await etcd.range('streams/0')).count, 1);
  t.deepEqual(await guard.violations(), []);
  for (const stream of streams) stream.close();
  await waitFor(
    async () => /^switchyard_streams\{[^}]*"etcdserverpb\.Watch"[^}]*\} 0$/m.test(await metrics()),
    {
      what: 'the streams to be gone from the metrics',
      deadlineMs: 20_000,
    },
  );
});

async function metrics(): Promise<string> {
  return (await fetch(`${shared.metricsUrl}/metrics`)).text();
}

test('many watches on one stream', async (t) => {
  const etcd = client(t, shared.endpoint);
  const guard = await etcd.guard(prefixRange(Buffer.from('watches/')));
  const stream = etcd.watchStream();
  for (let index = 0; index < 500; index++) {
    t.is((await stream.create(`watches/${index}`)).watchId, BigInt(index));
  }
  await etcd.put('watches/499', 'x');
  t.is((await stream.next()).watchId, 499n);
  t.deepEqual(await guard.violations(), []);
  stream.close();
});

test('metadata that etcd clients send does no harm', async (t) => {
  const raw = new Client(new URL(shared.endpoint).host, credentials.createInsecure());
  t.teardown(() => raw.close());
  const metadata = new Metadata();
  metadata.set('hasleader', 'true');
  metadata.set('client-api-version', '3.6.0');
  metadata.set('token', 'some token');
  metadata.set('traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01');
  metadata.set('x-bin', Buffer.from([0, 255]));
  const identity = (message: Buffer) => message;
  const request = encodeRangeRequest(rangeRequest('none'));
  const answer = await new Promise<Buffer>((resolve, reject) => {
    raw.makeUnaryRequest(
      '/etcdserverpb.KV/Range',
      identity,
      identity,
      request,
      metadata,
      (error: ServiceError | null, response?: Buffer) =>
        error === null ? resolve(response!) : reject(error),
    );
  });
  t.is(decodeRangeResponse(answer).count, 0);
});

test('a deadline that is over cancels the call on its way to etcd as well', async (t) => {
  const etcd = await skipped(() => testEtcd());
  if (etcd === undefined) return void t.pass();
  const switchyard = await startSwitchyard({ defaultEndpoint: etcd.endpoint });
  t.teardown(async () => {
    await etcd.kill('SIGCONT');
    await switchyard.dispose();
    await etcd.dispose();
  });
  const raw = new Client(new URL(switchyard.endpoint).host, credentials.createInsecure());
  t.teardown(() => raw.close());
  await etcd.kill('SIGSTOP');
  const identity = (message: Buffer) => message;
  const code = await new Promise<number | undefined>((resolve) => {
    raw.makeUnaryRequest(
      '/etcdserverpb.KV/Range',
      identity,
      identity,
      encodeRangeRequest(rangeRequest('a')),
      { deadline: Date.now() + 500 },
      (error: ServiceError | null) => resolve(error?.code),
    );
  });
  t.is(code, 4);
  // The client gives up by itself, before or after switchyard sees the deadline pass. That switchyard has given up, too, shows in
  // its counters: a call left alone would end with its connection to the hanging etcd, ten seconds later.
  const over =
    /^grpc_server_handled_total\{[^}]*grpc_method="Range"[^}]*grpc_code="(?:Canceled|DeadlineExceeded)"[^}]*\} [1-9]/mu;
  await waitFor(async () => over.test(await (await fetch(`${switchyard.metricsUrl}/metrics`)).text()), {
    what: 'the call to be counted as over',
    deadlineMs: 8_000,
  });
});

/** switchyard with TLS on the client address. */
async function secured(t: ExecutionContext, certificates: Certificates, flags: readonly string[]) {
  const port = await freePort();
  const { server } = certificates;
  const switchyard = await startSwitchyard({
    args: [
      '--listen-client-urls',
      `https://127.0.0.1:${port}`,
      '--cert-file',
      server.certFile,
      '--key-file',
      server.keyFile,
      ...flags,
    ],
  });
  t.teardown(() => switchyard.dispose());
  return { endpoint: `https://localhost:${port}`, port };
}

test('TLS: clients that trust the authority are served, over h2 and TLS 1.2 or later', async (t) => {
  const certificates = createCertificates(tempFolder('certificates'));
  const { endpoint, port } = await secured(t, certificates, []);
  const ca = readFileSync(certificates.caFile);
  const etcd = client(t, endpoint, { credentials: credentials.createSsl(ca) });
  await etcd.put('tls', '1');
  t.is((await etcd.range('tls')).count, 1);
  const stranger = client(t, endpoint, { credentials: credentials.createSsl() });
  t.regex(await failure(stranger.range('tls')), /^14 /);
  const plain = client(t, endpoint.replace('https', 'http'));
  t.regex(await failure(plain.range('tls')), /^14 /);
  const agreed = await new Promise<string>((resolve, reject) => {
    const socket = connectTls({
      port,
      host: '127.0.0.1',
      servername: 'localhost',
      ca,
      ALPNProtocols: ['h2'],
    });
    socket.once('error', reject);
    socket.once('secureConnect', () => {
      resolve(`${socket.alpnProtocol} ${socket.getProtocol()}`);
      socket.destroy();
    });
  });
  t.regex(agreed, /^h2 TLSv1\.[23]$/);
  const old = await new Promise<string>((resolve) => {
    const socket = connectTls({
      port,
      host: '127.0.0.1',
      servername: 'localhost',
      ca,
      maxVersion: 'TLSv1.1',
      minVersion: 'TLSv1',
    });
    socket.once('error', () => resolve('refused'));
    socket.once('secureConnect', () => {
      resolve('accepted');
      socket.destroy();
    });
  });
  t.is(old, 'refused');
});

test('TLS: with an authority for clients, only those with a certificate are served', async (t) => {
  const certificates = createCertificates(tempFolder('certificates'));
  const { caFile } = certificates;
  const { endpoint } = await secured(t, certificates, ['--trusted-ca-file', caFile, '--client-cert-auth']);
  const ca = readFileSync(caFile);
  const pair = ({ certFile, keyFile }: Certificates['client']) =>
    [readFileSync(keyFile), readFileSync(certFile)] as const;
  const known = client(t, endpoint, { credentials: credentials.createSsl(ca, ...pair(certificates.client)) });
  await known.put('tls', '1');
  t.is((await known.range('tls')).count, 1);
  const anonymous = client(t, endpoint, { credentials: credentials.createSsl(ca) });
  t.regex(await failure(anonymous.range('tls')), /^14 /);
  const elsewhere = createCertificates(tempFolder('certificates'));
  const stranger = client(t, endpoint, {
    credentials: credentials.createSsl(ca, ...pair(elsewhere.client)),
  });
  t.regex(await failure(stranger.range('tls')), /^14 /);
});
