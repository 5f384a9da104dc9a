// Removal: finalizers, collections, dependants in other stores, namespaces. What is gone in the API is gone in the store.

import type { TestFn } from 'ava';
import type { Body } from '../kubernetes/api.ts';
import { newNamespace, untilEmpty, type Cluster, type OpenCluster } from './cluster.ts';
import {
  collectionPath,
  configMap,
  largeData,
  metric,
  newObject,
  objectKey,
  objectPath,
  order,
  quietResources,
  resources,
  type Resource,
} from './resources.ts';
import { inParallel, until } from './wait.ts';

const mergeType = 'application/merge-patch+json';
/** The garbage collector learns of new types every 30 s only. */
const collectorDeadlineMs = 100_000;

function ownedBy(owner: Body) {
  const { apiVersion, kind, metadata } = owner;
  const reference = { apiVersion, kind, name: metadata?.name, uid: metadata?.uid, blockOwnerDeletion: true };
  return { ownerReferences: [reference] };
}

async function isGone(cluster: Cluster, path: string): Promise<boolean> {
  return (await cluster.direct.call('GET', path)).status === 404;
}

/** Creates an owner and three dependants of another type. */
async function family(
  cluster: Cluster,
  namespace: string,
  types: { owner: Resource; dependant: Resource },
  extra = {},
) {
  const owner = await cluster.cached.ok('POST', collectionPath(types.owner, namespace), {
    body: newObject(types.owner, 'owner', 'x'),
  });
  const names = ['child-0', 'child-1', 'child-2'];
  for (const name of names) {
    await cluster.cached.ok('POST', collectionPath(types.dependant, namespace), {
      body: newObject(types.dependant, name, 'x', { ...ownedBy(owner), ...extra }),
    });
  }
  return {
    owner: objectPath(types.owner, namespace, 'owner'),
    children: names.map((name) => objectPath(types.dependant, namespace, name)),
  };
}

function registerFinalizers(test: TestFn, cluster: OpenCluster) {
  test.serial('removal: an object with a finalizer stays until the finalizer is removed', async (t) => {
    const namespace = await newNamespace(cluster(), 'finalizers');
    for (const resource of resources) {
      const path = objectPath(resource, namespace, 'held');
      await cluster().cached.ok('POST', collectionPath(resource, namespace), {
        body: newObject(resource, 'held', 'x', { finalizers: ['test.example.com/hold'] }),
      });
      await cluster().cached.ok('DELETE', path);
      const { metadata } = await cluster().direct.ok('GET', path);
      t.truthy(metadata?.deletionTimestamp, resource.kind);
      const body = { metadata: { finalizers: [] } };
      await cluster().direct.ok('PATCH', path, { body, contentType: mergeType });
      t.true(await isGone(cluster(), path), resource.kind);
      await untilEmpty(cluster(), objectKey(resource, namespace, 'held'));
    }
  });

  test.serial('removal: deletecollection removes what the selector names and nothing else', async (t) => {
    const namespace = await newNamespace(cluster(), 'collections');
    for (const resource of quietResources) {
      const path = collectionPath(resource, namespace);
      await inParallel({ count: 120, parallel: 16 }, (index) =>
        cluster().cached.ok('POST', path, {
          body: newObject(resource, `object-${index}`, 'x', { labels: { third: String(index % 3) } }),
        }),
      );
      await cluster().cached.ok('DELETE', path, { query: { labelSelector: 'third=1' } });
      const { items } = await cluster().direct.ok('GET', path);
      t.is(items?.length, 80, resource.kind);
      t.false(items?.some(({ metadata }) => metadata?.labels?.['third'] === '1'));
      await cluster().direct.ok('DELETE', path);
      t.deepEqual((await cluster().cached.ok('GET', path)).items, [], resource.kind);
      await untilEmpty(cluster(), `${resource.keyRoot}/${namespace}/`);
    }
  });
}

function registerOwners(test: TestFn, cluster: OpenCluster) {
  const lost = async (paths: readonly string[]) => {
    for (const path of paths) {
      await until(() => isGone(cluster(), path), {
        what: `${path} collected`,
        deadlineMs: collectorDeadlineMs,
      });
    }
  };

  test.serial('removal: background deletion of a LargeData collects the Metrics it owns', async (t) => {
    const namespace = await newNamespace(cluster(), 'owner-background');
    const { owner, children } = await family(cluster(), namespace, { owner: largeData, dependant: metric });
    await cluster().cached.ok('DELETE', owner, { body: { propagationPolicy: 'Background' } });
    t.true(await isGone(cluster(), owner));
    await lost(children);
    await untilEmpty(cluster(), `${metric.keyRoot}/${namespace}/`);
  });

  test.serial('removal: foreground deletion of an Order waits for the ConfigMaps it owns', async (t) => {
    const namespace = await newNamespace(cluster(), 'owner-foreground');
    const held = { finalizers: ['test.example.com/hold'] };
    const { owner, children } = await family(
      cluster(),
      namespace,
      { owner: order, dependant: configMap },
      held,
    );
    await cluster().cached.ok('DELETE', owner, { body: { propagationPolicy: 'Foreground' } });
    for (const path of children) {
      await until(
        async () => (await cluster().direct.ok('GET', path)).metadata?.deletionTimestamp !== undefined,
        {
          what: `${path} marked for deletion`,
          deadlineMs: collectorDeadlineMs,
        },
      );
    }
    const { metadata } = await cluster().direct.ok('GET', owner);
    t.truthy(metadata?.deletionTimestamp);
    t.deepEqual(metadata?.finalizers, ['foregroundDeletion']);
    for (const path of children) {
      await cluster().cached.ok('PATCH', path, {
        body: { metadata: { finalizers: [] } },
        contentType: mergeType,
      });
    }
    await lost([...children, owner]);
    await untilEmpty(cluster(), objectKey(order, namespace, 'owner'));
  });

  test.serial('removal: orphaned ConfigMaps of a Metric stay and lose their owner', async (t) => {
    const namespace = await newNamespace(cluster(), 'owner-orphan');
    const { owner, children } = await family(cluster(), namespace, { owner: metric, dependant: configMap });
    await cluster().cached.ok('DELETE', owner, { body: { propagationPolicy: 'Orphan' } });
    await lost([owner]);
    for (const path of children) {
      const { metadata } = await cluster().direct.ok('GET', path);
      t.is(metadata?.ownerReferences, undefined, path);
    }
  });

  test.serial('removal: an object whose owner in another store does not exist is collected', async (t) => {
    const namespace = await newNamespace(cluster(), 'owner-absent');
    const path = objectPath(largeData, namespace, 'stray');
    const owner = {
      ...newObject(metric, 'never', 'x'),
      metadata: { name: 'never', uid: crypto.randomUUID() },
    };
    await cluster().cached.ok('POST', collectionPath(largeData, namespace), {
      body: newObject(largeData, 'stray', 'x', ownedBy(owner)),
    });
    await lost([path]);
    t.pass();
  });
}

/** Registers the tests of removal. */
export function registerRemoval(test: TestFn, cluster: OpenCluster): void {
  registerFinalizers(test, cluster);
  registerOwners(test, cluster);

  test.serial('removal: a namespace goes with its objects of all types, in all places', async (t) => {
    const namespace = await newNamespace(cluster(), 'doomed');
    for (const resource of [...quietResources, configMap]) {
      await inParallel({ count: 60, parallel: 16 }, (index) =>
        cluster().cached.ok('POST', collectionPath(resource, namespace), {
          body: newObject(resource, `object-${index}`, 'x'),
        }),
      );
    }
    const path = `/api/v1/namespaces/${namespace}`;
    await cluster().cached.ok('DELETE', path);
    await until(() => isGone(cluster(), path), { what: 'the namespace gone', deadlineMs: 120_000 });
    for (const place of cluster().places) {
      const left = (await place.keys('/registry/')).filter((key) => key.split('/').includes(namespace));
      t.deepEqual(left, [], place.name);
    }
  });
}
