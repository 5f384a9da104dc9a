// The bounds for what clients make a gateway hold, over TLS: there are more buffers between a client and its streams there.

import test, { type ExecutionContext } from 'ava';
import { connect } from 'node:net';
import { once } from 'node:events';
import { encodeRangeRequest, writePutRequest } from '../src/etcd/codec/kv.ts';
import { encode } from '../src/etcd/wire.ts';
import { grpcCode } from '../src/grpc/codes.ts';
import { putRequest, rangeRequest } from './conformance/requests.ts';
import { RawClient } from './pressure/raw-client.ts';
import { setUp } from './secured.ts';
import { waitFor } from './servers/index.ts';

const mebibyte = 1024 * 1024;

async function gatewayOf(t: ExecutionContext) {
  const { gateway, endpoint, port, dispose } = await setUp(() => []);
  t.teardown(dispose);
  const client = async () => {
    const raw = await RawClient.connect(endpoint);
    t.teardown(() => raw.close());
    return raw;
  };
  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(`${gateway.metricsUrl}/metrics`)).text();
    const values = text.matchAll(new RegExp(String.raw`^${name}(?:\{[^}]*\})? (\S+)$`, 'gmu'));
    return [...values].reduce((sum, [, value]) => sum + Number(value), 0);
  };
  return { client, metric, port };
}

const put = (value: Buffer) => encode(putRequest('key', value), writePutRequest);

test('tls: requests that are too large are refused as they are without', async (t) => {
  const { client } = await gatewayOf(t);
  const raw = await client();
  t.like(await raw.call('KV/Put', put(Buffer.alloc(2 * mebibyte))), {
    code: grpcCode.invalidArgument,
    details: 'etcdserver: request is too large',
  });
  t.is((await raw.call('KV/Put', put(Buffer.alloc(9 * mebibyte)))).code, grpcCode.resourceExhausted);
  t.is((await raw.call('KV/Put', put(Buffer.alloc(mebibyte)))).code, grpcCode.ok);
});

test('tls: requests that are half said are bounded, and others go on', async (t) => {
  const { client, metric } = await gatewayOf(t);
  const [greedy, other] = [await client(), await client()];
  const half = put(Buffer.alloc(mebibyte));
  for (let n = 0; n < 300; n++) {
    greedy.half('KV/Put', { bytes: half, length: half.length + 1 });
    if (n % 20 === 0) await new Promise(setImmediate);
  }
  await waitFor(async () => (await metric('switchyard_asked_bytes')) > 64 * mebibyte, {
    what: 'much to be asked',
  });
  t.is((await other.call('KV/Put', put(Buffer.from('x')))).code, grpcCode.ok);
  t.true((await metric('switchyard_asked_bytes')) < 160 * mebibyte);
  greedy.close();
  await waitFor(async () => (await metric('switchyard_asked_bytes')) < mebibyte, { what: 'all to be freed' });
});

test('tls: answers that nobody reads wait, and come whole when somebody does', async (t) => {
  t.timeout(120_000);
  const { client, metric } = await gatewayOf(t);
  const [lazy, other] = [await client(), await client()];
  await other.call('KV/Put', put(Buffer.alloc(mebibyte, 'v')));
  lazy.stopReading();
  const get = encodeRangeRequest(rangeRequest('key'));
  const gets = Array.from({ length: 200 }, () => lazy.call('KV/Range', get));
  await waitFor(async () => (await metric('switchyard_answer_bytes')) > 20 * mebibyte, {
    what: 'answers to wait',
  });
  t.is((await other.call('KV/Range', get)).code, grpcCode.ok);
  t.true((await metric('switchyard_answer_bytes')) < 128 * mebibyte);
  lazy.readOn();
  for (const { code, message } of await Promise.all(gets)) {
    t.is(code, grpcCode.ok);
    t.true(message!.length > mebibyte);
  }
});

test('tls: who says nothing, or begins a handshake and no more, is left after a while', async (t) => {
  const { client, port } = await gatewayOf(t);
  const silent = [Buffer.alloc(0), Buffer.from('16030100f8010000f40303', 'hex')].map(async (first) => {
    const socket = connect(port, '127.0.0.1');
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    socket.write(first);
    socket.resume();
    await once(socket, 'close');
  });
  // Meanwhile others are served.
  t.is((await (await client()).call('KV/Put', put(Buffer.from('x')))).code, grpcCode.ok);
  await Promise.all(silent);
});
