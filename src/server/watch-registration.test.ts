// Many watches asked for at once: registered together, answered in the order of the requests, and nothing left of those refused.

import test from 'ava';
import { decodeWatchResponse } from '../etcd/codec/watch.ts';
import type { CallContext, MessageStream } from './call.ts';
import { ClientLoads } from './client-load.ts';
import type { ServiceOptions } from './service.ts';
import { MemoryStore, memoryRouter, TestGateway } from './server-fakes.ts';
import { create, FakeEtcd, next } from './watch-fakes.ts';
import { createWatchService } from './watch.ts';

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('Expected the condition within 5 s');
    await new Promise(setImmediate);
  }
}

test('creates of one stream are registered together and answered in their order', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('first'));
  await next(stream);
  const released = Promise.withResolvers<void>();
  store.hold = released.promise;
  let asked = 0;
  const watch = store.watch.bind(store);
  store.watch = (...args) => {
    asked++;
    return watch(...args);
  };
  for (let id = 10n; id < 60n; id++) stream.send(create('a', { watchId: id }));
  await until(() => asked === 50);
  released.resolve();
  for (let id = 10n; id < 60n; id++) t.is((await next(stream)).watchId, id);
  stream.cancel();
});

test('a watch that is refused in its turn leaves nothing in the store', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  for (const _ of [1, 2, 3]) stream.send(create('a', { watchId: 5n }));
  t.deepEqual(
    [await next(stream), await next(stream), await next(stream)].map(({ canceled }) => canceled),
    [false, true, true],
  );
  await until(() => store.watchCount === 1);
  store.put('a');
  t.is((await next(stream)).watchId, 5n);
  stream.cancel();
  await until(() => store.watchCount === 0);
  t.pass();
});

test('a client that has half-closed gets the watches it asked for, also where finding their store takes a while', async (t) => {
  const router = memoryRouter(new MemoryStore('default', new FakeEtcd()));
  const halfClosed = Promise.withResolvers<void>();
  const storeFor: typeof router.storeFor = async (range, signal) => {
    if (range.start.toString() !== 'slow') return router.storeFor(range, signal);
    await halfClosed.promise;
    await new Promise(setImmediate);
    return router.storeFor(range, signal);
  };
  const options = { router: { ...router, storeFor }, progressNotifyIntervalMs: 60_000 } as ServiceOptions;
  const created = Promise.withResolvers<void>();
  const answers: string[] = [];
  const stream: MessageStream = {
    async *[Symbol.asyncIterator]() {
      yield create('a');
      await until(() => answers.length === 1);
      yield create('slow');
      halfClosed.resolve();
    },
    write: (message) => {
      const { watchId, canceled } = decodeWatchResponse(message);
      answers.push(`${watchId}${canceled ? ' refused' : ''}`);
      if (answers.length === 2) created.resolve();
      return Promise.resolve();
    },
  };
  const abort = new AbortController();
  const client = new ClientLoads({ refused: () => undefined }).newClient(() => undefined);
  const context: CallContext = {
    store: undefined,
    method: '/etcdserverpb.Watch/Watch',
    metadata: {},
    signal: abort.signal,
    client,
    reading: (kind, store) => client.reads(kind, store),
  };
  const run = createWatchService(options).bidi!['Watch']!(stream, context);
  await Promise.race([created.promise, run]);
  t.deepEqual(answers, ['0', '1']);
  abort.abort();
  await t.throwsAsync(run);
});

test('a watch keeps its own bytes, and not all that came with them', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const kept: Buffer[] = [];
  const watch = store.watch.bind(store);
  store.watch = (...args) => {
    kept.push(args[0].key, args[0].rangeEnd);
    return watch(...args);
  };
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  await next(stream);
  t.deepEqual(
    kept.map(({ buffer }) => buffer.byteLength),
    kept.map(({ length }) => length),
  );
  stream.cancel();
});
