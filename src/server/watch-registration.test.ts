// Many watches asked for at once: registered together, answered in the order of the requests, and nothing left of those refused.

import test from 'ava';
import { MemoryStore, memoryRouter, TestGateway } from './server-fakes.ts';
import { create, next } from './watch-fakes.ts';

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
