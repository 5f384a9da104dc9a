// Watch: delivery, history, filters, progress, cancelling.

import { endOf, op, type Bytes } from './requests.ts';
import type { Cases, Scene } from './scene.ts';

type Options = NonNullable<Parameters<ReturnType<Scene['stream']>['create']>[1]>;

/** A watch of all keys of the test on a stream of its own; answers the stream behind its `created`. */
async function watchAll(on: Scene, options: Options = {}) {
  const stream = on.stream();
  const created = await stream.create(on.prefix, { rangeEnd: on.end, ...options });
  return { stream, created };
}

const put = (on: Scene, name: string, value: Bytes) => on.client.put(on.key(name), value);

export const watchCases: Cases = {
  'created says the revision, then events come in order': async (t, on) => {
    await put(on, 'a', '1');
    const { stream, created } = await watchAll(on);
    t.deepEqual(on.watch(created), { id: 0n, created: true });
    t.is(on.since(created.header.revision), 1);
    await put(on, 'a', '2');
    await put(on, 'b', '3');
    await on.client.delete(on.key('a'));
    const events = await stream.events(3);
    t.deepEqual(
      events.map((event) => on.event(event)),
      ['put a=2 c1 m2 v2', 'put b=3 c3 m3 v1', 'delete a m4'],
    );
  },
  'one key, not its neighbours': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.key('b'));
    for (const name of ['a', 'b\0', 'bb', 'b', 'c']) await put(on, name, name);
    t.deepEqual(
      (await stream.events(1)).map((event) => on.event(event)),
      ['put b=b c4 m4 v1'],
    );
    await put(on, 'b', '2');
    t.deepEqual(
      (await stream.events(1)).map((event) => on.event(event)),
      ['put b=2 c4 m6 v2'],
    );
  },
  'the header of an event answer is at least the event': async (t, on) => {
    const { stream } = await watchAll(on);
    await put(on, 'a', '1');
    const response = await stream.next();
    t.is(on.since(response.header.revision), 1);
    t.not(response.header.clusterId, 0n);
  },
  'history from a revision on, then the present': async (t, on) => {
    for (const value of ['1', '2', '3']) await put(on, 'a', value);
    const { stream, created } = await watchAll(on, { startRevision: on.at(2) });
    t.is(on.since(created.header.revision), 3);
    await put(on, 'b', '4');
    t.deepEqual(
      (await stream.events(3)).map((event) => on.event(event)),
      ['put a=2 c1 m2 v2', 'put a=3 c1 m3 v3', 'put b=4 c4 m4 v1'],
    );
  },
  'history of one key among many': async (t, on) => {
    for (let round = 0; round < 20; round++) {
      await put(on, 'a', `${round}`);
      await put(on, 'b', `${round}`);
    }
    const stream = on.stream();
    await stream.create(on.key('b'), { startRevision: on.at(1) });
    const events = await stream.events(20);
    t.deepEqual(
      events.map(({ kv }) => kv.value.toString()),
      Array.from({ length: 20 }, (_, round) => `${round}`),
    );
  },
  'the pair before, live and from history': async (t, on) => {
    const live = await watchAll(on, { prevKv: true });
    await put(on, 'a', '1');
    await put(on, 'a', '2');
    await on.client.delete(on.key('a'));
    await put(on, 'a', '4');
    const expected = [
      'put a=1 c1 m1 v1',
      'put a=2 c1 m2 v2 (was a=1 c1 m1 v1)',
      'delete a m3 (was a=2 c1 m2 v2)',
      'put a=4 c4 m4 v1',
    ];
    t.deepEqual(
      (await live.stream.events(4)).map((event) => on.event(event)),
      expected,
    );
    const later = await watchAll(on, { prevKv: true, startRevision: on.at(1) });
    t.deepEqual(
      (await later.stream.events(4)).map((event) => on.event(event)),
      expected,
    );
  },
  'the events of one txn come together, in the order of its ops': async (t, on) => {
    const { stream } = await watchAll(on);
    await on.client.txn({
      success: [op.put(on.key('c'), '1'), op.put(on.key('a'), '2'), op.put(on.key('b'), '3')],
    });
    await on.client.txn({ success: [op.delete(on.prefix, { rangeEnd: on.end })] });
    const first = await stream.next();
    t.deepEqual(on.watch(first)['events'], ['put c=1 c1 m1 v1', 'put a=2 c1 m1 v1', 'put b=3 c1 m1 v1']);
    const second = await stream.next();
    t.deepEqual(on.watch(second)['events'], ['delete a m2', 'delete b m2', 'delete c m2']);
  },
  filters: async (t, on) => {
    const noPut = await watchAll(on, { filters: ['noput'] });
    const noDelete = await watchAll(on, { filters: ['nodelete'] });
    const nothing = await watchAll(on, { filters: ['noput', 'nodelete'] });
    await put(on, 'a', '1');
    await on.client.delete(on.key('a'));
    await put(on, 'a', '3');
    await on.client.delete(on.key('a'));
    const shown = async (stream: ReturnType<Scene['stream']>, count: number) =>
      (await stream.events(count)).map((event) => on.event(event));
    t.deepEqual(await shown(noPut.stream, 2), ['delete a m2', 'delete a m4']);
    t.deepEqual(await shown(noDelete.stream, 2), ['put a=1 c1 m1 v1', 'put a=3 c3 m3 v1']);
    const { before } = await nothing.stream.progress(on.at(4));
    t.deepEqual(before, []);
    const history = await watchAll(on, { filters: ['noput'], startRevision: on.at(1) });
    t.deepEqual(await shown(history.stream, 2), ['delete a m2', 'delete a m4']);
  },
  'a start in the future waits for it': async (t, on) => {
    const { stream, created } = await watchAll(on, { startRevision: on.at(3) });
    t.deepEqual(on.watch(created), { id: 0n, created: true });
    for (const value of ['1', '2', '3']) await put(on, 'a', value);
    t.deepEqual(
      (await stream.events(1)).map((event) => on.event(event)),
      ['put a=3 c1 m3 v3'],
    );
  },
  'progress on demand covers everything before it': async (t, on) => {
    const { stream } = await watchAll(on);
    const writes = Promise.all(Array.from({ length: 20 }, (_, index) => put(on, `k${index}`, 'x')));
    await writes;
    const { mark, before } = await stream.progress(on.at(20));
    t.is(before.flatMap((response) => response.events).length, 20);
    t.is(on.since(mark.header.revision), 20);
    t.is(mark.watchId, -1n);
  },
  'progress tells of writes to other keys': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.key('quiet'));
    await put(on, 'a', '1');
    const { mark, before } = await stream.progress(on.at(1));
    t.deepEqual(before, []);
    t.is(on.since(mark.header.revision), 1);
  },
  'progress does not go below a start in the future': async (t, on) => {
    const { stream } = await watchAll(on, { startRevision: on.at(3) });
    stream.requestProgress();
    for (const value of ['1', '2', '3']) await put(on, 'a', value);
    const first = await stream.next();
    t.deepEqual(on.watch(first)['events'], ['put a=3 c1 m3 v3']);
  },
  'several watches on one stream have ids of their own': async (t, on) => {
    const stream = on.stream();
    const ids: bigint[] = [];
    for (const name of ['a', 'b', 'c']) ids.push((await stream.create(on.key(name))).watchId);
    t.deepEqual(ids, [0n, 1n, 2n]);
    await put(on, 'c', '1');
    await put(on, 'a', '2');
    t.is((await stream.next()).watchId, 2n);
    t.is((await stream.next()).watchId, 0n);
  },
  'two watches of one key both get its events': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.key('a'));
    await stream.create(on.prefix, { rangeEnd: endOf(on.prefix) });
    await put(on, 'a', '1');
    const ids = [(await stream.next()).watchId, (await stream.next()).watchId];
    // In which order the two get it is left to the server.
    t.deepEqual(
      ids.toSorted((a, b) => Number(a - b)),
      [0n, 1n],
    );
    const { mark } = await stream.progress(on.at(1));
    t.is(mark.watchId, -1n);
  },
  'the client may choose an id, but none that is taken': async (t, on) => {
    const stream = on.stream();
    t.is((await stream.create(on.key('a'), { watchId: 7n })).watchId, 7n);
    t.is((await stream.create(on.key('b'))).watchId, 0n);
    const refused = on.watch(await stream.create(on.key('c'), { watchId: 7n }));
    t.deepEqual(refused, {
      id: -1n,
      created: true,
      canceled: true,
      reason: 'mvcc: duplicate watch ID provided on the WatchStream',
    });
    await put(on, 'a', '1');
    t.is((await stream.next()).watchId, 7n);
  },
  'a cancelled watch is silent, the others go on': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.key('a'));
    await stream.create(on.key('b'));
    stream.cancel(0n);
    t.deepEqual(on.watch(await stream.next()), { id: 0n, canceled: true });
    await put(on, 'a', '1');
    await put(on, 'b', '2');
    t.deepEqual(on.watch(await stream.next()), { id: 1n, events: ['put b=2 c2 m2 v1'] });
    stream.cancel(99n);
    stream.cancel(0n);
    await put(on, 'b', '3');
    t.deepEqual(on.watch(await stream.next()), { id: 1n, events: ['put b=3 c2 m3 v2'] });
  },
  'a batch of history does not split a txn': async (t, on) => {
    const puts = (round: number) =>
      Array.from({ length: 100 }, (_, index) => op.put(on.key(`k${index}`), `${round}`));
    for (let round = 0; round < 15; round++) await on.client.txn({ success: puts(round) });
    const { stream } = await watchAll(on, { startRevision: on.at(1) });
    let seen = 0;
    while (seen < 1500) {
      const { events } = await stream.next();
      const revisions = new Set(events.map(({ kv }) => kv.modRevision));
      t.is(events.length, revisions.size * 100);
      seen += events.length;
    }
    t.is(seen, 1500);
  },
};
