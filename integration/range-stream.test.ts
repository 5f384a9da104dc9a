// Ranges in chunks through a whole gateway: what they cost it in memory, what is left of those that clients leave, and which
// store answers.

import { existsSync, readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { decodeRangeStreamResponse, encodeRangeRequest } from '../src/etcd/codec/kv.ts';
import { EtcdClient } from './conformance/client.ts';
import { endOf, op, rangeRequest } from './conformance/requests.ts';
import { failure } from './conformance/scene.ts';
import { skipped, type SqlEngine } from './servers/database.ts';
import { startSwitchyard, testDatabase, testEtcd, waitFor, type Switchyard } from './servers/index.ts';

const mebibyte = 1024 * 1024;

/** A connection of its own: what its client has not read stays with the gateway, and holds up nobody else. */
function connected(t: ExecutionContext, { endpoint }: Switchyard): EtcdClient {
  const client = new EtcdClient(endpoint, { channel: { 'grpc-node.flow_control_window': 64 * 1024 } });
  t.teardown(() => client.close());
  return client;
}

async function gateway(t: ExecutionContext, options: Parameters<typeof startSwitchyard>[0]) {
  const switchyard = await startSwitchyard(options);
  t.teardown(() => switchyard.dispose());
  return { switchyard, client: connected(t, switchyard) };
}

async function* stream(client: EtcdClient, ...request: Parameters<typeof rangeRequest>) {
  const message = encodeRangeRequest(rangeRequest(...request));
  for await (const answer of client.serverStream('KV/RangeStream', message))
    yield decodeRangeStreamResponse(answer);
}

/** MiB of memory that the process has; undefined where the system does not tell. */
function residentOf({ pid }: Switchyard): number | undefined {
  const file = `/proc/${pid}/status`;
  if (!existsSync(file)) return undefined;
  return Number(/VmRSS:\s+(\d+)/u.exec(readFileSync(file, 'utf8'))?.[1]) / 1024;
}

const openStreams = async ({ metricsUrl }: Switchyard) =>
  /^switchyard_streams\{[^}]*grpc_method="RangeStream"\} (\d+)$/mu.exec(
    await (await fetch(`${metricsUrl}/metrics`)).text(),
  )?.[1];

for (const engine of ['sqlite', 'postgres'] satisfies SqlEngine[]) {
  test.serial(`${engine}: a slow client of a large type costs the gateway a few chunks`, async (t) => {
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    t.teardown(() => database.dispose());
    const { switchyard, client } = await gateway(t, { defaultEndpoint: database.url });
    const large = 240;
    const value = Buffer.alloc(mebibyte / 4, 'v');
    for (let start = 0; start < large * 4; start += 5) {
      const puts = Array.from({ length: 5 }, (_, n) =>
        op.put(`/large/${String(start + n).padStart(4, '0')}`, value),
      );
      await client.txn({ success: puts });
    }
    // What the writes have left behind is not of interest.
    await switchyard.restart();
    const rangeEnd = endOf('/large/');
    await client.range('/large/', { rangeEnd, limit: 4 });
    const before = residentOf(switchyard);
    if (before === undefined) return void t.pass('no /proc');
    let most = before;
    let keys = 0;
    const unread = Array.from({ length: 1 }, () => stream(connected(t, switchyard), '/large/', { rangeEnd }));
    for (const one of unread) await one.next();
    const reader = new EtcdClient(switchyard.endpoint);
    t.teardown(() => reader.close());
    for await (const { kvs } of stream(reader, '/large/', { rangeEnd })) {
      keys += kvs.length;
      // The gateway answers others in between, and has the time to read ahead if it did.
      await client.range('/large/0000', { keysOnly: true });
      most = Math.max(most, residentOf(switchyard)!);
    }
    for (const one of unread) await one.return();
    t.is(keys, large * 4);
    t.log(
      `${Math.round(most - before)} MiB more than before for ${large} MiB, ${Math.round(before)} MiB before`,
    );
    // Two streams, each of all of it.
    t.true(most - before < large);
    await waitFor(async () => (await openStreams(switchyard)) === '0', { what: 'the streams to end' });
  });
}

test('clients that leave their streams leave nothing at the gateway', async (t) => {
  const { switchyard, client } = await gateway(t, {});
  const keys = 400;
  const value = Buffer.alloc(mebibyte / 10, 'v');
  for (let start = 0; start < keys; start += 10) {
    const success = Array.from({ length: 10 }, (_, n) => op.put(`/left/${start + n}`, value));
    await client.txn({ success });
  }
  const rangeEnd = endOf('/left/');
  const open = Array.from({ length: 10 }, () => stream(connected(t, switchyard), '/left/', { rangeEnd }));
  for (const one of open) t.false((await one.next()).done);
  await waitFor(async () => (await openStreams(switchyard)) === '10', { what: 'ten open streams' });
  // They hold none of the database's connections.
  t.is((await client.range('/left/', { rangeEnd, countOnly: true })).count, keys);
  for (const one of open.slice(1)) await one.return();
  await waitFor(async () => (await openStreams(switchyard)) === '1', { what: 'one open stream' });
  let rest = 0;
  for await (const { kvs } of open[0]!) rest += kvs.length;
  t.true(rest > 0 && rest < keys);
  await waitFor(async () => (await openStreams(switchyard)) === '0', { what: 'no open stream' });
});

test('each range is streamed by its store, and one over two stores is refused as Range refuses it', async (t) => {
  const placed = await testDatabase('sqlite');
  const etcd = await skipped(() => testEtcd());
  t.teardown(async () => {
    await placed?.dispose();
    await etcd?.dispose();
  });
  if (placed === undefined || etcd === undefined) return void t.pass();
  const topology = `backends:\n  - name: placed\n    endpoint: ${placed.url}\n    prefix: { prefix: widgets }\n`;
  const { client } = await gateway(t, { defaultEndpoint: etcd.endpoint, topology });
  for (let n = 10; n < 50; n++) await client.put(`/registry/widgets/${n}`, String(n));
  await client.put('/registry/pods/one', 'one');
  const names: string[] = [];
  for await (const { kvs, header } of stream(client, '/registry/widgets/', {
    rangeEnd: '/registry/widgets0',
  })) {
    names.push(...kvs.map(({ value }) => value.toString()));
    if (header !== undefined) t.deepEqual(header, (await client.range('/registry/widgets/10')).header);
  }
  t.is(names.length, 40);
  const spanning = { rangeEnd: '/registry0' };
  const refused = await failure(client.range('/registry/', spanning));
  t.regex(refused, /^3 switchyard: .* spans stores: /u);
  t.is(await failure(stream(client, '/registry/', spanning).next()), refused);
  const { version } = await client.status();
  if (!version.startsWith('3.6.')) return;
  t.is(
    await failure(stream(client, '/registry/pods/', { rangeEnd: '/registry/pods0' }).next()),
    '12 unknown method RangeStream for service etcdserverpb.KV',
  );
});
