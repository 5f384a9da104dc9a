// The etcd store on a real etcd: bytes pass unchanged, errors keep code and text, several members stand in for each other,
// and an etcd that goes away is said to be away and is found again.

import { constants, createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2';
import { createServer, connect, type Server, type Socket } from 'node:net';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { encodeRangeRequest, decodeRangeResponse } from '../src/etcd/codec/kv.ts';
import { encodeTxnRequest } from '../src/etcd/codec/txn.ts';
import { EtcdError, etcdErrors } from '../src/etcd/errors.ts';
import type { Event, Revision } from '../src/etcd/types.ts';
import { silentLogger } from '../src/lib/log.ts';
import { openEtcdStore, type EtcdStore } from '../src/store/etcd/etcd-store.ts';
import { type BackendTls, type Watch } from '../src/store/store.ts';
import { endOf, op, rangeRequest, txnRequest, watchRequest } from './conformance/requests.ts';
import { guardOf } from './guarantees/guard.ts';
import { createCertificates } from './servers/certificates.ts';
import { skipped } from './servers/database.ts';
import { freePort, tempFolder, testEtcd, waitFor, type TestEtcd } from './servers/index.ts';
import { StatusError } from '../src/grpc/status.ts';
import { grpcCode } from '../src/grpc/codes.ts';

let etcd: TestEtcd | undefined;
let stores = 0;

test.before('etcd starts', async (t) => {
  etcd = await skipped(() => testEtcd());
  t.pass();
});
test.after.always('etcd stops', () => etcd?.dispose());

const soon = (ms = 20_000) => AbortSignal.timeout(ms);

function open(t: ExecutionContext, url: string, tls?: BackendTls): EtcdStore {
  const store = openEtcdStore({
    name: `etcd-${++stores}`,
    url,
    logger: silentLogger,
    ...(tls === undefined ? {} : { tls }),
  });
  t.teardown(() => store[Symbol.asyncDispose]());
  return store;
}

const put = (store: EtcdStore, key: string, value: string) =>
  store.txn(txnRequest({ success: [op.put(key, value)] }), soon());

/** Reads batches until `done` says so. */
async function read(watch: Watch, done: (events: readonly Event[], revision: Revision) => boolean) {
  const events: Event[] = [];
  for await (const batch of watch) {
    events.push(...batch.events);
    if (done(events, batch.revision)) break;
  }
  return events.map(({ type, kv }) => `${type} ${kv.key.toString()}=${kv.value.toString()}`);
}

test('what is asked of a store that is closed is told so, and its watches end', async (t) => {
  if (etcd === undefined) return void t.pass();
  const store = open(t, etcd.endpoint);
  await put(store, 'closed/a', '1');
  const watch = await store.watch(watchRequest('closed/', { rangeEnd: endOf('closed/') }), soon());
  let reason: unknown;
  read(watch, () => false).catch((error: unknown) => (reason = error));
  await store[Symbol.asyncDispose]();
  await waitFor(() => reason !== undefined, { what: 'the watch to end' });
  t.like(reason, { reason: 'stopped' });
  const late = await t.throwsAsync(put(store, 'closed/a', '2'), { instanceOf: EtcdError });
  t.is(late.reason, 'stopped');
});

test('reads, txns, leases, compaction and status go through', async (t) => {
  if (etcd === undefined) return void t.pass();
  const store = open(t, etcd.endpoint);
  const first = await put(store, 'basic/a', '1');
  const { kvs, count } = await store.range(rangeRequest('basic/', { rangeEnd: endOf('basic/') }), soon());
  t.deepEqual([kvs[0]?.key.toString(), kvs[0]?.value.toString(), count], ['basic/a', '1', 1]);
  t.is(kvs[0]?.modRevision, first.header.revision);
  const lease = await store.leaseGrant({ id: 4711n, ttl: 600 }, soon());
  t.deepEqual([lease.id, lease.ttl], [4711n, 600]);
  await store.txn(txnRequest({ success: [op.put('basic/b', '2', { lease: 4711n })] }), soon());
  const { keys, grantedTtl } = await store.leaseTimeToLive({ id: 4711n, keys: true }, soon());
  t.deepEqual([keys.map(String), grantedTtl], [['basic/b'], 600]);
  t.is((await store.leaseKeepAlive(4711n, soon())).ttl, 600);
  t.true((await store.leaseLeases(soon())).leases.includes(4711n));
  await store.leaseRevoke(4711n, soon());
  t.is((await store.leaseKeepAlive(4711n, soon())).ttl, 0);
  t.is((await store.range(rangeRequest('basic/b'), soon())).count, 0);
  const status = await store.status(soon());
  t.regex(status.version, /^3\.\d+\.\d+$/);
  t.true(status.revision >= first.header.revision && status.dbSize > 0 && status.memberId !== 0n);
});

test('a lease of another store is taken over by the first write that names it', async (t) => {
  if (etcd === undefined) return void t.pass();
  const granting = open(t, etcd.endpoint);
  const second = await testEtcd();
  t.teardown(() => second.dispose());
  const findLease = async (id: bigint, signal: AbortSignal) => {
    const { ttl, grantedTtl } = await granting.leaseTimeToLive({ id, keys: false }, signal);
    return ttl < 0 ? undefined : { ttlSeconds: grantedTtl, remainingSeconds: ttl };
  };
  const store = openEtcdStore({ name: 'second', url: second.endpoint, logger: silentLogger, findLease });
  t.teardown(() => store[Symbol.asyncDispose]());
  await granting.leaseGrant({ id: 4713n, ttl: 600 }, soon());
  const put = (lease: bigint) => {
    const request = encodeTxnRequest(txnRequest({ success: [op.put('adopt/a', '1', { lease })] }));
    return store.passthrough.unary('/etcdserverpb.KV/Txn', request, { metadata: {}, signal: soon() });
  };
  await Promise.all([put(4713n), put(4713n)]);
  const { grantedTtl, keys } = await store.leaseTimeToLive({ id: 4713n, keys: true }, soon());
  t.deepEqual([grantedTtl, keys.map(String)], [600, ['adopt/a']]);
  const unknown = await t.throwsAsync(put(4714n), { instanceOf: StatusError });
  t.is(unknown.message, etcdErrors.leaseNotFound[1]);
});

test('errors of etcd keep their reason', async (t) => {
  if (etcd === undefined) return void t.pass();
  const store = open(t, etcd.endpoint);
  const reasonOf = async (call: Promise<unknown>) => {
    const error = await t.throwsAsync(call, { instanceOf: EtcdError });
    return error?.reason;
  };
  t.is(await reasonOf(store.leaseRevoke(999n, soon())), 'leaseNotFound');
  t.is(await reasonOf(store.range(rangeRequest('a', { revision: 1n << 40n }), soon())), 'futureRevision');
  t.is(await reasonOf(store.compact({ revision: 1n << 40n, physical: false }, soon())), 'futureRevision');
  t.is(await reasonOf(store.range(rangeRequest(''), soon())), 'emptyKey');
});

test('passthrough: bytes and statuses as etcd gives them', async (t) => {
  if (etcd === undefined) return void t.pass();
  const { passthrough } = open(t, etcd.endpoint);
  const options = { metadata: {}, signal: soon() };
  // Field 99 is unknown to everybody and must do no harm.
  const request = Buffer.concat([encodeRangeRequest(rangeRequest('none')), Buffer.from([0x98, 0x06, 1])]);
  t.is(decodeRangeResponse(await passthrough.unary('/etcdserverpb.KV/Range', request, options)).count, 0);
  const refused = passthrough.unary('/etcdserverpb.KV/Range', Buffer.alloc(0), options);
  const error = await t.throwsAsync(refused, { instanceOf: StatusError });
  t.deepEqual([error?.code, error?.message], [3, 'etcdserver: key is not provided']);
  const unknown = passthrough.unary('/etcdserverpb.KV/Nothing', Buffer.alloc(0), options);
  t.is((await t.throwsAsync(unknown, { instanceOf: StatusError }))?.code, grpcCode.unimplemented);
});

test('passthrough: a server stream arrives whole, a cancelled one ends', async (t) => {
  if (etcd === undefined) return void t.pass();
  const { passthrough } = open(t, etcd.endpoint);
  const snapshot = passthrough.stream('/etcdserverpb.Maintenance/Snapshot', { metadata: {}, signal: soon() });
  await snapshot.write(Buffer.alloc(0));
  snapshot.end();
  let bytes = 0;
  for await (const message of snapshot) bytes += message.length;
  t.true(bytes > 16_384, `${bytes} bytes`);
  const abort = new AbortController();
  const watch = passthrough.stream('/etcdserverpb.Watch/Watch', { metadata: {}, signal: abort.signal });
  const messages = watch[Symbol.asyncIterator]();
  const pending = messages.next();
  abort.abort();
  await t.throwsAsync(pending, { name: 'AbortError' });
});

test('a watch gives history, then the present, then progress', async (t) => {
  if (etcd === undefined) return void t.pass();
  const store = open(t, etcd.endpoint);
  const { header } = await put(store, 'watch/a', '1');
  const abort = new AbortController();
  const request = watchRequest('watch/', { rangeEnd: endOf('watch/'), startRevision: header.revision });
  const guard = await guardOf(store, header.revision - 1n);
  const watch = await guard.record(store, request, abort.signal);
  t.true(watch.createdRevision >= header.revision);
  await put(store, 'watch/b', '2');
  const last = await put(store, 'elsewhere', 'x');
  watch.requestProgress();
  const events = await read(watch, (_, revision) => revision >= last.header.revision);
  t.deepEqual(events, ['put watch/a=1', 'put watch/b=2']);
  t.deepEqual(await guard.violations(), []);
});

test('a watch ends without error when aborted, and with compacted when history is gone', async (t) => {
  if (etcd === undefined) return void t.pass();
  const store = open(t, etcd.endpoint);
  const abort = new AbortController();
  const watch = await store.watch(watchRequest('ended'), abort.signal);
  const ended = read(watch, () => false);
  abort.abort();
  t.deepEqual(await ended, []);
  const private_ = await testEtcd();
  t.teardown(() => private_.dispose());
  const other = open(t, private_.endpoint);
  await put(other, 'a', '1');
  const { header } = await put(other, 'a', '2');
  await other.compact({ revision: header.revision, physical: true }, soon());
  const late = other.watch(watchRequest('a', { startRevision: 1n }), soon());
  const error = await t.throwsAsync(
    late.then((opened) => read(opened, () => false)),
    { instanceOf: EtcdError },
  );
  t.deepEqual([error?.reason, error?.compactRevision], ['compacted', header.revision]);
});

test('an etcd that is killed: Unavailable soon, and all well when it is back', async (t) => {
  const server = await skipped(() => testEtcd());
  if (server === undefined) return void t.pass();
  t.teardown(() => server.dispose());
  const store = open(t, server.endpoint);
  await put(store, 'a', '1');
  const abort = new AbortController();
  const guard = await guardOf(store);
  const watch = await guard.record(store, watchRequest('a'), abort.signal);
  const events = read(watch, (all) => all.length === 2);
  await put(store, 'a', '2');
  await server.kill();
  const began = performance.now();
  const error = await t.throwsAsync(put(store, 'a', 'lost'), { instanceOf: EtcdError });
  t.deepEqual([error?.reason, error?.code], ['timeout', grpcCode.unavailable]);
  t.true(performance.now() - began < 5_000, 'says soon that etcd is away');
  await t.throwsAsync(store.status(soon()), { instanceOf: EtcdError });
  await server.start();
  await waitFor(() => store.status(soon(1_000)).then(() => true), {
    what: 'the store to find its etcd again',
  });
  await put(store, 'a', '3');
  t.deepEqual(await events, ['put a=2', 'put a=3']);
  t.deepEqual(await guard.violations(), []);
});

test('an etcd that hangs is given up', async (t) => {
  const server = await skipped(() => testEtcd());
  if (server === undefined) return void t.pass();
  t.teardown(async () => {
    await server.kill('SIGCONT');
    await server.dispose();
  });
  const store = open(t, server.endpoint);
  await put(store, 'a', '1');
  await server.kill('SIGSTOP');
  const error = await t.throwsAsync(put(store, 'a', '2'), { instanceOf: EtcdError });
  t.is(error?.code, grpcCode.unavailable);
});

test('a caller that gives up is not kept waiting', async (t) => {
  const store = open(t, `http://127.0.0.1:${await freePort()}`);
  const began = performance.now();
  await t.throwsAsync(store.range(rangeRequest('a'), soon(100)), { name: 'TimeoutError' });
  t.true(performance.now() - began < 2_000);
});

/** A door to etcd that can be shut, as a member of its own. */
async function door(target: string): Promise<{ url: string; shut(): Promise<void>; open(): Promise<void> }> {
  const port = await freePort();
  const to = new URL(target);
  const sockets = new Set<Socket>();
  let server: Server | undefined;
  const start = () =>
    new Promise<void>((resolve) => {
      server = createServer((inside) => {
        const outside = connect(Number(to.port), to.hostname);
        for (const socket of [inside, outside]) {
          sockets.add(socket);
          socket.on('close', () => sockets.delete(socket));
          socket.on('error', () => {
            inside.destroy();
            outside.destroy();
          });
        }
        inside.pipe(outside).pipe(inside);
      }).listen(port, '127.0.0.1', resolve);
    });
  await start();
  const shut = async () => {
    const closed = new Promise((resolve) => server?.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  return { url: `http://127.0.0.1:${port}`, shut, open: start };
}

test('members stand in for each other', async (t) => {
  if (etcd === undefined) return void t.pass();
  const [one, two] = [await door(etcd.endpoint), await door(etcd.endpoint)];
  t.teardown(() => Promise.all([one.shut(), two.shut()]));
  const store = open(t, `${one.url},${two.url}`);
  const works = () => put(store, 'members', 'x').then(() => true);
  await works();
  await one.shut();
  await waitFor(works, { what: 'the second member to serve', deadlineMs: 5_000 });
  for (let call = 0; call < 10; call++) t.true(await works());
  await one.open();
  await two.shut();
  await waitFor(works, { what: 'the first member to serve again', deadlineMs: 10_000 });
  for (let call = 0; call < 10; call++) t.true(await works());
});

/** One who speaks HTTP/2 and does with each call what `answer` says. */
async function peer(t: ExecutionContext, answer: (stream: ServerHttp2Stream, call: number) => void) {
  let calls = 0;
  const server = createHttp2Server();
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    answer(stream, ++calls);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as { port: number };
  const { passthrough } = open(t, `http://127.0.0.1:${port}`);
  const unary = () =>
    passthrough.unary('/etcdserverpb.KV/Put', Buffer.from('x'), { metadata: {}, signal: soon() });
  return { unary, calls: () => calls };
}

const endWith = (stream: ServerHttp2Stream, status: Record<string, string>, body: Buffer) => {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers(status));
  stream.end(body);
};

test('a call that is refused unseen is made again, one that is broken off is not', async (t) => {
  const message = Buffer.from([0, 0, 0, 0, 1, 42]);
  const { unary, calls } = await peer(t, (stream, call) => {
    if (call === 1) stream.close(constants.NGHTTP2_REFUSED_STREAM);
    else if (call === 2) endWith(stream, { 'grpc-status': '0' }, message);
    else if (call === 3) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    else stream.session?.destroy();
  });
  t.deepEqual(await unary(), Buffer.from([42]));
  t.is(calls(), 2);
  t.is((await t.throwsAsync(unary(), { instanceOf: StatusError }))?.code, grpcCode.internal);
  t.is((await t.throwsAsync(unary(), { instanceOf: StatusError }))?.code, grpcCode.unavailable);
  t.is(calls(), 4);
});

test('a call is not made again when it may have run', async (t) => {
  const { unary, calls } = await peer(t, (stream, call) => {
    // Tells all calls of a connection that they are refused, those too that have run.
    if (call === 1) stream.session?.goaway(constants.NGHTTP2_REFUSED_STREAM);
    else {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      setImmediate(() => stream.close(constants.NGHTTP2_REFUSED_STREAM));
    }
  });
  for (let call = 1; call <= 2; call++) {
    t.is((await t.throwsAsync(unary(), { instanceOf: StatusError }))?.code, grpcCode.unavailable);
    t.is(calls(), call);
  }
});

test('a call that one who stops has not seen is made again', async (t) => {
  const message = Buffer.from([0, 0, 0, 0, 1, 42]);
  const { unary, calls } = await peer(t, (stream, call) => {
    if (call === 2) stream.session?.goaway(constants.NGHTTP2_NO_ERROR, 1);
    else endWith(stream, { 'grpc-status': '0' }, message);
  });
  for (let call = 1; call <= 2; call++) t.deepEqual(await unary(), Buffer.from([42]));
  t.is(calls(), 3);
});

test('answers that are not what they should be are errors', async (t) => {
  const whole = Buffer.from([0, 0, 0, 0, 1, 42]);
  const bodies = [
    Buffer.alloc(0),
    whole.subarray(0, 5),
    Buffer.concat([whole, whole]),
    Buffer.from([1, 0, 0, 0, 0]),
  ];
  const { unary } = await peer(t, (stream, call) => {
    const body = bodies[call - 1];
    if (body !== undefined) endWith(stream, { 'grpc-status': '0' }, body);
    else if (call === 5) endWith(stream, {}, whole);
    else if (call === 6) stream.respond({ ':status': 503 }, { endStream: true });
    else endWith(stream, { 'grpc-status': '9', 'grpc-message': 'nicht m%C3%B6glich' }, Buffer.alloc(0));
  });
  for (let call = 1; call <= 5; call++)
    t.is((await t.throwsAsync(unary(), { instanceOf: StatusError }))?.code, grpcCode.internal, `${call}`);
  t.is((await t.throwsAsync(unary(), { instanceOf: StatusError }))?.code, grpcCode.unavailable);
  t.is((await t.throwsAsync(unary(), { instanceOf: StatusError }))?.message, 'nicht möglich');
});

test('TLS files that cannot be used are an error at once', (t) => {
  const folder = tempFolder('certificates');
  const { caFile, server, client } = createCertificates(folder);
  const noPem = join(folder, 'no.pem');
  writeFileSync(noPem, 'neither certificate nor key');
  const cases: BackendTls[] = [
    { ...client, caFile: noPem, skipVerify: false },
    { caFile, certFile: noPem, keyFile: client.keyFile, skipVerify: false },
    { caFile, certFile: client.certFile, keyFile: noPem, skipVerify: false },
    { caFile, certFile: client.certFile, keyFile: server.keyFile, skipVerify: false },
  ];
  for (const tls of cases)
    t.throws(() => open(t, 'https://127.0.0.1:2379', tls), {
      message: /^Expected TLS files in PEM that fit together for etcd 127\.0\.0\.1:2379, got /,
    });
});

test('TLS, with a client certificate', async (t) => {
  const folder = tempFolder('certificates');
  const { caFile, server, client } = createCertificates(folder);
  const secured = await skipped(() => testEtcd({ tls: { caFile, ...server } }));
  if (secured === undefined) return void t.pass();
  t.teardown(() => secured.dispose());
  const url = secured.secureEndpoint;
  const trusted = open(t, url, { caFile, ...client, skipVerify: false });
  await put(trusted, 'tls', '1');
  t.is((await trusted.range(rangeRequest('tls'), soon())).count, 1);
  const unverified = open(t, url, { ...client, skipVerify: true });
  t.is((await unverified.range(rangeRequest('tls'), soon())).count, 1);
  const suspicious = open(t, url, { ...client, skipVerify: false });
  await t.throwsAsync(suspicious.range(rangeRequest('tls'), soon()), { instanceOf: EtcdError });
  const anonymous = open(t, url, { caFile, skipVerify: false });
  await t.throwsAsync(anonymous.range(rangeRequest('tls'), soon()), { instanceOf: EtcdError });
});
