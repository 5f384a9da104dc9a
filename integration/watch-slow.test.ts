// Clients that do not read their watch streams for a long time: the gateway's memory stays bounded, the others go on, and
// when they read again nothing is missing, nothing comes twice, or they are told that it is gone.

import { readFileSync } from 'node:fs';
import { Client, credentials, type ClientDuplexStream } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { decodeWatchResponse, encodeWatchRequest, type WatchResponse } from '../src/etcd/codec/watch.ts';
import type { Revision, WatchId } from '../src/etcd/types.ts';
import { EtcdClient } from './conformance/client.ts';
import { op, watchRequest } from './conformance/requests.ts';
import { startSwitchyard, testDatabase, waitFor, type SqlEngine, type Switchyard } from './servers/index.ts';

const mebibyte = 1024 * 1024;
const all = { rangeEnd: '/s0' };
const identity = (message: Buffer) => message;

/** A watch stream on a connection of its own, which is read or not. */
class LazyStream {
  readonly #client: Client;
  readonly #call: ClientDuplexStream<Buffer, Buffer>;
  /** Revisions of the events of each watch, as they came. */
  readonly revisions = new Map<WatchId, Revision[]>();
  readonly ends: WatchResponse[] = [];
  created = 0;
  events = 0;

  constructor(endpoint: string) {
    const options = { 'grpc.max_receive_message_length': -1, 'grpc.use_local_subchannel_pool': 1 };
    this.#client = new Client(new URL(endpoint).host, credentials.createInsecure(), options);
    this.#call = this.#client.makeBidiStreamRequest('/etcdserverpb.Watch/Watch', identity, identity);
    this.#call.on('error', () => undefined);
    this.#call.on('data', (message: Buffer) => this.#take(decodeWatchResponse(message)));
  }

  #take(response: WatchResponse): void {
    if (response.created) this.created++;
    if (response.canceled) this.ends.push(response);
    const seen = this.revisions.get(response.watchId) ?? [];
    this.revisions.set(response.watchId, seen);
    for (const { kv } of response.events) seen.push(kv.modRevision);
    this.events += response.events.length;
  }

  async watch(count: number, ...request: Parameters<typeof watchRequest>): Promise<void> {
    const message = encodeWatchRequest({ type: 'create', request: watchRequest(...request) });
    for (let times = 0; times < count; times++) this.#call.write(message);
    await waitFor(() => this.created === count, { what: `${count} watches` });
  }

  stopReading(): void {
    this.#call.pause();
  }

  readOn(): void {
    this.#call.resume();
  }

  async got(events: number): Promise<void> {
    const details = () => `got ${this.events}`;
    await waitFor(() => this.events >= events, { what: `${events} events`, deadlineMs: 120_000, details });
  }

  close(): void {
    this.#call.cancel();
    this.#client.close();
  }
}

/** The most memory that a process has had at once so far, in bytes. */
function peakBytes(pid: number): number {
  const kibibytes = /VmHWM:\s+(\d+)/u.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (kibibytes === undefined) throw new Error(`Expected the memory of process ${pid}`);
  return Number(kibibytes) * 1024;
}

interface Place {
  readonly switchyard: Switchyard;
  readonly writer: EtcdClient;
  readonly open: () => LazyStream;
}

async function onStore(
  engine: SqlEngine,
  t: ExecutionContext,
  body: (place: Place) => Promise<void>,
): Promise<void> {
  t.timeout(300_000);
  const database = await testDatabase(engine);
  if (database === undefined) return void t.pass();
  const switchyard = await startSwitchyard({ defaultEndpoint: database.url });
  const writer = new EtcdClient(switchyard.endpoint);
  const streams: LazyStream[] = [];
  const open = () => {
    const stream = new LazyStream(switchyard.endpoint);
    streams.push(stream);
    return stream;
  };
  try {
    await body({ switchyard, writer, open });
  } finally {
    for (const stream of streams) stream.close();
    writer.close();
    await switchyard.dispose();
    await database.dispose();
  }
}

test.serial('sqlite: 300 MiB go past a client that does not read', (t) =>
  onStore('sqlite', t, async ({ switchyard, writer, open }) => {
    const [lazy, eager] = [open(), open()];
    await lazy.watch(1, '/s/', all);
    await eager.watch(1, '/s/', all);
    lazy.stopReading();
    const before = peakBytes(switchyard.pid);
    const written: Revision[] = [];
    for (let n = 0; n < 300; n++) {
      written.push((await writer.put(`/s/${n % 10}`, Buffer.alloc(mebibyte, n))).header.revision);
    }
    await eager.got(300);
    t.true(lazy.events < 100, `${lazy.events} events were read by a client that does not`);
    lazy.readOn();
    await lazy.got(300);
    for (const { revisions } of [lazy, eager]) t.deepEqual(revisions.get(0n), written);
    const grown = (peakBytes(switchyard.pid) - before) / mebibyte;
    t.log(`memory grew by ${grown.toFixed(0)} MiB`);
    t.true(grown < 700, `${grown} MiB`);
  }),
);

test.serial('sqlite: thirty watches whose stream is not read share what it may hold', (t) =>
  onStore('sqlite', t, async ({ switchyard, writer, open }) => {
    const [watches, puts] = [30, 50];
    const lazy = open();
    await lazy.watch(watches, '/s/', all);
    lazy.stopReading();
    const before = peakBytes(switchyard.pid);
    const written: Revision[] = [];
    for (let n = 0; n < puts; n++) {
      written.push((await writer.put('/s/a', Buffer.alloc(mebibyte, n))).header.revision);
    }
    lazy.readOn();
    await lazy.got(watches * puts);
    t.is(lazy.revisions.size, watches);
    for (const revisions of lazy.revisions.values()) t.deepEqual(revisions, written);
    const grown = (peakBytes(switchyard.pid) - before) / mebibyte;
    t.log(`memory grew by ${grown.toFixed(0)} MiB, ${watches * puts} MiB were due`);
    t.true(grown < 1000, `${grown} MiB`);
  }),
);

for (const engine of ['sqlite', 'postgres'] as const) {
  test.serial(`${engine}: many small events go past a client that does not read`, (t) =>
    onStore(engine, t, async ({ writer, open }) => {
      const [lazy, eager] = [open(), open()];
      await lazy.watch(3, '/s/', all);
      await eager.watch(1, '/s/', all);
      lazy.stopReading();
      const written: Revision[] = [];
      for (let round = 0; round < 200; round++) {
        const puts = Array.from({ length: 100 }, (_, n) => op.put(`/s/${n}`, Buffer.alloc(1024, round)));
        const { header } = await writer.txn({ success: puts });
        for (const _ of puts) written.push(header.revision);
      }
      await eager.got(20_000);
      lazy.readOn();
      await lazy.got(60_000);
      for (const { revisions } of [lazy, eager]) {
        for (const seen of revisions.values()) t.deepEqual(seen, written);
      }
    }),
  );

  test.serial(`${engine}: a compaction that overtakes a client that does not read ends its watch`, (t) =>
    onStore(engine, t, async ({ writer, open }) => {
      const lazy = open();
      await lazy.watch(2, '/s/', all);
      lazy.stopReading();
      const written: Revision[] = [];
      for (let n = 0; n < 80; n++) {
        written.push((await writer.put('/s/a', Buffer.alloc(mebibyte, n))).header.revision);
      }
      const last = written.at(-1)!;
      await writer.compact(last);
      lazy.readOn();
      await waitFor(() => lazy.ends.length === 2, { what: 'both to end', deadlineMs: 60_000 });
      for (const { compactRevision, header } of lazy.ends) {
        t.deepEqual([compactRevision, header.revision], [last, 0n]);
      }
      for (const seen of lazy.revisions.values()) t.deepEqual(seen, written.slice(0, seen.length), 'no gap');
      t.true(lazy.events < 2 * written.length);
    }),
  );
}
