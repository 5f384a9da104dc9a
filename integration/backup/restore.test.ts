// What a backup and a restore refuse, where types are taken from and go to, and what a gateway sees that runs beside it.

import test, { type ExecutionContext } from 'ava';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EtcdError } from '../../src/etcd/errors.ts';
import { watchRequest } from '../../src/etcd/requests.ts';
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

test.serial('types of several stores are taken from where they live, and from nowhere else', async (t) => {
  const record = Buffer.from('{"store":"other","because":"rule"}');
  const first = await filled(t, async (store) => {
    await put(store, '/switchyard/placements/a.example.com/things', record);
    await put(store, '/registry/a.example.com/things/default/one', 'remains');
    await put(store, '/registry/configmaps/default/one', 'lives');
  });
  const second = await filled(t, async (store) => {
    await put(store, '/registry/a.example.com/things/default/one', 'lives');
    await put(store, '/registry/configmaps/default/one', 'remains');
  });
  const topology = topologyFile(
    t,
    `default: '${first}'\nbackends:\n  - { name: other, endpoint: '${second}', customresource: { group: a.example.com } }\n`,
  );
  const folder = folderOf(t);
  const types = ['--type', 'things.a.example.com', '--type', 'configmaps', '--type', 'configmaps'];
  await done(t, 'backup', join(folder, 'types'), '--topology', topology, ...types);
  const text = readFileSync(join(folder, 'types'), 'utf8');
  t.is(text.match(/"value":"lives"/gu)?.length, 2);
  t.notRegex(text, /remains/u);
  // Whoever asks for whole stores gets what is in them, and cannot restore it unseen.
  await done(t, 'backup', join(folder, 'all'), '--topology', topology);
  const target = ['--default-endpoint', await freshSqlite(t)];
  const { code, said } = await command('restore', join(folder, 'all'), ...target);
  t.is(code, 1);
  t.regex(
    said,
    /Expected the objects of configmaps in one store of the backup, got some in default and other/u,
  );
  await done(t, 'restore', join(folder, 'all'), ...target, '--store', 'default');
});

test.serial('a type whose store is not known is in no backup, so there is none', async (t) => {
  const url = await filled(t, async (store) => {
    await objects(1)(store);
    await put(store, '/switchyard/placements/a.example.com/things', '{"store":"gone","because":"rule"}');
    await put(store, '/switchyard/placements/b.example.com/others', 'not a record');
  });
  const folder = folderOf(t);
  const { code, said } = await command('backup', join(folder, 'all'), '--default-endpoint', url);
  t.is(code, 1);
  t.regex(
    said,
    /Expected a backend named gone in the topology, where a\.example\.com\/things lives, got none/u,
  );
  t.regex(
    said,
    /Expected a backend named by the placement record in the topology, where b\.example\.com\/others/u,
  );
  t.deepEqual(readdirSync(folder), []);
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

test.serial('objects that an etcd would not take are refused before anything is written', async (t) => {
  const url = await freshEndpoint(t, 'etcd');
  if (url === undefined) return t.pass();
  const large = Buffer.alloc(3 * 1024 * 1024, 'x');
  const file = await backedUp(t, await filled(t, (store) => put(store, keyOf(1), large)));
  const { code, said } = await command('restore', file, '--default-endpoint', url);
  t.is(code, 1);
  t.regex(
    said,
    /Expected objects that store default takes, got one of 31457\d\d bytes in data\.example\.com\/largedata/u,
  );
  t.is((await contentAt(url, 'etcd')).header.revision, 1n);
  return undefined;
});

test.serial('an etcd is lifted as far as wanted, and where that is not far a line says so', async (t) => {
  const url = await freshEndpoint(t, 'etcd');
  if (url === undefined) return t.pass();
  const file = await backedUp(t, await filled(t, objects(20)));
  const restore = ['restore', file, '--default-endpoint', url] as const;
  const short =
    /default: its revision will be at least (\d+) above that of the backup, which is \d minutes old/u;
  t.is(short.exec(await done(t, ...restore, '--dry-run'))?.[1], '999980');
  t.notRegex(await done(t, ...restore, '--revision-margin', '3000'), short);
  const { header } = await contentAt(url, 'etcd');
  t.true(header.revision > 3_020n && header.revision < 4_000n, `${header.revision}`);
  // It has passed the backup, so it is taken for the one that clients know.
  const said = await done(t, ...restore, '--replace');
  t.is(BigInt(short.exec(said)![1]!), header.revision - 21n);
  t.true((await contentAt(url, 'etcd')).header.revision < 4_000n);
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
  t.is((await command('restore', '--give-up', file)).code, 2);
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
