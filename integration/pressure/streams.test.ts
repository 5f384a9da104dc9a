// Clients that open as many streams as they like: so many are served, the others are refused, nobody else notices, and nothing is left of
// them afterwards.

import test from 'ava';
import { encodeWatchRequest } from '../../src/etcd/codec/watch.ts';
import { grpcCode } from '../../src/grpc/codes.ts';
import { encodeLeaseId } from '../../src/etcd/codec/lease.ts';
import type { OutgoingCall } from '../../src/store/etcd/outgoing-call.ts';
import { putRequest, watchRequest } from '../conformance/requests.ts';
import { waitFor } from '../servers/index.ts';
import { fared } from './probe.ts';
import { mebibyte, onScene, settings, things, type Scene } from './scene.ts';
import { writePutRequest } from '../../src/etcd/codec/kv.ts';
import { encode } from '../../src/etcd/wire.ts';

const streamsEach = 10_000;

/** What became of streams. */
interface Opened {
  readonly calls: readonly OutgoingCall[];
  readonly served: number;
  readonly refused: number;
  /** Where so many at once took longer than the gateway gives them. */
  readonly late: number;
}

/** Opens streams, says `first` on each, and waits until each has been answered or refused. */
async function openStreams(
  { connect }: Scene,
  method: string,
  { connections, first }: { readonly connections: number; readonly first: Buffer },
): Promise<Opened> {
  const clients = await Promise.all(Array.from({ length: connections }, connect));
  const calls: OutgoingCall[] = [];
  const answered = new Set<OutgoingCall>();
  const changed = (call: OutgoingCall) => {
    while (call.read() !== undefined) answered.add(call);
    if (call.status !== undefined) answered.add(call);
  };
  for (const client of clients) {
    for (let n = 0; n < streamsEach; n++) {
      const call = client.stream(method, changed);
      call.write(first, false);
      calls.push(call);
      if (n % 500 === 0) await new Promise(setImmediate);
    }
  }
  const details = () => `${answered.size} of ${calls.length}`;
  await waitFor(() => answered.size === calls.length, {
    what: 'all streams to be answered',
    deadlineMs: 60_000,
    details,
  });
  const ended = (code: number) => calls.filter(({ status }) => status?.code === code).length;
  const [refused, late] = [ended(grpcCode.resourceExhausted), ended(grpcCode.unavailable)];
  const served = calls.filter(({ status }) => status === undefined).length;
  if (served + refused + late < calls.length) throw new Error('Expected streams to be served or refused');
  return { calls, served, refused, late };
}

const firsts: Readonly<Record<string, Buffer>> = {
  'Watch/Watch': encodeWatchRequest({ type: 'create', request: watchRequest(`${things}/first`) }),
  'Lease/LeaseKeepAlive': encodeLeaseId(1n),
};

for (const [method, first] of Object.entries(firsts)) {
  for (const connections of method.startsWith('Watch') ? [1, 4] : [1]) {
    test.serial(`${method}: ${streamsEach} streams on each of ${connections} connections`, (t) =>
      onScene(t, 'sqlite', async (scene) => {
        const { probe, beginPeak, peak, freed } = scene;
        const other = await probe(settings);
        await other.warm();
        const before = other.look();
        const rss = beginPeak();
        const cpu = await scene.metric('process_cpu_seconds_total');
        const { calls, served, refused, late } = await openStreams(scene, method, { connections, first });
        t.log(
          `${served} served, ${refused} refused, ${late} late, ${rss.toFixed(0)} -> ${peak().toFixed(0)} MiB, ${((await scene.metric('process_cpu_seconds_total')) - cpu).toFixed(1)} s of processor time`,
        );
        t.log(fared(before, other.look()));
        t.true(refused >= 1_000 * connections, `${refused} refused`);
        t.true(served + late >= 4_000, `${served} served`);
        t.true(peak() - rss < 900, `${rss} -> ${peak()} MiB`);
        await waitFor(async () => (await scene.metric('switchyard_streams')) === served, {
          what: 'all that are served to be counted',
        });
        for (const call of calls) call.cancel();
        await freed();
        t.deepEqual(other.look().failures, []);
        await other.stop();
        // As many again take no more.
        const again = await openStreams(scene, method, { connections, first });
        t.log(`again: ${again.served} served, ${peak().toFixed(0)} MiB`);
        t.is(again.served > 0, true);
        for (const call of again.calls) call.cancel();
        await freed();
      }),
    );
  }
}

test.serial('requests that are half said are refused when they are too many', (t) =>
  onScene(t, 'sqlite', async (scene) => {
    const { connect, client, probe, beginPeak, peak, freed, steady } = scene;
    const other = await probe(settings);
    await other.warm();
    const before = other.look();
    const rss = beginPeak();
    const half = encode(putRequest(`${things}/half`, Buffer.alloc(mebibyte)), writePutRequest);
    const clients = await Promise.all(Array.from({ length: 3 }, connect));
    for (const one of clients) {
      for (let n = 0; n < 300; n++) {
        one.half('KV/Put', { bytes: half, length: half.length + 1 });
        if (n % 20 === 0) await new Promise(setImmediate);
      }
    }
    const asked = await steady('switchyard_asked_bytes', 100 * mebibyte);
    t.log(
      `${(asked / mebibyte).toFixed(0)} MiB of 900 MiB held, ${rss.toFixed(0)} -> ${peak().toFixed(0)} MiB`,
    );
    t.log(fared(before, other.look()));
    t.true(asked < 300 * mebibyte);
    t.true(peak() - rss < 900, `${rss} -> ${peak()} MiB`);
    // Who has nothing to do with it still writes.
    await client.put(`${things}/whole`, Buffer.alloc(mebibyte));
    for (const one of clients) one.close();
    await freed();
    t.deepEqual(other.look().failures, []);
    const { kvs } = await client.range(`${things}/half`);
    t.deepEqual(kvs, []);
  }),
);
