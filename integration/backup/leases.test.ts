// Objects that are attached to leases: left out, or brought back for the time that was left where clients renew them.

import test, { type ExecutionContext } from 'ava';
import { join } from 'node:path';
import { readBackup } from '../../src/backup/read.ts';
import type { Store } from '../../src/store/store.ts';
import { soon } from '../stores.ts';
import { fileOf, headerLine, pairLine, planned } from './runs.ts';
import {
  command,
  contentOf,
  definition,
  done,
  folderOf,
  freshEndpoint,
  openAt,
  put,
  topologyFile,
} from './scene.ts';

const margin = ['--revision-margin', '10'] as const;

async function filled(t: ExecutionContext, work: (store: Store) => Promise<unknown>): Promise<string> {
  const url = (await freshEndpoint(t, 'sqlite'))!;
  await using store = await openAt('sqlite', url);
  await work(store);
  return url;
}

const keysOf = (kvs: readonly { readonly key: Buffer }[]) => kvs.map(({ key }) => String(key));

test.serial('what is attached is left out, and with --with-leases kept for what was left', async (t) => {
  const source = await filled(t, async (store) => {
    await store.leaseGrant({ id: 77n, ttl: 3_600 }, soon());
    await put(store, '/registry/events/default/e', 'event', 77n);
    await put(store, '/registry/configmaps/default/c', 'x');
  });
  const file = join(folderOf(t), 'backup');
  await done(t, 'backup', file, '--default-endpoint', source);
  const without = (await freshEndpoint(t, 'sqlite'))!;
  const said = await done(t, 'restore', file, '--default-endpoint', without);
  t.regex(said, /left out: 1 object attached to leases, such as Events \(--with-leases\)/u);
  {
    await using store = await openAt('sqlite', without);
    t.deepEqual(keysOf((await contentOf(store)).kvs), ['/registry/configmaps/default/c']);
  }
  for (const engine of ['sqlite', 'etcd'] as const) {
    const url = await freshEndpoint(t, engine);
    if (url === undefined) continue;
    await done(t, 'restore', file, '--default-endpoint', url, '--with-leases', ...margin);
    await using store = await openAt(engine, url);
    const lease = await store.leaseTimeToLive({ id: 77n, keys: true }, soon());
    t.deepEqual(lease.keys.map(String), ['/registry/events/default/e']);
    t.true(lease.ttl > 3_000 && lease.ttl <= 3_600, `${lease.ttl} s`);
    t.is((await contentOf(store)).count, 2);
    await store.leaseRevoke(77n, soon());
    t.is((await contentOf(store)).count, 1);
    t.deepEqual(keysOf((await contentOf(store)).kvs), ['/registry/configmaps/default/c']);
  }
});

/** A default store and one beside it, where things live. */
function twoStores(t: ExecutionContext, first: string, second: string): string {
  return topologyFile(
    t,
    `default: '${first}'\nbackends:\n  - { name: other, endpoint: '${second}', customresource: { group: a.example.com, kind: Thing } }\n`,
  );
}

async function leaseTimes(path: string): Promise<readonly number[]> {
  const times: number[] = [];
  for await (const line of readBackup(path)) if (line.type === 'lease') times.push(line.ttlSeconds);
  return times;
}

test.serial(
  'the time of a lease is that of the default store, and of another store where that is away',
  async (t) => {
    const first = await filled(t, async (store) => {
      await store.leaseGrant({ id: 77n, ttl: 3_600 }, soon());
      await put(store, ...definition('things', 'a.example.com', 'Thing'));
    });
    // As a gateway has it: for a few minutes at a time.
    const second = await filled(t, async (store) => {
      await store.leaseGrant({ id: 77n, ttl: 100 }, soon());
      await put(store, '/registry/a.example.com/things/default/one', 'x', 77n);
    });
    const source = twoStores(t, first, second);
    const [all, one, alone] = ['all', 'one', 'alone'].map((name) => join(folderOf(t), name)) as [
      string,
      string,
      string,
    ];
    await done(t, 'backup', all, '--topology', source);
    await done(t, 'backup', one, '--topology', source, '--store', 'other');
    for (const file of [all, one]) {
      const [time = 0, ...more] = await leaseTimes(file);
      t.deepEqual(more, []);
      t.true(time > 3_000, `${time} s`);
    }
    const away = twoStores(t, `sqlite://${join(folderOf(t), 'none.db')}`, second);
    const said = await done(t, 'backup', alone, '--topology', away, '--store', 'other');
    t.regex(said, /The default store does not tell how long leases last, .*five minutes/u);
    t.true((await leaseTimes(alone))[0]! <= 100);
    // Back in a store beside the default one it is looked for again within minutes.
    const [third, fourth] = [(await freshEndpoint(t, 'sqlite'))!, (await freshEndpoint(t, 'sqlite'))!];
    await done(t, 'restore', all, '--topology', twoStores(t, third, fourth), '--with-leases');
    for (const [url, least, most] of [
      [third, 3_000, 3_600],
      [fourth, 200, 300],
    ] as const) {
      await using store = await openAt('sqlite', url);
      const { ttl, grantedTtl } = await store.leaseTimeToLive({ id: 77n, keys: false }, soon());
      t.true(ttl > least && ttl <= most, `${ttl} s`);
      t.true(grantedTtl > 3_000);
    }
  },
);

test.serial('the longest time counts, and what was over is counted', async (t) => {
  const store = { type: 'store', engine: 'sqlite', revision: 10n } as const;
  const file = fileOf(t, [
    headerLine,
    { ...store, store: 'default' },
    { type: 'lease', id: 7n, grantedTtlSeconds: 3_600, ttlSeconds: 3_000 },
    { type: 'lease', id: -8n, grantedTtlSeconds: 60, ttlSeconds: 0 },
    pairLine('/registry/events/default/e', 7n),
    pairLine('/registry/events/default/over', -8n),
    { type: 'storeEnd', store: 'default', pairs: 2 },
    { ...store, store: 'other' },
    { type: 'lease', id: 7n, grantedTtlSeconds: 3_600, ttlSeconds: 20 },
    pairLine('/registry/pods/default/p', 7n),
    { type: 'storeEnd', store: 'other', pairs: 1 },
  ]);
  const url = (await freshEndpoint(t, 'sqlite'))!;
  const said = await done(t, 'restore', file, '--default-endpoint', url, '--with-leases');
  t.regex(
    said,
    /default: 2 objects restored.*\ndefault: left out: 1 object attached to leases that were over/u,
  );
  await using opened = await openAt('sqlite', url);
  t.true((await opened.leaseTimeToLive({ id: 7n, keys: false }, soon())).ttl > 2_900);
  t.is((await contentOf(opened)).kvs.length, 2);
});

test.serial('an etcd that lets a lease expire between two writes is given it again', async (t) => {
  const url = await freshEndpoint(t, 'etcd');
  if (url === undefined) return t.pass();
  const keys = Array.from({ length: 300 }, (_, index) => `/registry/events/default/e${1000 + index}`);
  const path = fileOf(t, [
    headerLine,
    { type: 'store', store: 'default', engine: 'etcd', revision: 10n },
    { type: 'lease', id: 7n, grantedTtlSeconds: 3_600, ttlSeconds: 600 },
    ...keys.map((key) => pairLine(key, 7n)),
    { type: 'storeEnd', store: 'default', pairs: keys.length },
  ]);
  await using opened = await openAt('etcd', url);
  let writes = 0;
  const run = await planned(t, {
    path,
    topology: `default: '${url}'`,
    choice: { leased: true },
    wrap: (store) => ({
      put: async (pairs, note) => {
        if (writes++ === 1) await opened.leaseRevoke(7n, soon());
        await store.put(pairs, note);
      },
    }),
  });
  await run.restore();
  const lease = await opened.leaseTimeToLive({ id: 7n, keys: true }, soon());
  t.deepEqual(lease.keys.map(String).toSorted(), keys.slice(256));
  t.is((await command('backup', join(folderOf(t), 'after'), '--default-endpoint', url)).code, 0);
  return undefined;
});
