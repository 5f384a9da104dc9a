// Ten thousand watches of different keys, on one stream and on a hundred: each gets its own events and nothing else. The etcd
// is here to show that what is expected is right, and for the figures.

import test, { type ExecutionContext } from 'ava';
import type { WatchResponse } from '../src/etcd/codec/watch.ts';
import { EtcdClient } from './conformance/client.ts';
import { op } from './conformance/requests.ts';
import type { WatchStream } from './conformance/watch-stream.ts';
import { startSwitchyard, testDatabase, testEtcd, waitFor, type SqlEngine } from './servers/index.ts';
import { skipped } from './servers/database.ts';

const watches = 10_000;
const opsMax = 100;
const keyOf = (n: number) => `/many/${n}`;

async function openTarget(kind: SqlEngine | 'etcd') {
  if (kind === 'etcd') return skipped(() => testEtcd());
  const database = await testDatabase(kind);
  if (database === undefined) return undefined;
  const switchyard = await startSwitchyard({ defaultEndpoint: database.url });
  const dispose = async () => {
    await switchyard.dispose();
    await database.dispose();
  };
  return { endpoint: switchyard.endpoint, dispose };
}

/** What the watches of all streams were sent. */
class Tally {
  readonly #perStream: number;
  created = 0;
  canceled = 0;
  events = 0;
  /** `KEY VALUE` of the events by the number of the watch. */
  readonly got = new Map<number, string[]>();

  constructor(streams: readonly WatchStream[]) {
    this.#perStream = watches / streams.length;
    for (const [index, stream] of streams.entries()) {
      stream.onResponse = (response) => this.#take(index, response);
    }
  }

  #take(stream: number, { watchId, created, canceled, events }: WatchResponse): void {
    if (created) this.created++;
    if (canceled) this.canceled++;
    if (events.length === 0) return;
    const watch = stream * this.#perStream + Number(watchId);
    const seen = this.got.get(watch) ?? [];
    this.got.set(watch, seen);
    for (const { kv } of events) seen.push(`${kv.key.toString()} ${kv.value.toString()}`);
    this.events += events.length;
  }

  reached(what: 'created' | 'canceled' | 'events', count: number): Promise<unknown> {
    const details = () => `${this[what]} of ${count}`;
    return waitFor(() => this[what] >= count, { what: `${count} ${what}`, deadlineMs: 60_000, details });
  }
}

async function eachGetsItsOwn(t: ExecutionContext, client: EtcdClient, count: number): Promise<void> {
  const streams = Array.from({ length: count }, () => client.watchStream());
  const tally = new Tally(streams);
  const perStream = watches / count;
  const took = async (what: string, work: Promise<unknown>) => {
    const began = performance.now();
    await work;
    t.log(`${count} × ${perStream}: ${what} in ${(performance.now() - began).toFixed(0)} ms`);
  };
  for (let n = 0; n < watches; n++) streams[Math.floor(n / perStream)]!.send(keyOf(n));
  await took('created', tally.reached('created', watches));

  const write = async (value: string, from: number, to: number) => {
    for (let n = from; n < to; n += opsMax) {
      const puts = Array.from({ length: opsMax }, (_, index) => op.put(keyOf(n + index), value));
      await client.txn({ success: puts });
    }
  };
  await took('written', write('one', 0, watches));
  await write('two', 500, 700);
  await client.put(keyOf(watches), 'nobody sees this');
  await took('delivered', tally.reached('events', watches + 200));
  for (let n = 0; n < watches; n++) {
    const expected = [`${keyOf(n)} one`];
    if (n >= 500 && n < 700) expected.push(`${keyOf(n)} two`);
    if (tally.got.get(n)?.join() !== expected.join()) t.deepEqual(tally.got.get(n), expected);
  }
  t.is(tally.got.size, watches);

  for (const stream of streams) for (let id = 0; id < perStream; id++) stream.cancel(BigInt(id));
  await took('canceled', tally.reached('canceled', watches));
  await client.put(keyOf(3), 'too late');
  // The stream is as good as new, and ids go on.
  for (const stream of streams) stream.send(keyOf(3), { watchId: BigInt(perStream) });
  await tally.reached('created', watches + count);
  await client.put(keyOf(3), 'in time');
  await tally.reached('events', watches + 200 + count);
  for (const index of streams.keys()) {
    const late = tally.got.get(index * perStream + perStream) ?? [];
    t.is(late.at(-1), `${keyOf(3)} in time`);
  }
  t.is(tally.events, watches + 200 + count);
  for (const stream of streams) stream.close();
}

for (const kind of ['etcd', 'sqlite', 'postgres', 'mysql'] as const) {
  test.serial(`${kind}: ten thousand watches get their own events and nothing else`, async (t) => {
    t.timeout(300_000);
    const target = await openTarget(kind);
    if (target === undefined) return void t.pass();
    const client = new EtcdClient(target.endpoint);
    try {
      await eachGetsItsOwn(t, client, 1);
      await eachGetsItsOwn(t, client, 100);
    } finally {
      client.close();
      await target.dispose();
    }
  });
}
