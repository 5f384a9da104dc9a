// What a restore refuses, what it leaves out, what becomes of one that was interrupted, and what a gateway sees that runs beside it.

import test, { type ExecutionContext } from 'ava';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { planRestore } from '../../src/backup/plan.ts';
import { restoreBackup } from '../../src/backup/restore.ts';
import { surveyBackup } from '../../src/backup/survey.ts';
import { EtcdError } from '../../src/etcd/errors.ts';
import { watchRequest } from '../../src/etcd/requests.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { silentLogger } from '../../src/lib/log.ts';
import { parseTopology } from '../../src/router/topology.ts';
import { openBulk } from '../../src/store/open.ts';
import type { Store } from '../../src/store/store.ts';
import { EtcdClient } from '../conformance/client.ts';
import { endOf } from '../conformance/requests.ts';
import { startSwitchyard } from '../servers/index.ts';
import { soon } from '../stores.ts';
import {
  command,
  contentOf,
  definition,
  done,
  folderOf,
  freshEndpoint,
  openAt,
  pairTexts,
  put,
  topologyFile,
  wholeTexts,
  type AnyEngine,
} from './scene.ts';

const largedata = 'data.example.com/largedata';
const keyOf = (index: number) => `/registry/${largedata}/default/n${String(index).padStart(4, '0')}`;

async function freshSqlite(t: ExecutionContext): Promise<string> {
  return (await freshEndpoint(t, 'sqlite'))!;
}

/** Fills a new SQLite store and gives its address. */
async function filled(t: ExecutionContext, work: (store: Store) => Promise<unknown>): Promise<string> {
  const url = await freshSqlite(t);
  await using store = await openAt('sqlite', url);
  await work(store);
  return url;
}

async function backedUp(t: ExecutionContext, url: string, ...flags: readonly string[]): Promise<string> {
  const file = join(folderOf(t), 'backup.jsonl');
  await done(t, 'backup', file, '--default-endpoint', url, ...flags);
  return file;
}

const objects =
  (count: number, text = 'x') =>
  (store: Store) =>
    Promise.all(Array.from({ length: count }, (_, index) => put(store, keyOf(index), text)));

async function contentAt(url: string, engine: AnyEngine = 'sqlite') {
  await using store = await openAt(engine, url);
  return await contentOf(store);
}

test.serial(
  'a type that has objects is refused, and with --replace they are what the backup has',
  async (t) => {
    const source = await filled(t, objects(20));
    const file = await backedUp(t, source);
    const target = await filled(t, async (store) => {
      await objects(30, 'other')(store);
      await put(store, '/registry/configmaps/default/mine', 'stays');
    });
    const before = await contentAt(target);
    const { code, said } = await command('restore', file, '--default-endpoint', target);
    t.is(code, 1);
    t.regex(
      said,
      /Expected no objects of data\.example\.com\/largedata in store default, got some: with --replace/u,
    );
    const unchanged = await contentAt(target);
    t.is(unchanged.header.revision, before.header.revision);
    t.deepEqual(wholeTexts(unchanged.kvs), wholeTexts(before.kvs));
    await done(t, 'restore', file, '--default-endpoint', target, '--replace');
    const after = await contentAt(target);
    const expected = [
      ...(await contentAt(source)).kvs,
      ...before.kvs.filter(({ key }) => key.includes('mine')),
    ];
    const inOrder = expected.toSorted((a, b) => Buffer.compare(a.key, b.key));
    t.deepEqual(wholeTexts(after.kvs), wholeTexts(inOrder));
  },
);

test.serial('a dry run says where types go, and writes nothing', async (t) => {
  const file = await backedUp(t, await filled(t, objects(3)));
  const target = await freshSqlite(t);
  const said = await done(t, 'restore', file, '--default-endpoint', target, '--dry-run');
  t.regex(said, /data\.example\.com\/largedata: 3 objects, \d+ B → default \(sqlite\)\nNothing was written/u);
  t.is((await contentAt(target)).header.revision, 1n);
});

test.serial('one type of a backup of everything is restored', async (t) => {
  const file = await backedUp(
    t,
    await filled(t, async (store) => {
      await objects(3)(store);
      await put(store, '/registry/configmaps/default/one', 'x');
    }),
  );
  const target = await freshSqlite(t);
  await done(t, 'restore', file, '--default-endpoint', target, '--type', 'configmaps');
  t.deepEqual(
    (await contentAt(target)).kvs.map(({ key }) => String(key)),
    ['/registry/configmaps/default/one'],
  );
  const { code, said } = await command('restore', file, '--default-endpoint', target, '--type', 'secrets');
  t.is(code, 1);
  t.regex(said, /Expected objects of secrets in the backup of .*, got none/u);
});

test.serial('a damaged file changes nothing', async (t) => {
  const file = await backedUp(t, await filled(t, objects(3, 'value')));
  writeFileSync(file, readFileSync(file, 'utf8').replace('"value":"value"', '"value":"walue"'));
  const target = await freshSqlite(t);
  const { code, said } = await command('restore', file, '--default-endpoint', target);
  t.is(code, 1);
  t.regex(said, /Expected 3 pairs with the SHA-256 .*: the file is damaged/u);
  t.is((await contentAt(target)).header.revision, 1n);
});

for (const engine of ['sqlite', 'postgres', 'etcd'] as const) {
  test.serial(
    `${engine}: a restore that was interrupted is run again, and until then the store is told to be in between`,
    async (t) => {
      const source = await filled(t, objects(1_000));
      const path = await backedUp(t, source);
      const url = await freshEndpoint(t, engine);
      if (url === undefined) return t.pass();
      const stop = new AbortController();
      const topology = parseTopology('', { env: {}, defaultEndpoint: url });
      const choice = { leased: false };
      {
        await using store = openBulk(topology.default, {
          logger: silentLogger,
          keyPrefix: '/registry',
          signal: stop.signal,
        });
        await store.prepare();
        const survey = await surveyBackup(path, choice);
        const storeNamed = () => Promise.resolve(store);
        const plan = await planRestore({
          topology,
          keyPrefix: '/registry',
          survey,
          storeNamed,
          replace: false,
        });
        const { signal } = stop;
        const progress = () => stop.abort(new Error('stopped by the test'));
        const restoring = { path, survey, choice, plan, margin: 10n, clock: systemClock, signal, progress };
        await t.throwsAsync(restoreBackup(restoring), { message: 'stopped by the test' });
      }
      t.is((await contentAt(url, engine)).kvs.length, 256);
      const backup = await command('backup', join(folderOf(t), 'half'), '--default-endpoint', url);
      t.is(backup.code, 1);
      t.regex(backup.said, /Expected a store without a restore under way, got default/u);
      const other = await backedUp(t, await filled(t, objects(2)));
      const refused = await command('restore', other, '--default-endpoint', url);
      t.is(refused.code, 1);
      t.regex(
        refused.said,
        /Expected no other restore under way in store default, got that of backup \S+, which has not ended/u,
      );
      await done(t, 'restore', path, '--default-endpoint', url);
      const [is, was] = [await contentAt(url, engine), await contentAt(source)];
      const texts = engine === 'etcd' ? pairTexts : wholeTexts;
      t.deepEqual(texts(is.kvs), texts(was.kvs));
      t.is(is.count, 1_000);
      return undefined;
    },
  );
}

test.serial(
  'leases: what is attached is left out, and with --with-leases kept for what was left',
  async (t) => {
    const source = await filled(t, async (store) => {
      await store.leaseGrant({ id: 77n, ttl: 3_600 }, soon());
      await put(store, '/registry/events/default/e', 'event', 77n);
      await put(store, '/registry/configmaps/default/c', 'x');
    });
    const file = await backedUp(t, source);
    const without = await freshSqlite(t);
    const said = await done(t, 'restore', file, '--default-endpoint', without);
    t.regex(said, /left out: 1 object attached to leases, such as Events \(--with-leases\)/u);
    t.deepEqual(
      (await contentAt(without)).kvs.map(({ key }) => String(key)),
      ['/registry/configmaps/default/c'],
    );
    for (const engine of ['sqlite', 'etcd'] as const) {
      const url = await freshEndpoint(t, engine);
      if (url === undefined) continue;
      await done(t, 'restore', file, '--default-endpoint', url, '--with-leases');
      await using store = await openAt(engine, url);
      const lease = await store.leaseTimeToLive({ id: 77n, keys: true }, soon());
      t.deepEqual(lease.keys.map(String), ['/registry/events/default/e']);
      t.true(lease.ttl > 3_000 && lease.ttl <= 3_600, `${lease.ttl} s`);
      await store.leaseRevoke(77n, soon());
      t.is((await contentOf(store)).count, engine === 'etcd' ? 1 : (await contentOf(store)).kvs.length);
      t.is((await contentOf(store)).kvs.length, 1);
    }
  },
);

test.serial('types go where the topology of the target wants them, with a record of it', async (t) => {
  const source = await filled(t, async (store) => {
    // Its group comes before that of the definitions.
    await put(store, '/registry/a.example.com/things/default/one', 'thing');
    await put(store, ...definition('things', 'a.example.com', 'Thing'));
    await put(store, '/registry/configmaps/default/one', 'x');
  });
  const file = await backedUp(t, source);
  const [first, second] = [await freshSqlite(t), await freshSqlite(t)];
  const topology = topologyFile(
    t,
    `default: '${first}'\nbackends:\n  - { name: other, endpoint: '${second}', customresource: { group: a.example.com, kind: Thing } }\n`,
  );
  await done(t, 'restore', file, '--topology', topology);
  const keysAt = async (url: string) => (await contentAt(url)).kvs.map(({ key }) => String(key));
  t.deepEqual(await keysAt(second), ['/registry/a.example.com/things/default/one']);
  t.deepEqual(await keysAt(first), [
    definition('things', 'a.example.com', 'Thing')[0],
    '/registry/configmaps/default/one',
  ]);
  t.true((await contentAt(second)).header.revision > (await contentAt(first)).header.revision + 1_000n);
  const said = await done(t, 'explain', 'things.a.example.com', '--topology', topology);
  t.regex(said, /record {2}other\nstore {3}other/u);
  // Taken apart again: everything, one store, one type.
  const folder = folderOf(t);
  const all = await done(t, 'backup', join(folder, 'all'), '--topology', topology);
  t.regex(all, /default: 2 objects.*\nother: 1 object/u);
  t.regex(
    await done(t, 'backup', join(folder, 'store'), '--topology', topology, '--store', 'other'),
    /^other: 1 object/u,
  );
  const ofType = ['backup', join(folder, 'type'), '--topology', topology, '--type'] as const;
  t.regex(await done(t, ...ofType, 'things.a.example.com'), /^other: 1 object/u);
  const missing = await command(
    'backup',
    join(folder, 'none'),
    '--topology',
    topology,
    '--type',
    'no.a.example.com',
  );
  t.is(missing.code, 1);
  t.regex(
    missing.said,
    /Expected a type with objects, a placement record or a CustomResourceDefinition, got no\.a\.example\.com/u,
  );
});

test.serial('a kind that cannot be told is refused', async (t) => {
  const file = await backedUp(t, await filled(t, objects(1)));
  const [first, second] = [await freshSqlite(t), await freshSqlite(t)];
  const topology = topologyFile(
    t,
    `default: '${first}'\nbackends:\n  - { name: other, endpoint: '${second}', customresource: { group: data.example.com, kind: Other } }\n`,
  );
  const { code, said } = await command('restore', file, '--topology', topology);
  t.is(code, 1);
  t.regex(
    said,
    /Expected CustomResourceDefinition largedata\.data\.example\.com in the backup or in the default store, got none/u,
  );
});

test.serial('an etcd too far below the backup is refused', async (t) => {
  const url = await freshEndpoint(t, 'etcd');
  if (url === undefined) return t.pass();
  const source = await filled(t, async (store) => {
    await store.raiseRevision?.(5_000_000n, soon());
    await objects(1)(store);
  });
  const file = await backedUp(t, source);
  const { code, said } = await command('restore', file, '--default-endpoint', url);
  t.is(code, 1);
  t.regex(
    said,
    /Expected store default at revision 4001001 or above, .* lifted to 5001001, got 1: lift the etcd with etcdutl/u,
  );
  t.notRegex(said, /has not ended/u);
  return undefined;
});

test.serial(
  'a gateway that runs sees what was restored, and its watches are told to begin anew',
  async (t) => {
    const source = await filled(t, objects(300));
    const file = await backedUp(t, source);
    const url = await freshSqlite(t);
    const gateway = await startSwitchyard({ defaultEndpoint: url });
    t.teardown(() => gateway.dispose());
    const client = new EtcdClient(gateway.endpoint);
    t.teardown(() => client.close());
    const { header } = await client.put('/registry/pods/default/p', 'x');
    await using store = await openAt('sqlite', url);
    const watch = await store.watch(watchRequest(Buffer.from('/registry/pods/default/p')), soon());
    const ended = (async () => {
      for await (const batch of watch) t.log(batch);
    })();
    await done(t, 'restore', file, '--default-endpoint', url);
    await t.throwsAsync(ended, { instanceOf: EtcdError, message: /compacted/u });
    const prefix = `/registry/${largedata}/`;
    const rangeEnd = endOf(prefix);
    const listed = await client.range(prefix, { rangeEnd });
    t.deepEqual(pairTexts(listed.kvs), pairTexts((await contentAt(source)).kvs));
    t.true(listed.header.revision > header.revision + 1_000_000_000n);
    t.is((await client.range(prefix, { rangeEnd, limit: 5 })).count, 300);
    const { header: after } = await client.put(keyOf(5), 'changed');
    t.is((await client.range(prefix, { rangeEnd })).kvs[5]?.modRevision, after.revision);
    await client.delete(prefix, { rangeEnd });
    t.is((await client.range(prefix, { rangeEnd, countOnly: true })).count, 0);
  },
);

test.serial('usage is refused with code 2', async (t) => {
  const file = join(folderOf(t), 'x');
  t.is((await command('backup')).code, 2);
  t.is((await command('backup', file, '--type', 'a', '--store', 'default')).code, 2);
  t.is((await command('backup', file, '--store', 'nowhere')).code, 2);
  t.is((await command('restore', '-')).code, 2);
  t.is((await command('restore', file, '--revision-margin', 'many')).code, 2);
  t.is((await command('backup', file, '--unknown')).code, 2);
});

test.serial('a file that is there is not written over, and a failed backup leaves none', async (t) => {
  const url = await filled(t, objects(1));
  const folder = folderOf(t);
  writeFileSync(join(folder, 'there'), 'mine');
  const { code, said } = await command('backup', join(folder, 'there'), '--default-endpoint', url);
  t.is(code, 1);
  t.regex(said, /Expected a file that is not there yet, got /u);
  const missing = `sqlite://${join(folder, 'no.db')}`;
  const failed = await command('backup', join(folder, 'new'), '--default-endpoint', missing);
  t.is(failed.code, 1);
  t.regex(failed.said, /Expected a database for store default, got none at sqlite:/u);
  t.deepEqual(readdirSync(folder), ['there']);
});
