// One watch stream over an etcd, a Postgres and an SQLite: ids, events, cancels and progress of each, whole answers, and what
// remains when one of them is away.

import test from 'ava';
import type { WatchResponse } from '../src/etcd/codec/watch.ts';
import type { WatchId } from '../src/etcd/types.ts';
import { EtcdClient } from './conformance/client.ts';
import type { WatchStream } from './conformance/watch-stream.ts';
import { privateDatabaseServer, startSwitchyard, tempFolder, testEtcd, waitFor } from './servers/index.ts';
import { skipped } from './servers/database.ts';
import { dialects, pool } from './stores.ts';

const keys = { etcd: '/registry/plain/a', postgres: '/registry/pg/a', sqlite: '/registry/lite/a' } as const;
type Place = keyof typeof keys;
const places = ['etcd', 'postgres', 'sqlite'] as const;

async function openStores() {
  const postgres = await privateDatabaseServer('postgres');
  const etcd = await skipped(() => testEtcd());
  if (postgres === undefined || etcd === undefined) return undefined;
  const url = new URL(postgres.url);
  url.pathname = '/mixed';
  await dialects.postgres.createDatabase({ url: url.href, pool });
  const topology = `backends:
  - { name: pg, endpoint: "${url.href}", prefix: { prefix: pg } }
  - { name: lite, endpoint: "sqlite://${tempFolder('mixed')}/lite.db", prefix: { prefix: lite } }
`;
  const switchyard = await startSwitchyard({ defaultEndpoint: etcd.endpoint, topology });
  const client = new EtcdClient(switchyard.endpoint);
  const dispose = async () => {
    client.close();
    await switchyard.dispose();
    await etcd.dispose();
    await postgres.dispose();
  };
  return { client, postgres, dispose };
}

const shown = ({ watchId, events, canceled }: WatchResponse) =>
  canceled ? `${watchId} canceled` : `${watchId} ${events.map(({ kv }) => kv.value.toString()).join()}`;

/** Creates a watch of the key of each place. */
async function watchEach(stream: WatchStream): Promise<Record<Place, WatchId>> {
  const ids = { etcd: -1n, postgres: -1n, sqlite: -1n };
  for (const place of places) {
    const created = await stream.create(keys[place]);
    if (!created.created || created.canceled) throw new Error(`Expected a watch, got ${shown(created)}`);
    ids[place] = created.watchId;
  }
  return ids;
}

test.serial(
  'three stores on one stream are told apart, and one that is away hurts its own only',
  async (t) => {
    t.timeout(180_000);
    const stores = await openStores();
    if (stores === undefined) return void t.pass();
    const { client, postgres } = stores;
    t.teardown(stores.dispose);
    const stream = client.watchStream();
    const ids = await watchEach(stream);
    const chosen = await stream.create(keys.sqlite, { watchId: 7n });
    t.is(chosen.watchId, 7n);
    for (const place of places) {
      const refused = await stream.create(keys[place], { watchId: 7n });
      t.deepEqual(
        [refused.watchId, refused.cancelReason],
        [-1n, 'mvcc: duplicate watch ID provided on the WatchStream'],
        place,
      );
    }
    t.is(new Set([...Object.values(ids), 7n]).size, 4);

    for (const place of places) {
      const { header } = await client.put(keys[place], place);
      const answers = [await stream.next(), ...(place === 'sqlite' ? [await stream.next()] : [])];
      const expected = place === 'sqlite' ? [`7 sqlite`, `${ids.sqlite} sqlite`] : [`${ids[place]} ${place}`];
      t.deepEqual(answers.map(shown).toSorted(), expected.toSorted());
      for (const answer of answers) t.deepEqual(answer.header, header, 'of its own timeline');
    }

    stream.requestProgress();
    const marks = [await stream.next(), await stream.next(), await stream.next(), await stream.next()];
    t.deepEqual(marks.map(shown).toSorted(), [...Object.values(ids), 7n].map((id) => `${id} `).toSorted());

    stream.cancel(7n);
    t.is(shown(await stream.next()), '7 canceled');
    await postgres.kill();
    for (const place of ['etcd', 'sqlite'] as const) {
      await client.put(keys[place], 'while away');
      t.is(shown(await stream.next()), `${ids[place]} while away`);
    }
    stream.cancel(ids.sqlite);
    t.is(shown(await stream.next()), `${ids.sqlite} canceled`);
    await postgres.start();
    await waitFor(() => client.put(keys.postgres, 'back').then(() => true), { what: 'a put' });
    t.is(shown(await stream.next(30_000)), `${ids.postgres} back`);
    stream.cancel(ids.postgres);
    t.is(shown(await stream.next()), `${ids.postgres} canceled`);
    await client.put(keys.etcd, 'last');
    t.is(shown(await stream.next()), `${ids.etcd} last`);
    stream.close();
  },
);

test.serial('nothing comes between the fragments of an answer, whoever gives it', async (t) => {
  t.timeout(180_000);
  const stores = await openStores();
  if (stores === undefined) return void t.pass();
  const { client } = stores;
  t.teardown(stores.dispose);
  const first: Partial<Record<Place, bigint>> = {};
  for (const place of places) {
    for (let n = 0; n < 24; n++) {
      const { header } = await client.put(`${keys[place]}${n}`, Buffer.alloc(1024 * 1024, n));
      first[place] ??= header.revision;
    }
  }
  const stream = client.watchStream();
  await watchEach(stream);
  let isOver = false;
  const writers = places.map(async (place) => {
    for (let n = 0; !isOver; n++) await client.put(keys[place], `${n}`);
  });
  for (const place of places) {
    const range = { rangeEnd: `${keys[place]}:`, startRevision: first[place]! };
    stream.send(`${keys[place]}0`, { ...range, fragment: true });
  }
  let open: WatchId | undefined;
  let large = 0;
  let fragments = 0;
  while (large < 3 * 24) {
    const { watchId, events, fragment } = await stream.next();
    if (open !== undefined) t.is(watchId, open);
    open = fragment ? watchId : undefined;
    if (fragment) fragments++;
    large += events.filter(({ kv }) => kv.value.length === 1024 * 1024).length;
  }
  isOver = true;
  await Promise.all(writers);
  t.true(fragments >= 3);
  stream.close();
});
