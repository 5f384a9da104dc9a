// Watches: every change once, in order, from the resourceVersion of a list; with bookmarks, selectors and resumption.

import type { TestFn } from 'ava';
import type { Api, Body } from '../kubernetes/api.ts';
import { bothApis, newNamespace, type OpenCluster } from './cluster.ts';
import { brokenByWatches } from './guarantees.ts';
import {
  collectionPath,
  newObject,
  objectPath,
  payloadOf,
  payloadPatch,
  quietResources,
  type Resource,
} from './resources.ts';
import { inParallel } from './wait.ts';
import { objectEvents, openInformer, openWatch, versionsOf, type RecordedWatch } from './watch.ts';

const mergeType = 'application/merge-patch+json';
const lifeCount = 15;

/** Objects that are created, patched and deleted one after another; gives the events this must cause. */
async function lives(
  api: Api,
  resource: Resource,
  namespace: string,
  label: string,
): Promise<readonly string[]> {
  const expected: string[] = [];
  for (let index = 0; index < lifeCount; index += 1) {
    const name = `${label}-${index}`;
    const path = objectPath(resource, namespace, name);
    await api.ok('POST', collectionPath(resource, namespace), { body: newObject(resource, name, 'born') });
    await api.ok('PATCH', path, { body: payloadPatch(resource, 'grown'), contentType: mergeType });
    await api.ok('DELETE', path);
    expected.push(`ADDED ${name}`, `MODIFIED ${name}`, `DELETED ${name}`);
  }
  return expected;
}

async function resourceVersionOf(api: Api, path: string): Promise<string> {
  const { metadata } = await api.ok('GET', path);
  return metadata?.resourceVersion ?? '';
}

/** Creates an object and waits until the watch has it: everything before it has then been delivered. */
async function drain(watch: RecordedWatch, api: Api, resource: Resource, namespace: string, name: string) {
  await api.ok('POST', collectionPath(resource, namespace), { body: newObject(resource, name, 'last') });
  await watch.find(`object ${name}`, ({ object }) => object.metadata?.name === name);
}

function ascending(versions: readonly bigint[]): boolean {
  return versions.every((version, index) => index === 0 || version > (versions[index - 1] ?? 0n));
}

function registerOrdered(test: TestFn, cluster: OpenCluster, resource: Resource) {
  const namespace = `watch-${resource.plural}`;
  const path = collectionPath(resource, namespace);

  test.serial(
    `watches: ${resource.kind}: Ordered, Unique and Reliable from the list's resourceVersion`,
    async (t) => {
      await newNamespace(cluster(), namespace);
      const from = await resourceVersionOf(cluster().cached, path);
      const watches = bothApis(cluster()).map(({ label, api }) => ({
        label,
        watch: openWatch(api, path, { resourceVersion: from }),
      }));
      const expected = await lives(cluster().cached, resource, namespace, 'life');
      for (const { label, watch } of watches) {
        await watch.find(
          'the last event',
          ({ type, object }) => `${type} ${object.metadata?.name}` === expected.at(-1),
        );
        t.deepEqual(objectEvents(watch), expected, label);
        t.true(ascending(versionsOf(watch)), `${label}: ${versionsOf(watch).join()}`);
        const gone = watch.events
          .filter(({ type }) => type === 'DELETED')
          .map(({ object }) => payloadOf(resource, object));
        t.true(
          gone.every((payload) => payload === 'grown'),
          `${label}: a deletion carries the last state`,
        );
        watch.close();
      }
      const judged = watches.map((one) => ({ ...one, from }));
      t.deepEqual(await brokenByWatches(cluster(), { resource, namespace }, judged), []);
    },
  );

  test.serial(`watches: ${resource.kind}: Resumable from the middle of its history`, async (t) => {
    const from = await resourceVersionOf(cluster().direct, path);
    const expected = await lives(cluster().direct, resource, namespace, 'again');
    for (const { label, api } of bothApis(cluster())) {
      const first = openWatch(api, path, { resourceVersion: from });
      const last = await first.find(
        'the last event',
        ({ object }) => object.metadata?.name === `again-${lifeCount - 1}`,
      );
      t.truthy(last);
      const middle = Math.floor(expected.length / 2);
      const resumedFrom = String(versionsOf(first)[middle]);
      const resumed = openWatch(api, path, { resourceVersion: resumedFrom });
      await drain(resumed, cluster().cached, resource, namespace, `end-${label.replaceAll(' ', '-')}`);
      t.deepEqual(
        objectEvents(resumed).slice(0, expected.length - middle - 1),
        expected.slice(middle + 1),
        label,
      );
      first.close();
      resumed.close();
      const judged = [
        { label, from, watch: first },
        { label: `${label}, resumed`, from: resumedFrom, watch: resumed },
      ];
      t.deepEqual(await brokenByWatches(cluster(), { resource, namespace }, judged), []);
    }
  });

  test.serial(
    `watches: ${resource.kind}: Bookmarkable: a bookmark follows the events and can be resumed from`,
    async (t) => {
      const { cached } = cluster();
      const from = await resourceVersionOf(cached, path);
      // kube-apiserver sends a bookmark two seconds before the watch runs out.
      const watch = openWatch(cached, path, {
        resourceVersion: from,
        allowWatchBookmarks: true,
        timeoutSeconds: 5,
      });
      await lives(cached, resource, namespace, 'before');
      const { object } = await watch.find('a bookmark', ({ type }) => type === 'BOOKMARK');
      const version = object.metadata?.resourceVersion ?? '';
      t.true(versionsOf(watch).every((seen) => seen <= BigInt(version)));
      t.is(objectEvents(watch).length, lifeCount * 3);
      const resumed = openWatch(cached, path, { resourceVersion: version });
      await drain(resumed, cached, resource, namespace, 'after-bookmark');
      t.deepEqual(objectEvents(resumed), ['ADDED after-bookmark']);
      watch.close();
      resumed.close();
      const judged = [
        { label: 'bookmarked', from, watch },
        { label: 'resumed', from: version, watch: resumed },
      ];
      t.deepEqual(await brokenByWatches(cluster(), { resource, namespace }, judged), []);
    },
  );

  test.serial(
    `watches: ${resource.kind}: a watch with initial events ends them with a bookmark`,
    async (t) => {
      const { items } = await cluster().cached.ok('GET', path);
      const expected = (items ?? []).map(({ metadata }) => `ADDED ${metadata?.name}`);
      for (const { label, api } of bothApis(cluster())) {
        const query = {
          sendInitialEvents: true,
          allowWatchBookmarks: true,
          resourceVersionMatch: 'NotOlderThan',
        };
        const watch = openWatch(api, path, query);
        const { object } = await watch.find('a bookmark', ({ type }) => type === 'BOOKMARK');
        t.is(object.metadata?.annotations?.['k8s.io/initial-events-end'], 'true', label);
        t.deepEqual(objectEvents(watch).toSorted(), expected.toSorted(), label);
        watch.close();
      }
    },
  );

  test.serial(
    `watches: ${resource.kind}: an object that no longer matches the selector is reported as deleted`,
    async (t) => {
      const from = await resourceVersionOf(cluster().cached, path);
      const name = 'selected';
      await cluster().cached.ok('POST', path, {
        body: newObject(resource, name, 'x', { labels: { chosen: 'yes' } }),
      });
      const chosen = (value: string): Body => ({ metadata: { labels: { chosen: value } } });
      for (const value of ['no', 'yes']) {
        await cluster().cached.ok('PATCH', objectPath(resource, namespace, name), {
          body: chosen(value),
          contentType: mergeType,
        });
      }
      for (const { label, api } of bothApis(cluster())) {
        const watch = openWatch(api, path, { resourceVersion: from, labelSelector: 'chosen=yes' });
        await watch.find('three events', () => watch.events.length >= 3);
        t.deepEqual(objectEvents(watch), [`ADDED ${name}`, `DELETED ${name}`, `ADDED ${name}`], label);
        watch.close();
      }
    },
  );
}

/** Registers the tests of watches for a type of each store. */
export function registerWatches(test: TestFn, cluster: OpenCluster): void {
  for (const resource of quietResources) registerOrdered(test, cluster, resource);

  test.serial(
    'watches: concurrent writers through both kube-apiservers: all watches see the same sequence',
    async (t) => {
      const namespace = await newNamespace(cluster(), 'watch-together');
      for (const resource of quietResources) {
        const path = collectionPath(resource, namespace);
        const from = await resourceVersionOf(cluster().direct, path);
        const apis = bothApis(cluster());
        const watches = apis.flatMap(({ api }) =>
          [1, 2].map(() => openInformer(api, path, { resourceVersion: from })),
        );
        await inParallel({ count: 200, parallel: 16 }, (index) =>
          (apis[index % 2]?.api ?? cluster().cached).ok('POST', path, {
            body: newObject(resource, `at-once-${index}`, 'x'),
          }),
        );
        for (const watch of watches) {
          await watch.find('200 events', () => objectEvents(watch).length >= 200);
          watch.close();
        }
        const [first, ...others] = watches.map(objectEvents);
        for (const other of others) t.deepEqual(other, first ?? []);
        t.is(new Set(first).size, 200, `${resource.kind}: each object once`);
        const judged = watches.map((watch, index) => ({ label: `watch ${index}`, from, watch }));
        t.deepEqual(await brokenByWatches(cluster(), { resource, namespace }, judged), []);
      }
    },
  );
}
