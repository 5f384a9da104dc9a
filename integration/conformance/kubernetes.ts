// The requests of kube-apiserver, shape by shape: what its storage layer, its watch cache and its compactor send.

import { op, when } from './requests.ts';
import { wholeServer, type Cases, type Scene } from './scene.ts';

const create = (on: Scene, name: string, value: string, lease = 0n) =>
  on.client.txn({
    compare: [when(on.key(name), 'mod', '=', 0n)],
    success: [op.put(on.key(name), value, { lease })],
    failure: [op.range(on.key(name))],
  });

const update = (on: Scene, name: string, value: string, modRevision: bigint) =>
  on.client.txn({
    compare: [when(on.key(name), 'mod', '=', modRevision)],
    success: [op.put(on.key(name), value)],
    failure: [op.range(on.key(name))],
  });

const remove = (on: Scene, name: string, modRevision: bigint) =>
  on.client.txn({
    compare: [when(on.key(name), 'mod', '=', modRevision)],
    success: [op.delete(on.key(name))],
    failure: [op.range(on.key(name))],
  });

export const kubernetesCases: Cases = {
  'create: the first wins, the second gets what is there': async (t, on) => {
    const first = await create(on, 'pods/a', '1');
    t.deepEqual([first.succeeded, on.since(first.header.revision)], [true, 1]);
    const second = on.txn(await create(on, 'pods/a', '2'));
    t.deepEqual(second, {
      at: 1,
      succeeded: false,
      ops: [{ at: 1, kvs: ['pods/a=1 c1 m1 v1'], more: false, count: 1 }],
    });
  },
  'update: by the revision read, else the present pair': async (t, on) => {
    const { header } = await create(on, 'pods/a', '1');
    const done = await update(on, 'pods/a', '2', header.revision);
    t.deepEqual([done.succeeded, on.since(done.header.revision)], [true, 2]);
    const stale = on.txn(await update(on, 'pods/a', '3', header.revision));
    t.deepEqual(stale, {
      at: 2,
      succeeded: false,
      ops: [{ at: 2, kvs: ['pods/a=2 c1 m2 v2'], more: false, count: 1 }],
    });
    const absent = on.txn(await update(on, 'pods/b', '3', header.revision));
    t.deepEqual(absent, { at: 2, succeeded: false, ops: [{ at: 2, kvs: [], more: false, count: 0 }] });
  },
  'delete: by the revision read': async (t, on) => {
    const { header } = await create(on, 'pods/a', '1');
    const stale = await remove(on, 'pods/a', header.revision - 1n);
    t.false(stale.succeeded);
    const done = on.txn(await remove(on, 'pods/a', header.revision));
    t.deepEqual([done.at, done.succeeded], [2, true]);
    t.deepEqual((done.ops[0] as { deleted: number }).deleted, 1);
    t.true((await create(on, 'pods/a', '3')).succeeded);
    t.deepEqual(await on.all(), ['pods/a=3 c3 m3 v1']);
  },
  'list: pages pinned to the first one’s revision': async (t, on) => {
    for (const name of ['a', 'b', 'c', 'd', 'e']) await create(on, `pods/${name}`, name);
    await create(on, 'podsx/other', 'x');
    const rangeEnd = on.key('pods0');
    const first = await on.client.range(on.key('pods/'), { rangeEnd, limit: 2 });
    t.deepEqual(on.range(first), {
      at: 6,
      kvs: ['pods/a=a c1 m1 v1', 'pods/b=b c2 m2 v1'],
      more: true,
      count: 5,
    });
    await on.client.delete(on.key('pods/c'));
    await create(on, 'pods/bb', 'new');
    const { revision } = first.header;
    const second = await on.client.range(on.key('pods/b\0'), { rangeEnd, limit: 2, revision });
    t.deepEqual(on.range(second), {
      at: 8,
      kvs: ['pods/c=c c3 m3 v1', 'pods/d=d c4 m4 v1'],
      more: true,
      count: 3,
    });
    const third = await on.client.range(on.key('pods/d\0'), { rangeEnd, limit: 2, revision });
    t.deepEqual(on.range(third), { at: 8, kvs: ['pods/e=e c5 m5 v1'], more: false, count: 1 });
  },
  'the current revision of a type, by its bare root': async (t, on) => {
    await create(on, 'pods/a', '1');
    const answer = await on.client.range(on.key('pods'), { limit: 1 });
    t.deepEqual(on.range(answer), { at: 1, kvs: [], more: false, count: 0 });
    const counted = await on.client.range(on.key('pods/'), { rangeEnd: on.key('pods0'), countOnly: true });
    t.deepEqual(on.range(counted), { at: 1, kvs: [], more: false, count: 1 });
  },
  'list, then watch from the next revision: nothing lost, nothing twice': async (t, on) => {
    await create(on, 'pods/a', '1');
    const list = await on.client.range(on.key('pods/'), { rangeEnd: on.key('pods0'), limit: 10_000 });
    await update(on, 'pods/a', '2', list.kvs[0]!.modRevision);
    const stream = on.stream();
    await stream.create(on.key('pods/'), {
      rangeEnd: on.key('pods0'),
      startRevision: list.header.revision + 1n,
      prevKv: true,
      progressNotify: true,
    });
    await create(on, 'pods/b', '3');
    await remove(on, 'pods/b', on.at(3));
    t.deepEqual(
      (await stream.events(3)).map((event) => on.event(event)),
      [
        'put pods/a=2 c1 m2 v2 (was pods/a=1 c1 m1 v1)',
        'put pods/b=3 c3 m3 v1',
        'delete pods/b m4 (was pods/b=3 c3 m3 v1)',
      ],
    );
  },
  'a consistent read from the watch cache: revision, then progress up to it': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.key('pods/'), { rangeEnd: on.key('pods0'), prevKv: true, progressNotify: true });
    await create(on, 'pods/a', '1');
    await create(on, 'nodes/a', '1');
    const { header } = await on.client.range(on.key('pods'), { limit: 1 });
    const { mark, before } = await stream.progress(header.revision);
    t.true(mark.header.revision >= header.revision);
    t.deepEqual(
      before.flatMap(({ events }) => events).map((event) => on.event(event)),
      ['put pods/a=1 c1 m1 v1'],
    );
  },
  'events expire with a lease of their own': async (t, on) => {
    const { id } = await on.client.grant(3600);
    t.true((await create(on, 'events/a', '1', id)).succeeded);
    t.deepEqual(await on.all(), [`events/a=1 c1 m1 v1 l${id}`]);
    await on.client.revoke(id);
    t.deepEqual(await on.all(), []);
  },
  'the compactor: one of several wins the turn, and reads what the other wrote': wholeServer(
    async (t, on) => {
      const turn = (version: bigint, revision: string) =>
        on.client.txn({
          compare: [when(on.key('compact_rev_key'), 'version', '=', version)],
          success: [op.put(on.key('compact_rev_key'), revision)],
          failure: [op.range(on.key('compact_rev_key'))],
        });
      const first = await turn(0n, '0');
      t.true(first.succeeded);
      const answers = await Promise.all([turn(1n, '11'), turn(1n, '12')]);
      t.is(answers.filter(({ succeeded }) => succeeded).length, 1);
      const loser = answers.find(({ succeeded }) => !succeeded)?.responses[0];
      t.is(loser?.type === 'range' ? loser.response.kvs[0]?.version : 0n, 2n);
      await on.client.put(on.key('x'), '');
      await on.client.compact(first.header.revision);
      t.true((await turn(2n, '13')).succeeded);
    },
  ),
  'the health check reads a key that is not there': async (t, on) => {
    const { count } = await on.client.range('/registry/health');
    t.is(count, 0);
  },
  'the version in the status is one that kube-apiserver trusts': async (t, on) => {
    const { version, dbSize } = await on.client.status();
    const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
    t.true(major === 3 && (minor > 5 || (minor === 5 && patch >= 13)), version);
    t.true(dbSize > 0);
  },
};
