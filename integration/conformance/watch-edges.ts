// Watch: what is refused, compaction, fragments, the ends of the keyspace.

import { fromKey, op } from './requests.ts';
import { wholeServer, type Cases } from './scene.ts';

const compactedText = 'etcdserver: mvcc: required revision has been compacted';

export const watchEdgeCases: Cases = {
  'a start below the compact revision is created, then canceled with that revision': wholeServer(
    async (t, on) => {
      for (const value of ['1', '2', '3']) await on.client.put(on.key('a'), value);
      await on.client.compact(on.at(3));
      const stream = on.stream();
      const created = await stream.create(on.key('a'), { startRevision: on.at(1) });
      t.deepEqual(on.watch(created), { id: 0n, created: true });
      const canceled = await stream.next();
      t.deepEqual(on.watch(canceled), { id: 0n, canceled: true, compacted: 3 });
      t.is(canceled.header.revision, 0n);
    },
  ),
  'a start at the compact revision is served': wholeServer(async (t, on) => {
    for (const value of ['1', '2', '3']) await on.client.put(on.key('a'), value);
    await on.client.compact(on.at(2), 'physical');
    const stream = on.stream();
    await stream.create(on.key('a'), { startRevision: on.at(2) });
    const events = (await stream.events(2)).map((event) => on.event(event));
    t.deepEqual(events, ['put a=2 c1 m2 v2', 'put a=3 c1 m3 v3']);
  }),
  'a deletion at the compact revision is seen by a watch that starts there': wholeServer(async (t, on) => {
    await on.client.put(on.key('a'), '1');
    await on.client.delete(on.key('a'));
    await on.client.put(on.key('b'), '3');
    await on.client.compact(on.at(2), 'physical');
    const stream = on.stream();
    await stream.create(on.prefix, { rangeEnd: on.end, startRevision: on.at(2) });
    const events = (await stream.events(2)).map((event) => on.event(event));
    t.deepEqual(events, ['delete a m2', 'put b=3 c3 m3 v1']);
  }),
  'the pair before, unless it was compacted away': wholeServer(async (t, on) => {
    for (const value of ['1', '2', '3']) await on.client.put(on.key('a'), value);
    await on.client.compact(on.at(2), 'physical');
    const stream = on.stream();
    await stream.create(on.key('a'), { startRevision: on.at(2), prevKv: true });
    const [first, second] = (await stream.events(2)).map((event) => on.event(event));
    // etcd leaves the compacted pair out; whoever still has it may give it.
    t.true(first === 'put a=2 c1 m2 v2' || first === 'put a=2 c1 m2 v2 (was a=1 c1 m1 v1)', first);
    t.is(second, 'put a=3 c1 m3 v3 (was a=2 c1 m2 v2)');
  }),
  'a live watch does not mind a compaction': wholeServer(async (t, on) => {
    const stream = on.stream();
    await stream.create(on.key('a'));
    await on.client.put(on.key('a'), '1');
    await on.client.put(on.key('a'), '2');
    await stream.events(2);
    await on.client.compact(on.at(2), 'physical');
    await on.client.put(on.key('a'), '3');
    t.deepEqual(
      (await stream.events(1)).map((event) => on.event(event)),
      ['put a=3 c1 m3 v3'],
    );
  }),
  'a negative start is refused as compacted': async (t, on) => {
    const answer = await on.stream().create(on.key('a'), { startRevision: -5n });
    t.deepEqual(on.watch(answer), { id: -1n, created: true, canceled: true, reason: compactedText });
  },
  'an empty or inverted range is refused, the stream goes on': async (t, on) => {
    const stream = on.stream();
    for (const [from, to] of [
      ['b', 'a'],
      ['a', 'a'],
    ] as const) {
      const answer = await stream.create(on.key(from), { rangeEnd: on.key(to) });
      t.deepEqual([answer.watchId, answer.created, answer.canceled], [-1n, true, true]);
    }
    t.true((await stream.create(on.key('a'))).created);
    await on.client.put(on.key('a'), '1');
    t.is((await stream.events(1)).length, 1);
  },
  'all keys from one on, and all keys at all': wholeServer(async (t, on) => {
    const stream = on.stream();
    await stream.create(on.prefix, { rangeEnd: fromKey });
    await stream.create('', { rangeEnd: fromKey });
    await on.client.put(on.key('a'), '1');
    const answers = [await stream.next(), await stream.next()];
    t.deepEqual(
      answers.map((answer) => on.watch(answer)['events']),
      [['put a=1 c1 m1 v1'], ['put a=1 c1 m1 v1']],
    );
  }),
  'large answers come in fragments where asked': async (t, on) => {
    const value = Buffer.alloc(200_000, 'x');
    for (let index = 0; index < 12; index++) await on.client.put(on.key(`k${index}`), value);
    const stream = on.stream();
    await stream.create(on.prefix, { rangeEnd: on.end, startRevision: on.at(1), fragment: true });
    let seen = 0;
    let fragments = 0;
    while (seen < 12) {
      const answer = await stream.next();
      t.true(answer.events.length * value.length <= 2 * 1024 * 1024);
      seen += answer.events.length;
      if (answer.fragment) fragments++;
      if (seen === 12) t.false(answer.fragment);
    }
    t.true(fragments >= 1);
  },
  'large answers come whole where not asked': async (t, on) => {
    const value = Buffer.alloc(200_000, 'x');
    for (let index = 0; index < 12; index++) await on.client.put(on.key(`k${index}`), value);
    const stream = on.stream();
    await stream.create(on.prefix, { rangeEnd: on.end, startRevision: on.at(1) });
    let seen = 0;
    while (seen < 12) {
      const answer = await stream.next();
      t.false(answer.fragment);
      seen += answer.events.length;
    }
    t.is(seen, 12);
  },
  'progress notification of its own accord is accepted as an option': async (t, on) => {
    const stream = on.stream();
    const created = await stream.create(on.key('a'), { progressNotify: true });
    t.true(created.created);
    await on.client.put(on.key('a'), '1');
    t.is((await stream.events(1)).length, 1);
  },
  'requests of no kind are ignored': async (t, on) => {
    const stream = on.stream();
    stream.sendRaw(Buffer.alloc(0));
    t.true((await stream.create(on.key('a'))).created);
  },
  'watches that are resumed at any revision get each event once': async (t, on) => {
    for (let round = 1; round <= 10; round++) {
      await on.client.txn({ success: [op.put(on.key('a'), `${round}`), op.put(on.key('b'), `${round}`)] });
    }
    for (let start = 1; start <= 10; start++) {
      const stream = on.stream();
      await stream.create(on.prefix, { rangeEnd: on.end, startRevision: on.at(start) });
      const events = await stream.events((11 - start) * 2);
      const got = events.map(({ kv }) => `${kv.key.toString().at(-1)}${on.since(kv.modRevision)}`);
      const expected: string[] = [];
      for (let round = start; round <= 10; round++) expected.push(`a${round}`, `b${round}`);
      t.deepEqual(got, expected);
      stream.close();
    }
  },
  'watches under concurrent writers are ordered, unique and complete': async (t, on) => {
    const streams = await Promise.all(
      Array.from({ length: 5 }, async () => {
        const stream = on.stream();
        await stream.create(on.prefix, { rangeEnd: on.end });
        return stream;
      }),
    );
    const writes = 200;
    const writer = async (worker: number) => {
      for (let index = 0; index < writes / 8; index++) await on.client.put(on.key(`w${worker}`), `${index}`);
    };
    const writing = Promise.all(Array.from({ length: 8 }, (_, worker) => writer(worker)));
    for (const stream of streams) {
      const events = await stream.events(writes);
      const revisions = events.map(({ kv }) => on.since(kv.modRevision));
      t.deepEqual(
        revisions,
        Array.from({ length: writes }, (_, index) => index + 1),
      );
    }
    await writing;
  },
};
