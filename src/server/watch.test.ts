// Watch streams over a real gRPC connection: ids, order, cancel, fragments, compaction, shutdown.

import type { ServiceError } from '@grpc/grpc-js';
import test from 'ava';
import type { WatchResponse } from '../etcd/codec/watch.ts';
import { etcdErrors } from '../etcd/errors.ts';
import { prefixRange } from '../etcd/range.ts';
import type { Router } from '../router/router.ts';
import { MemoryStore, memoryRouter, TestGateway } from './server-fakes.ts';
import { requestBytesMax } from './validate.ts';
import { cancel, create, next } from './watch-fakes.ts';
import { grpcCode } from '../grpc/codes.ts';

test('watch: created comes first, then events in order, from ids that count from 0', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  store.put('a', 'before');
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a', { startRevision: 2n }));
  const created = await next(stream);
  t.like(created, { created: true, watchId: 0n });
  t.is(created.header.revision, 2n);
  store.put('a', 'after');
  const values: string[] = [];
  while (values.length < 2) values.push(...(await next(stream)).events.map(({ kv }) => kv.value.toString()));
  t.deepEqual(values, ['before', 'after']);
  stream.send(create('b'));
  t.like(await next(stream), { created: true, watchId: 1n });
  stream.cancel();
});

test('watch: a chosen id in use is refused, a free one is kept', async (t) => {
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a', { watchId: 5n }));
  t.like(await next(stream), { created: true, canceled: false, watchId: 5n });
  stream.send(create('a', { watchId: 5n }));
  const refused = await next(stream);
  t.like(refused, { created: true, canceled: true, watchId: -1n });
  t.regex(refused.cancelReason, /duplicate watch ID/);
  stream.cancel();
});

test('watch: an empty range and a negative start revision are refused', async (t) => {
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('b', { rangeEnd: Buffer.from('a') }));
  t.like(await next(stream), { created: true, canceled: true, watchId: -1n });
  stream.send(create('a', { startRevision: -1n }));
  const refused = await next(stream);
  t.like(refused, { created: true, canceled: true, watchId: -1n });
  t.is(refused.cancelReason, etcdErrors.compacted[1]);
  stream.cancel();
});

test('watch: canceled by the client, it says so and the store forgets it', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  await next(stream);
  t.is(store.watchCount, 1);
  stream.send(cancel(0n));
  t.like(await next(stream), { canceled: true, watchId: 0n });
  t.is(store.watchCount, 0);
  // An unknown id is ignored.
  stream.send(cancel(77n));
  stream.send(create('b'));
  t.like(await next(stream), { created: true });
  stream.cancel();
});

test('watch: compacted history cancels with the compact revision and revision 0 in the header', async (t) => {
  const store = new MemoryStore('default');
  for (let round = 0; round < 5; round++) store.put('a');
  await store.compact({ revision: 5n });
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a', { startRevision: 2n }));
  t.like(await next(stream), { created: true, canceled: false });
  const canceled = await next(stream);
  t.like(canceled, { canceled: true, compactRevision: 5n });
  t.is(canceled.header.revision, 0n);
  stream.cancel();
});

test('watch: large answers are split only where the client asked for fragments', async (t) => {
  const store = new MemoryStore('default');
  const value = 'x'.repeat(requestBytesMax * 0.6);
  for (const key of ['a1', 'a2', 'a3']) store.put(key, value);
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const watch = async (fragment: boolean) => {
    const stream = gateway.stream('Watch/Watch');
    stream.send(create('a', { rangeEnd: Buffer.from('b'), startRevision: 1n, fragment }));
    await next(stream);
    const answers: WatchResponse[] = [];
    do answers.push(await next(stream));
    while (answers.at(-1)!.fragment);
    stream.cancel();
    return answers.map((answer) => [answer.events.length, answer.fragment]);
  };
  t.deepEqual(await watch(false), [[3, false]]);
  t.deepEqual(await watch(true), [
    [2, true],
    [1, false],
  ]);
});

test('watch: shutdown ends streams with Unavailable, after which nothing is left in the store', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store));
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  await next(stream);
  const [error] = await Promise.all([t.throwsAsync<ServiceError>(stream.next()), gateway.server.drain()]);
  t.is(error?.code, grpcCode.unavailable);
  t.is(error?.details, etcdErrors.stopped[1]);
  t.is(store.watchCount, 0);
  await gateway.close();
});

test('watch: a client that goes away takes its watches with it', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  await next(stream);
  stream.cancel();
  const deadline = performance.now() + 5_000;
  while (store.watchCount > 0 && performance.now() < deadline) await new Promise(setImmediate);
  t.is(store.watchCount, 0);
});

test('a stream with a watch of a type that has moved ends with Unavailable, others stay', async (t) => {
  const [first, other] = [new MemoryStore('default'), new MemoryStore('other')];
  const listeners = new Set<Parameters<Router['onMove']>[0]>();
  const router: Router = {
    ...memoryRouter(first),
    onMove: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  const gateway = await TestGateway.start(router);
  t.teardown(() => gateway.close());
  const [moved, stays] = [gateway.stream('Watch/Watch'), gateway.stream('Watch/Watch')];
  moved.send(create('a/b'));
  stays.send(create('c/d'));
  t.true((await next(moved)).created);
  t.true((await next(stays)).created);
  for (const listener of listeners) listener([prefixRange(Buffer.from('a/'))], other);
  const error: ServiceError = await t.throwsAsync(moved.next());
  t.is(error.code, grpcCode.unavailable);
  first.put('c/d');
  t.is((await next(stays)).events?.length, 1);
  stays.cancel();
});

test('a watch goes to where its type was told to live while its store was looked for', async (t) => {
  const [first, other] = [new MemoryStore('default'), new MemoryStore('other')];
  const listeners = new Set<Parameters<Router['onMove']>[0]>();
  const found = [first, other];
  const router: Router = {
    ...memoryRouter(first),
    storeFor: async () => {
      const store = found.shift()!;
      if (store === first)
        for (const listener of listeners) listener([prefixRange(Buffer.from('a/'))], other);
      return store;
    },
    onMove: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  const gateway = await TestGateway.start(router);
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a/b'));
  t.true((await next(stream)).created);
  t.deepEqual([first.watchCount, other.watchCount], [0, 1]);
  stream.cancel();
});

test('watch: a client that does not read makes its watches wait after a few megabytes', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  await next(stream);
  const value = 'x'.repeat(1024 * 1024);
  // The client's own stream takes 16 answers in, read or not.
  const puts = 40;
  for (let count = 1; count <= puts; count++) {
    store.put('a', value);
    // Long enough for a delivery: all that can be taken is taken, each in an answer of its own.
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
  }
  const answers: number[] = [];
  while (answers.reduce((sum, events) => sum + events, 0) < puts)
    answers.push((await next(stream)).events.length);
  // What waited came as one batch of history.
  t.true(answers.length <= 16 + 6, `${answers.length} answers were ahead of the client`);
  stream.cancel();
});
