// Watch streams over several stores, some of them slow or down, and what progress marks may say on them.

import type { ServiceError } from '@grpc/grpc-js';
import test from 'ava';
import { EtcdError, etcdErrors } from '../etcd/errors.ts';
import { type RawStream } from '../store/store.ts';
import { MemoryStore, memoryRouter, TestGateway } from './server-fakes.ts';
import { cancel, create, FakeEtcd, next, progress } from './watch-fakes.ts';
import { StatusError } from '../grpc/status.ts';
import { grpcCode } from '../grpc/codes.ts';

test('watch: progress for one store is one mark with id -1', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  stream.send(create('b'));
  await next(stream);
  await next(stream);
  store.put('c');
  stream.send(progress);
  const mark = await next(stream);
  t.like(mark, { watchId: -1n, created: false, canceled: false });
  t.is(mark.header.revision, 2n);
  t.deepEqual(mark.events, []);
  stream.cancel();
});

test('watch: progress on a stream without watches leaves the stream usable', async (t) => {
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(progress);
  stream.send(create('a'));
  t.like(await next(stream), { created: true, watchId: 0n });
  stream.cancel();
});

test('watch: etcd and SQL on one stream have distinct ids and a progress mark each', async (t) => {
  const etcd = new FakeEtcd();
  const sql = new MemoryStore('sql');
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default', etcd), { s: sql }));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  t.like(await next(stream), { created: true, watchId: 0n });
  stream.send(create('s'));
  const mixed = await next(stream);
  t.true(mixed.watchId >= 2n ** 32n);
  stream.send(create('b'));
  const second = await next(stream);
  t.true(second.created && second.watchId > mixed.watchId);
  stream.send(progress);
  const marks = new Map<bigint, bigint>();
  while (marks.size < 3) {
    const { watchId, header } = await next(stream);
    marks.set(watchId, header.revision);
  }
  t.deepEqual(marks.get(0n), 100n);
  t.deepEqual(marks.get(second.watchId), 100n);
  t.deepEqual(marks.get(mixed.watchId), 1n);
  stream.cancel();
});

test('watch: with all watches in etcd the mark for all passes unchanged', async (t) => {
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default', new FakeEtcd())));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  await next(stream);
  stream.send(progress);
  t.like(await next(stream), { watchId: -1n });
  stream.cancel();
});

test('watch: progress_notify speaks when nothing else was said', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store), { progressNotifyIntervalMs: 20 });
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a', { progressNotify: true }));
  await next(stream);
  t.like(await next(stream), { watchId: 0n, created: false, canceled: false });
  stream.cancel();
});

test('watch: a store that is down ends a stream that has nothing else, and only refuses on another', async (t) => {
  const dead = new MemoryStore('dead');
  dead.failure = new EtcdError('timeout');
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default'), { d: dead }));
  t.teardown(() => gateway.close());
  const alone = gateway.stream('Watch/Watch');
  alone.send(create('d'));
  const error = await t.throwsAsync<ServiceError>(alone.next());
  t.is(error?.code, grpcCode.unavailable);
  const shared = gateway.stream('Watch/Watch');
  shared.send(create('a'));
  await next(shared);
  shared.send(create('d'));
  const refused = await next(shared);
  t.like(refused, { created: true, canceled: true, cancelReason: etcdErrors.timeout[1] });
  shared.send(create('b'));
  t.like(await next(shared), { created: true, canceled: false });
  shared.cancel();
});

test('watch: a mark for all is not sent past a watch that has joined since it was asked for', async (t) => {
  const [store, other] = [new MemoryStore('default'), new MemoryStore('other')];
  const gateway = await TestGateway.start(memoryRouter(store, { o: other }));
  t.teardown(() => gateway.close());
  for (const key of ['o', 'b']) {
    const marks = Promise.withResolvers<void>();
    store.holdMarks = marks.promise;
    const stream = gateway.stream('Watch/Watch');
    stream.send(create('a'));
    await next(stream);
    stream.send(progress);
    stream.send(create(key, { startRevision: 1n }));
    t.like(await next(stream), { created: true });
    marks.resolve();
    t.like(await next(stream), { watchId: 0n, created: false, canceled: false });
    stream.cancel();
  }
});

test('watch: progress asked for while a mark is on its way gets a mark of its own', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  await next(stream);
  const marks = Promise.withResolvers<void>();
  store.holdMarks = marks.promise;
  stream.send(progress);
  stream.send(progress);
  // An answer to something sent later: both requests have been read.
  stream.send(create('a', { watchId: 9n }));
  t.like(await next(stream), { created: true });
  stream.send(cancel(9n));
  t.like(await next(stream), { canceled: true });
  marks.resolve();
  for (const _ of [1, 2]) t.is((await next(stream)).watchId, -1n);
  stream.cancel();
});

test('watch: what was asked for progress while a mark was long in coming is answered, but not without bound', async (t) => {
  const store = new MemoryStore('default');
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  await next(stream);
  const marks = Promise.withResolvers<void>();
  store.holdMarks = marks.promise;
  for (let asked = 0; asked < 300; asked++) stream.send(progress);
  // Sent later: all requests have been read when it is answered.
  stream.send(create('a', { watchId: 9n }));
  t.like(await next(stream), { created: true });
  marks.resolve();
  for (let told = 0; told < 101; told++) t.like(await next(stream), { canceled: false, events: [] });
  stream.send(cancel(9n));
  t.like(await next(stream), { canceled: true, watchId: 9n });
  stream.cancel();
});

test('watch: a store that hangs holds up neither cancels nor progress of the others, nor creates for ever', async (t) => {
  const [store, hanging] = [new MemoryStore('default'), new MemoryStore('hanging')];
  const released = Promise.withResolvers<void>();
  hanging.hold = released.promise;
  const gateway = await TestGateway.start(memoryRouter(store, { h: hanging }));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  await next(stream);
  stream.send(create('h'));
  stream.send(progress);
  t.like(await next(stream), { watchId: -1n, created: false });
  stream.send(cancel(0n));
  t.like(await next(stream), { canceled: true, watchId: 0n });
  const error: ServiceError = await t.throwsAsync(next(stream));
  t.is(error.code, grpcCode.unavailable);
  released.resolve();
});

test('watch: a store that hangs refuses a create in time while others go on', async (t) => {
  const [store, hanging] = [new MemoryStore('default'), new MemoryStore('hanging')];
  const released = Promise.withResolvers<void>();
  hanging.hold = released.promise;
  const gateway = await TestGateway.start(memoryRouter(store, { h: hanging }));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  await next(stream);
  stream.send(create('h'));
  stream.send(create('b'));
  t.like(await next(stream), { created: true, canceled: true, cancelReason: etcdErrors.timeout[1] });
  t.like(await next(stream), { created: true, canceled: false });
  released.resolve();
  stream.cancel();
});

test('watch: an etcd that cancels the stream by itself makes the client come back', async (t) => {
  const etcd = new FakeEtcd();
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default', etcd)));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  await next(stream);
  etcd.failure.reject(new StatusError(grpcCode.canceled, 'Call cancelled'));
  const error: ServiceError = await t.throwsAsync(next(stream));
  t.is(error.code, grpcCode.unavailable);
});

test('watch: an etcd that has cancelled the stream when a request comes makes the client come back', async (t) => {
  class Deaf extends FakeEtcd {
    override stream(): RawStream {
      const write = () => Promise.reject(new StatusError(grpcCode.canceled, 'The stream is over'));
      return { ...super.stream(), write };
    }
  }
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default', new Deaf())));
  t.teardown(() => gateway.close());
  const stream = gateway.stream('Watch/Watch');
  stream.send(create('a'));
  const error: ServiceError = await t.throwsAsync(next(stream));
  t.is(error.code, grpcCode.unavailable);
});
