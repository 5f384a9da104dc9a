// A backup of each engine is restored into each of them: pairs are the same, revisions are above all that were told, and whoever goes
// on from an old one is told to list anew.

import test, { type ExecutionContext } from 'ava';
import { join } from 'node:path';
import { EtcdError } from '../../src/etcd/errors.ts';
import type { Revision } from '../../src/etcd/types.ts';
import { watchRequest } from '../../src/etcd/requests.ts';
import type { Store } from '../../src/store/store.ts';
import { soon } from '../stores.ts';
import {
  anyEngines,
  contentOf,
  done,
  folderOf,
  freshEndpoint,
  openAt,
  pairTexts,
  put,
  remove,
  wholeTexts,
  type AnyEngine,
} from './scene.ts';

const margin = 1_000_000_000n;

/** Objects of several types, some of them changed, deleted, large, or not text; more than a page and a batch. */
async function fill(store: Store): Promise<void> {
  const large = Buffer.alloc(700_000, 'large ');
  for (const name of ['a', 'b', 'c'])
    await put(store, `/registry/data.example.com/largedata/default/${name}`, large);
  await Promise.all(
    Array.from({ length: 600 }, (_, index) =>
      put(store, `/registry/configmaps/default/c${index}`, `{"n":${index}}`),
    ),
  );
  await put(store, '/registry/configmaps/default/c7', '{"n":"changed"}');
  await remove(store, '/registry/configmaps/default/c8');
  await put(store, '/registry/configmaps/default/c9', '');
  await put(store, Buffer.from([0x2f, 0xff, 0x00, 0x80]), Buffer.from([0xfe, 0x00, 0xff]));
  await put(
    store,
    '/registry/configmaps-like/x',
    'another type, between the bare key and the rest of the first',
  );
  await put(store, 'compact_rev_key', '12');
}

async function compactedAt(t: ExecutionContext, store: Store, revision: Revision): Promise<void> {
  await t.throwsAsync(contentOf(store, revision), { instanceOf: EtcdError, message: /compacted/u });
  const watching = store.watch(watchRequest(Buffer.from('/a'), { startRevision: revision }), soon());
  const first = async () => {
    for await (const batch of await watching) return batch;
    return undefined;
  };
  await t.throwsAsync(first(), { instanceOf: EtcdError, message: /compacted/u });
}

async function restoredInto(
  t: ExecutionContext,
  target: AnyEngine,
  { file, before }: { readonly file: string; readonly before: Awaited<ReturnType<typeof contentOf>> },
): Promise<void> {
  const url = await freshEndpoint(t, target);
  if (url === undefined) return;
  // As many writes.
  const lift = target === 'etcd' ? ['--revision-margin', '2000'] : [];
  const said = await done(t, 'restore', file, '--default-endpoint', url, ...lift);
  t.regex(said, /default: 605 objects restored, now at revision \d+/u);
  const store = await openAt(target, url);
  try {
    const after = await contentOf(store);
    t.deepEqual(pairTexts(after.kvs), pairTexts(before.kvs));
    const told = before.header.revision;
    if (target === 'etcd') {
      t.true(after.kvs.every(({ createRevision, version }) => createRevision > told && version === 1n));
      t.true(after.header.revision > told);
    } else {
      t.deepEqual(wholeTexts(after.kvs), wholeTexts(before.kvs));
      t.true(after.header.revision > told + margin);
    }
    await compactedAt(t, store, told);
    t.is(await put(store, '/registry/configmaps/default/new', 'x'), after.header.revision + 1n);
    t.is((await contentOf(store)).count, before.kvs.length + 1);
    if (store.hashKv !== undefined) t.is(typeof (await store.hashKv(0n, soon())).hash, 'number');
  } finally {
    await store[Symbol.asyncDispose]();
  }
}

for (const source of anyEngines) {
  test.serial(`${source}: a backup is restored into every engine`, async (t) => {
    const url = await freshEndpoint(t, source);
    if (url === undefined) return t.pass();
    const store = await openAt(source, url);
    await fill(store);
    const before = await contentOf(store);
    await store[Symbol.asyncDispose]();
    const file = join(folderOf(t), source === 'sqlite' ? 'all.jsonl.gz' : 'all.jsonl');
    const said = await done(t, 'backup', file, '--default-endpoint', url);
    t.regex(
      said,
      new RegExp(`default: 605 objects, 2\\.0 MiB, at revision ${before.header.revision}\n`, 'u'),
    );
    for (const target of anyEngines) await restoredInto(t, target, { file, before });
    return undefined;
  });
}
