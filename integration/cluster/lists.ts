// Lists: in chunks with exact counts, at a resourceVersion, right after writes; from the watch cache and without it.

import type { ExecutionContext, TestFn } from 'ava';
import type { Api, Body, Query } from '../kubernetes/api.ts';
import { bothApis, newNamespace, type Cluster, type OpenCluster } from './cluster.ts';
import {
  collectionPath,
  lease,
  metric,
  newObject,
  objectPath,
  payloadOf,
  payloadPatch,
  quietResources,
  type Resource,
} from './resources.ts';
import { inParallel } from './wait.ts';

const manyCount = 1_200;
const pageLimit = 500;
const lanes = 24;
const mergeType = 'application/merge-patch+json';

function nameOf(index: number): string {
  return `object-${String(index).padStart(5, '0')}`;
}

function namesOf(list: Body): readonly (string | undefined)[] {
  return (list.items ?? []).map(({ metadata }) => metadata?.name);
}

/** All pages of a list; `between` runs after each page but the last. */
async function pagesOf(
  api: Api,
  path: string,
  query: Query,
  between: () => Promise<void> = () => Promise.resolve(),
) {
  const pages: Body[] = [];
  for (let token = ''; ;) {
    const page = await api.ok('GET', path, {
      query: token === '' ? query : { limit: pageLimit, continue: token },
    });
    pages.push(page);
    token = page.metadata?.continue ?? '';
    if (token === '') return pages;
    await between();
  }
}

/** Each page says exactly how many objects remain; together they are `expected`, in order, without repetition. */
function assertPages(t: ExecutionContext, pages: readonly Body[], expected: readonly string[]) {
  t.deepEqual(pages.flatMap(namesOf), expected);
  let remaining = expected.length;
  for (const [index, page] of pages.entries()) {
    remaining -= page.items?.length ?? 0;
    const last = index === pages.length - 1;
    t.is(
      page.metadata?.remainingItemCount,
      last ? undefined : remaining,
      `remainingItemCount of page ${index + 1}`,
    );
    t.is(page.items?.length, last ? expected.length % pageLimit : pageLimit);
    t.is(
      page.metadata?.resourceVersion,
      pages[0]?.metadata?.resourceVersion,
      'one resourceVersion for all pages',
    );
  }
}

/** Fills a namespace of its own with `manyCount` objects. */
async function fill(cluster: Cluster, resource: Resource, namespace: string) {
  await inParallel({ count: manyCount, parallel: lanes }, (index) =>
    cluster.cached.ok('POST', collectionPath(resource, namespace), {
      body: newObject(resource, nameOf(index), 'seed'),
    }),
  );
}

function registerPaging(test: TestFn, cluster: OpenCluster, resource: Resource) {
  const namespace = `paging-${resource.plural}`;
  const path = collectionPath(resource, namespace);
  const all = Array.from({ length: manyCount }, (_, index) => nameOf(index));

  test.serial(`lists: ${resource.kind} in chunks: ${manyCount} objects with exact counts`, async (t) => {
    await newNamespace(cluster(), namespace);
    await fill(cluster(), resource, namespace);
    for (const { label, api } of bothApis(cluster())) {
      t.log(label);
      assertPages(t, await pagesOf(api, path, { limit: pageLimit }), all);
    }
  });

  test.serial(`lists: ${resource.kind} in chunks: writes between pages are not seen`, async (t) => {
    const { cached, direct } = cluster();
    for (const { label, api } of bothApis(cluster())) {
      let writes = 0;
      const pages = await pagesOf(api, path, { limit: pageLimit }, async () => {
        writes += 1;
        await direct.ok('POST', path, {
          body: newObject(resource, `${nameOf(1_100)}-${writes}`, 'x', { labels: { between: '' } }),
        });
        await cached.ok('PATCH', objectPath(resource, namespace, nameOf(1_150)), {
          body: payloadPatch(resource, label),
          contentType: mergeType,
        });
        if (writes === 1) await cached.ok('DELETE', objectPath(resource, namespace, nameOf(1_160)));
      });
      assertPages(t, pages, all);
      const seen = pages
        .flatMap((page) => page.items ?? [])
        .find(({ metadata }) => metadata?.name === nameOf(1_150));
      t.not(payloadOf(resource, seen), label, 'an update between pages is not seen');
      // As it was, for the next round.
      for (const { metadata } of (await direct.ok('GET', path, { query: { labelSelector: 'between' } }))
        .items ?? []) {
        await direct.ok('DELETE', objectPath(resource, namespace, metadata?.name ?? ''));
      }
      await direct.ok('POST', path, { body: newObject(resource, nameOf(1_160), 'seed') });
    }
  });
}

function registerVersions(test: TestFn, cluster: OpenCluster, resource: Resource) {
  const namespace = `versions-${resource.plural}`;
  const path = collectionPath(resource, namespace);

  test.serial(`lists: ${resource.kind} at resourceVersion 0, exact and not older than`, async (t) => {
    await newNamespace(cluster(), namespace);
    const { cached } = cluster();
    await cached.ok('POST', path, { body: newObject(resource, 'kept', 'one') });
    const { metadata } = await cached.ok('POST', path, { body: newObject(resource, 'dropped', 'one') });
    const then = metadata?.resourceVersion ?? '';
    await cached.ok('PATCH', objectPath(resource, namespace, 'kept'), {
      body: payloadPatch(resource, 'two'),
      contentType: mergeType,
    });
    await cached.ok('DELETE', objectPath(resource, namespace, 'dropped'));
    const { metadata: last } = await cached.ok('POST', path, { body: newObject(resource, 'later', 'one') });
    for (const { label, api } of bothApis(cluster())) {
      const list = (query: Query) => api.ok('GET', path, { query });
      const exact = await list({ resourceVersion: then, resourceVersionMatch: 'Exact' });
      t.deepEqual(namesOf(exact), ['dropped', 'kept'], `${label}: exact`);
      t.deepEqual(
        exact.items?.map((item) => payloadOf(resource, item)),
        ['one', 'one'],
        `${label}: exact values`,
      );
      t.is(exact.metadata?.resourceVersion, then);
      const newer = await list({
        resourceVersion: last?.resourceVersion ?? '',
        resourceVersionMatch: 'NotOlderThan',
      });
      t.deepEqual(namesOf(newer), ['kept', 'later'], `${label}: not older than`);
      t.true(BigInt(newer.metadata?.resourceVersion ?? '0') >= BigInt(last?.resourceVersion ?? '0'));
      const anyVersion = await list({ resourceVersion: 0 });
      t.deepEqual(namesOf(anyVersion), ['kept', 'later'], `${label}: resourceVersion 0`);
    }
  });

  test.serial(`lists: ${resource.kind} at a resourceVersion of the future is refused`, async (t) => {
    const { metadata } = await cluster().cached.ok('GET', path);
    const future = String(BigInt(metadata?.resourceVersion ?? '0') + 1_000_000n);
    for (const { label, api } of bothApis(cluster())) {
      const reply = await api.call('GET', path, {
        query: { resourceVersion: future, resourceVersionMatch: 'NotOlderThan' },
      });
      t.is(reply.status, 504, `${label}: ${reply.text}`);
      t.regex(reply.body.message ?? '', /Too large resource version/);
    }
  });

  test.serial(`lists: ${resource.kind} sees each write at once, through either kube-apiserver`, async (t) => {
    const { cached, direct } = cluster();
    for (let index = 0; index < 100; index += 1) {
      const [writer, reader] = index % 2 === 0 ? [cached, direct] : [direct, cached];
      const name = `fresh-${String(index).padStart(3, '0')}`;
      await writer.ok('POST', path, { body: newObject(resource, name, 'x') });
      for (const api of [writer, reader]) {
        const seen = namesOf(await api.ok('GET', path));
        if (!seen.includes(name))
          t.fail(`Expected ${name} in the list right after its create, got ${seen.join(', ')}`);
      }
    }
    t.pass();
  });
}

/** Registers the tests of lists for a type of each store. */
export function registerLists(test: TestFn, cluster: OpenCluster): void {
  for (const resource of quietResources) registerPaging(test, cluster, resource);
  for (const resource of quietResources) registerVersions(test, cluster, resource);

  test.serial('lists: kubectl get --chunk-size gives every object once', async (t) => {
    for (const resource of [metric, lease]) {
      const namespace = `paging-${resource.plural}`;
      const { items } = await cluster().cached.ok('GET', collectionPath(resource, namespace));
      const text = await cluster().plane.run([
        'get',
        resource.plural,
        '-n',
        namespace,
        '--chunk-size=100',
        '-o',
        'name',
      ]);
      const names = text
        .trim()
        .split('\n')
        .map((line) => line.slice(line.lastIndexOf('/') + 1));
      t.deepEqual(
        names,
        items?.map(({ metadata }) => metadata?.name ?? ''),
      );
      t.log(`${names.length} ${resource.plural} in chunks of 100`);
    }
  });
}
