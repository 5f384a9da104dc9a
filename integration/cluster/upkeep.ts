// What goes on in a cluster by itself or at its edges: events that expire, large objects, compaction, where keys are.

import type { TestFn } from 'ava';
import type { Body } from '../kubernetes/api.ts';
import {
  assertPlaced,
  bothApis,
  newNamespace,
  untilEmpty,
  type Cluster,
  type OpenCluster,
} from './cluster.ts';
import { deleteDefinition, establishResources } from './definitions.ts';
import {
  collectionPath,
  customResources,
  largeData,
  newObject,
  objectKey,
  objectPath,
  payloadOf,
  payloadPatch,
  quietResources,
} from './resources.ts';
import { inParallel, until } from './wait.ts';
import { objectEvents, openInformer, openWatch, type RecordedWatch } from './watch.ts';

const mergeType = 'application/merge-patch+json';
const mebibyte = 1024 * 1024;
const updateCount = 150;
/** Keys of the store that belong to no resource type. */
const otherRoots: ReadonlySet<string> = new Set(['/registry/health']);

/** `/registry/<resource>`, or `/registry/<group>/<resource>` where the segment is an API group. */
function rootOf(key: string): string {
  const [, , first = '', second = ''] = key.split('/');
  return first.includes('.') ? `/registry/${first}/${second}` : `/registry/${first}`;
}

function registerExpiry(test: TestFn, cluster: OpenCluster) {
  test.serial('upkeep: events are attached to a lease and expire with it', async (t) => {
    const namespace = await newNamespace(cluster(), 'events');
    const event = (name: string): Body & Record<string, unknown> => ({
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name },
      involvedObject: { namespace, kind: 'ConfigMap', name: 'x' },
      reason: 'Test',
      message: 'seen',
      type: 'Normal',
    });
    const path = `/api/v1/namespaces/${namespace}/events`;
    await cluster().cached.ok('POST', path, { body: event('an-hour') });
    await cluster().direct.ok('POST', path, { body: event('ten-seconds') });
    const place = cluster().places.find(({ name }) => name === cluster().whereIs('/registry/events'));
    for (const name of ['an-hour', 'ten-seconds']) {
      const lease = await place?.leaseOf(`/registry/events/${namespace}/${name}`);
      t.true(lease !== undefined && lease !== 0n, `${name} has lease ${lease}`);
    }
    await until(async () => (await cluster().direct.call('GET', `${path}/ten-seconds`)).status === 404, {
      what: 'the event expired',
      deadlineMs: 45_000,
    });
    await untilEmpty(cluster(), `/registry/events/${namespace}/ten-seconds`);
    // The watch cache has learnt of the expiry by a DELETE event.
    await until(
      async () =>
        (await cluster().cached.ok('GET', path, { query: { resourceVersion: 0 } })).items?.length === 1,
      {
        what: 'one event left in the watch cache',
      },
    );
  });
}

function registerLarge(test: TestFn, cluster: OpenCluster) {
  test.serial(
    'upkeep: an object of 1 MiB is kept, one over 1.5 MiB is refused with nothing lost',
    async (t) => {
      const namespace = await newNamespace(cluster(), 'large');
      const path = objectPath(largeData, namespace, 'large');
      const watch = openWatch(cluster().cached, collectionPath(largeData, namespace), {});
      const payload = 'L'.repeat(mebibyte);
      const created = await cluster().cached.ok('POST', collectionPath(largeData, namespace), {
        body: newObject(largeData, 'large', payload),
      });
      t.is(payloadOf(largeData, await cluster().direct.ok('GET', path)), payload);
      await assertPlaced(t, cluster(), largeData, { namespace, name: 'large' });
      const tooLarge = 'T'.repeat(1.6 * mebibyte);
      for (const { label, api } of bothApis(cluster())) {
        const update = await api.call('PATCH', path, {
          body: payloadPatch(largeData, tooLarge),
          contentType: mergeType,
        });
        t.true(update.status >= 400, label);
        t.regex(update.body.message ?? '', /too large/, label);
        t.log(`${label}: ${update.status} ${update.body.message}`);
        const create = await api.call('POST', collectionPath(largeData, namespace), {
          body: newObject(largeData, 'refused', tooLarge),
        });
        t.regex(create.body.message ?? '', /too large/, label);
        t.deepEqual(await api.ok('GET', path), created, `${label}: the object is as it was`);
        t.is((await api.call('GET', objectPath(largeData, namespace, 'refused'))).status, 404);
      }
      await cluster().cached.ok('POST', collectionPath(largeData, namespace), {
        body: newObject(largeData, 'next', 'x'),
      });
      await watch.find('the next object', ({ object }) => object.metadata?.name === 'next');
      t.deepEqual(objectEvents(watch), ['ADDED large', 'ADDED next']);
      watch.close();
    },
  );
}

interface Past {
  readonly resourceVersion: string;
  readonly informer: RecordedWatch;
}

/** Many updates of one object of each type, and an informer that goes on while they are compacted away. */
async function makeHistory(cluster: Cluster, namespace: string): Promise<readonly Past[]> {
  const pasts: Past[] = [];
  for (const resource of quietResources) {
    const path = collectionPath(resource, namespace);
    const { metadata } = await cluster.cached.ok('POST', path, {
      body: newObject(resource, 'busy', 'start'),
    });
    const resourceVersion = metadata?.resourceVersion ?? '';
    const informer = openInformer(cluster.cached, path, { resourceVersion });
    for (let index = 0; index < updateCount; index += 1) {
      await cluster.cached.ok('PATCH', objectPath(resource, namespace, 'busy'), {
        body: payloadPatch(resource, `update ${index}`),
        contentType: mergeType,
      });
    }
    pasts.push({ resourceVersion, informer });
  }
  return pasts;
}

/** Registers what the other suites run between: a history that has been compacted away when they are done. */
export function registerCompaction(test: TestFn, cluster: OpenCluster) {
  const namespace = 'history';
  let pasts: readonly Past[] = [];

  const begin = () =>
    test.serial(`upkeep: ${updateCount} updates of one object are kept as history`, async (t) => {
      await newNamespace(cluster(), namespace);
      pasts = await makeHistory(cluster(), namespace);
      for (const resource of quietResources) {
        const place = cluster().places.find(({ name }) => name === cluster().whereIs(resource.keyRoot));
        const kept = await place?.history(objectKey(resource, namespace, 'busy'));
        t.true(kept === undefined || kept > updateCount / 2, `${resource.kind}: ${kept} revisions kept`);
        t.log(`${resource.kind}: ${kept ?? 'unknown'} revisions in ${place?.name}`);
      }
    });

  const end = () =>
    test.serial('upkeep: compaction reaches every store, and informers go on through it', async (t) => {
      for (const [index, resource] of quietResources.entries()) {
        const { resourceVersion = '', informer } = pasts[index] ?? {};
        const path = collectionPath(resource, namespace);
        const query = { resourceVersion, resourceVersionMatch: 'Exact' };
        const expired = await until(
          async () => {
            const reply = await cluster().direct.call('GET', path, { query });
            return reply.status === 410 && reply;
          },
          { what: `${resource.kind} at ${resourceVersion} compacted`, deadlineMs: 150_000 },
        );
        t.is(expired.body.reason, 'Expired');
        const place = cluster().places.find(({ name }) => name === cluster().whereIs(resource.keyRoot));
        const kept = await until(
          async () => {
            const count = await place?.history(objectKey(resource, namespace, 'busy'));
            return (count ?? 0) <= 2 && { count };
          },
          { what: `the log of ${resource.kind} swept`, deadlineMs: 90_000 },
        );
        t.log(`${resource.kind}: ${kept.count ?? 'unknown'} revisions left in ${place?.name}`);
        const late = openWatch(cluster().direct, path, { resourceVersion });
        await late.find('410 Gone', ({ type, object }) => type === 'ERROR' && object.code === 410);
        late.close();
        await cluster().direct.ok('POST', path, { body: newObject(resource, 'afterwards', 'x') });
        await informer?.find(
          'an event after compaction',
          ({ object }) => object.metadata?.name === 'afterwards',
        );
        t.deepEqual(
          informer && objectEvents(informer),
          [...Array.from({ length: updateCount }, () => 'MODIFIED busy'), 'ADDED afterwards'],
          resource.kind,
        );
        informer?.close();
      }
    });
  return { begin, end };
}

/** Registers the tests of expiry and size. */
export function registerUpkeep(test: TestFn, cluster: OpenCluster): void {
  registerExpiry(test, cluster);
  registerLarge(test, cluster);
}

/** Registers what must run last: every key in its place, and the definitions deleted with all objects. */
export function registerLast(test: TestFn, cluster: OpenCluster): void {
  test.serial('places: every key of the cluster is in the one place its type belongs to', async (t) => {
    const owners = new Map<string, Set<string>>();
    for (const place of cluster().places) {
      const keys = await place.keys('/registry/');
      for (const key of keys.filter((candidate) => !otherRoots.has(candidate))) {
        const root = rootOf(key);
        owners.set(root, (owners.get(root) ?? new Set()).add(place.name));
      }
      t.log(`${place.name}: ${keys.length} keys`);
    }
    for (const root of [...owners.keys()].toSorted()) {
      const names = [...(owners.get(root) ?? [])];
      t.deepEqual(names, [cluster().whereIs(root)], root);
      t.log(`${root} is in ${names.join(', ')}`);
    }
    for (const { keyRoot } of quietResources) t.true(owners.has(keyRoot), keyRoot);
  });

  for (const resource of customResources) {
    test.serial(
      `definitions: ${resource.kind} deleted: its objects leave the store; created again: it works`,
      async (t) => {
        const name = `${resource.plural}.${resource.apiVersion.split('/')[0]}`;
        const { items } = await cluster().cached.ok('GET', collectionPath(resource));
        t.true((items?.length ?? 0) > 0);
        await deleteDefinition(cluster().cached, name);
        t.is((await cluster().cached.call('GET', collectionPath(resource))).status, 404);
        await untilEmpty(cluster(), `${resource.keyRoot}/`);
        t.log(`${items?.length} objects left ${cluster().whereIs(resource.keyRoot)}`);
        await establishResources(cluster().cached, cluster().direct);
        const namespace = await newNamespace(cluster(), `again-${resource.plural}`);
        const path = collectionPath(resource, namespace);
        const created = await inParallel({ count: 5, parallel: 5 }, (index) =>
          until(
            async () => {
              const reply = await cluster().cached.call('POST', path, {
                body: newObject(resource, `again-${index}`, 'x'),
              });
              return (reply.status === 201 || reply.status === 409) && reply;
            },
            { what: 'a create after the definition is back' },
          ),
        );
        t.is(created.length, 5);
        await assertPlaced(t, cluster(), resource, { namespace, name: 'again-0' });
        t.is((await cluster().direct.ok('GET', path)).items?.length, 5);
      },
    );
  }
}
