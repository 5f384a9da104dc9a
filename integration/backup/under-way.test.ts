// A restore that does not end, and several at once: until all of it is there the stores are told to be in between, nobody resumes another
// restore than the one that was begun, and of two runs one goes on.

import test, { type ExecutionContext } from 'ava';
import { join } from 'node:path';
import { markerKey } from '../../src/backup/marker.ts';
import { NoteError } from '../../src/store/bulk.ts';
import type { Store } from '../../src/store/store.ts';
import { fileOf, headerLine, interrupted, pairLine, planned } from './runs.ts';
import {
  anyEngines,
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
const count = 300;
const margin = ['--revision-margin', '10'] as const;

async function fill(store: Store): Promise<void> {
  const keys = Array.from({ length: count }, (_, index) => `/registry/${largedata}/default/n${index}`);
  await Promise.all(keys.map((key) => put(store, key, 'x')));
  await put(store, '/registry/configmaps/default/one', 'x');
}

/** A backup of an SQLite store with some objects, and what is in it. */
async function backedUp(t: ExecutionContext, work = fill) {
  const url = (await freshEndpoint(t, 'sqlite'))!;
  await using store = await openAt('sqlite', url);
  await work(store);
  const path = join(folderOf(t), 'backup.jsonl');
  await done(t, 'backup', path, '--default-endpoint', url);
  return { path, content: await contentOf(store) };
}

async function contentAt(engine: AnyEngine, url: string) {
  await using store = await openAt(engine, url);
  return await contentOf(store);
}

const textsOf = (engine: AnyEngine) => (engine === 'etcd' ? pairTexts : wholeTexts);

for (const engine of anyEngines) {
  test.serial(
    `${engine}: a restore that was interrupted is resumed, and nothing else is done meanwhile`,
    async (t) => {
      const { path, content } = await backedUp(t);
      const url = await freshEndpoint(t, engine);
      if (url === undefined) return t.pass();
      await interrupted(t, { path, topology: `default: '${url}'` });
      t.is((await contentAt(engine, url)).kvs.length, 256);
      const target = ['--default-endpoint', url, ...margin] as const;
      const backup = await command('backup', join(folderOf(t), 'half'), '--default-endpoint', url);
      t.is(backup.code, 1);
      t.regex(
        backup.said,
        /Expected a store without a restore under way, got default, where one has not ended/u,
      );
      const other = await backedUp(t, (store) =>
        put(store, '/registry/pods/default/p', 'x').then(() => undefined),
      );
      for (const given of [[path], [other.path], [other.path, '--replace']]) {
        const refused = await command('restore', ...given, ...target);
        t.is(refused.code, 1);
        t.regex(
          refused.said,
          /Expected no other restore under way in store default, got that of backup \S+, everything, begun at \S+, which/u,
        );
      }
      t.is((await contentAt(engine, url)).kvs.length, 256);
      await done(t, 'restore', path, ...target, '--resume');
      const texts = textsOf(engine);
      t.deepEqual(texts((await contentAt(engine, url)).kvs), texts(content.kvs));
      await done(t, 'backup', join(folderOf(t), 'whole'), '--default-endpoint', url);
      return undefined;
    },
  );

  test.serial(`${engine}: of two restores at once one goes on`, async (t) => {
    const { path, content } = await backedUp(t);
    const url = await freshEndpoint(t, engine);
    if (url === undefined) return t.pass();
    const topology = `default: '${url}'`;
    const [begun, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const slow = await planned(t, {
      path,
      topology,
      wrap: (store) => ({
        put: async (pairs, note) => {
          begun.resolve();
          await gate.promise;
          await store.put(pairs, note);
        },
      }),
    });
    const late = await planned(t, { path, topology });
    const first = slow.restore();
    first.catch(() => undefined);
    await begun.promise;
    await t.throwsAsync(late.restore(), {
      message: /Expected no other restore to begin in store default meanwhile/u,
    });
    t.is((await command('restore', path, '--default-endpoint', url, ...margin)).code, 1);
    t.is((await contentAt(engine, url)).kvs.length, 0);
    // Somebody who is wrong about nobody being at it takes over, and the first one ends.
    await done(t, 'restore', path, '--default-endpoint', url, ...margin, '--resume');
    gate.resolve();
    await t.throwsAsync(first, { instanceOf: NoteError });
    const texts = textsOf(engine);
    t.deepEqual(texts((await contentAt(engine, url)).kvs), texts(content.kvs));
    return undefined;
  });
}

test.serial('a restore is resumed as it was begun, or replaced with all its types', async (t) => {
  const { path, content } = await backedUp(t);
  const url = (await freshEndpoint(t, 'sqlite'))!;
  const mine = '/registry/configmaps/default/mine';
  {
    await using store = await openAt('sqlite', url);
    await put(store, mine, 'stays');
    await put(store, `/registry/${largedata}/default/old`, 'goes');
  }
  const choice = { leased: false, roots: new Set([largedata]) };
  await interrupted(t, { path, topology: `default: '${url}'`, choice, replace: true });
  const restore = ['restore', path, '--default-endpoint', url, ...margin, '--resume'] as const;
  const all = await command(...restore);
  t.is(all.code, 1);
  t.regex(
    all.said,
    /to be resumed as it was begun, .*types data\.example\.com\/largedata, begun at .*, everything: give the same, or --replace as well/u,
  );
  const less = await command(...restore, '--type', 'configmaps', '--replace');
  t.is(less.code, 1);
  t.regex(less.said, /got none of data\.example\.com\/largedata: restore these as well/u);
  await done(t, ...restore, '--type', 'largedata.data.example.com');
  const keys = (await contentAt('sqlite', url)).kvs.map(({ key }) => String(key));
  t.is(keys.length, count + 1);
  t.true(keys.includes(mine));
  // And in place of it another one, with more.
  await interrupted(t, { path, topology: `default: '${url}'`, choice, replace: true });
  await done(t, ...restore, '--replace');
  t.deepEqual(wholeTexts((await contentAt('sqlite', url)).kvs), wholeTexts(content.kvs));
});

test.serial('a restore into several stores that stops anywhere is resumed', async (t) => {
  const { path } = await backedUp(t, async (store) => {
    await fill(store);
    await put(store, ...definition('largedata', 'data.example.com', 'LargeData'));
  });
  const [first, second] = [(await freshEndpoint(t, 'sqlite'))!, (await freshEndpoint(t, 'sqlite'))!];
  const text = `default: '${first}'\nbackends:\n  - { name: other, endpoint: '${second}', customresource: { group: data.example.com, kind: LargeData } }\n`;
  const restore = ['restore', path, '--topology', topologyFile(t, text), ...margin] as const;
  await interrupted(t, { path, topology: text });
  t.is((await command(...restore)).code, 1);
  // At its very end: the default store's marker alone is left.
  const failing = await planned(t, {
    path,
    topology: text,
    resume: true,
    wrap: (store) => ({
      swap: async (key, before, after) => {
        if (store.name === 'default' && key.equals(markerKey) && after === undefined)
          throw new Error('cut off');
        return await store.swap(key, before, after);
      },
    }),
  });
  await t.throwsAsync(failing.restore(), { message: 'cut off' });
  await done(t, 'backup', join(folderOf(t), 'other'), '--topology', restore[3], '--store', 'other');
  const refused = await command(...restore);
  t.regex(refused.said, /Expected no other restore under way in store default/u);
  t.notRegex(refused.said, /in store other|Expected no objects/u);
  await done(t, ...restore, '--resume');
  t.is((await contentAt('sqlite', second)).kvs.length, count);
  await done(t, 'backup', join(folderOf(t), 'all'), '--topology', restore[3]);
});

test.serial('a restore is given up', async (t) => {
  const { path } = await backedUp(t);
  const url = (await freshEndpoint(t, 'sqlite'))!;
  const giveUp = ['restore', '--give-up', '--default-endpoint', url] as const;
  t.is(await done(t, ...giveUp), 'No store has a restore under way');
  await interrupted(t, { path, topology: `default: '${url}'` });
  t.regex(
    await done(t, ...giveUp),
    /^default: given up: that of backup \S+, everything, begun at .*\n {2}parts of these may be missing: configmaps, data\.example\.com\/largedata$/u,
  );
  t.is(await done(t, ...giveUp), 'No store has a restore under way');
  t.is((await contentAt('sqlite', url)).kvs.length, 256);
  await done(t, 'backup', join(folderOf(t), 'part'), '--default-endpoint', url);
  t.is((await command(...giveUp, path)).code, 2);
});

test.serial('a restore that fails says how to run it again', async (t) => {
  const url = await freshEndpoint(t, 'etcd');
  if (url === undefined) return t.pass();
  // Longer than an etcd grants a lease.
  const path = fileOf(t, [
    headerLine,
    { type: 'store', store: 'default', engine: 'etcd', revision: 10n },
    { type: 'lease', id: 7n, grantedTtlSeconds: 10_000_000_000, ttlSeconds: 10_000_000_000 },
    pairLine('/registry/events/default/e', 7n),
    { type: 'storeEnd', store: 'default', pairs: 1 },
  ]);
  const { code, said } = await command(
    'restore',
    path,
    '--default-endpoint',
    url,
    ...margin,
    '--with-leases',
  );
  t.is(code, 1);
  t.true(
    said.includes(
      `Run it again: switchyard restore ${path} --revision-margin 10 --with-leases --resume --default-endpoint ${url} --key-prefix /registry`,
    ),
    said,
  );
  return undefined;
});
