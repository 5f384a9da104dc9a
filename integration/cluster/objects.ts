// Single objects: created, applied, patched, updated and refused on conflict, for a type of each store.

import type { TestFn } from 'ava';
import { assertPlaced, newNamespace, placesOf, untilEmpty, type OpenCluster } from './cluster.ts';
import {
  collectionPath,
  customResources,
  newObject,
  objectKey,
  objectPath,
  payloadOf,
  payloadPatch,
  payloadPointer,
  resources,
} from './resources.ts';
import { establishResources } from './definitions.ts';

const applyType = 'application/apply-patch+yaml';
const mergeType = 'application/merge-patch+json';
const jsonPatchType = 'application/json-patch+json';

/** Registers the tests; the first one creates the custom resource definitions all other suites need. */
export function registerObjects(test: TestFn, cluster: OpenCluster): void {
  test.serial('definitions: custom resources created while running are established and served', async (t) => {
    await establishResources(cluster().cached, cluster().direct);
    for (const resource of customResources) {
      const name = `${resource.plural}.${resource.apiVersion.split('/')[0]}`;
      const key = `/registry/apiextensions.k8s.io/customresourcedefinitions/${name}`;
      t.deepEqual(await placesOf(cluster(), key), [cluster().whereIs('/registry/apiextensions.k8s.io')]);
      const list = await cluster().cached.ok('GET', collectionPath(resource));
      t.deepEqual(list.items, [], `${resource.kind} starts empty`);
    }
  });

  test.serial('objects: namespace', async (t) => {
    await newNamespace(cluster(), 'objects');
    t.pass();
  });

  for (const resource of resources) {
    const at = { namespace: 'objects', name: 'one' };
    const path = objectPath(resource, at.namespace, at.name);

    test.serial(
      `objects: ${resource.kind} is created once, read back and kept where it belongs`,
      async (t) => {
        const { cached, direct } = cluster();
        const created = await cached.ok('POST', collectionPath(resource, at.namespace), {
          body: newObject(resource, at.name, 'first'),
        });
        await assertPlaced(t, cluster(), resource, at);
        for (const api of [cached, direct]) t.deepEqual(await api.ok('GET', path), created);
        const again = await cached.call('POST', collectionPath(resource, at.namespace), {
          body: newObject(resource, at.name, 'x'),
        });
        t.is(again.status, 409);
        t.is(again.body.reason, 'AlreadyExists');
      },
    );

    test.serial(
      `objects: ${resource.kind} is patched, and each write has a higher resourceVersion`,
      async (t) => {
        const { cached, direct } = cluster();
        const before = await cached.ok('GET', path);
        const merged = await cached.ok('PATCH', path, {
          body: payloadPatch(resource, 'merged'),
          contentType: mergeType,
        });
        t.is(payloadOf(resource, merged), 'merged');
        const pointer = payloadPointer(resource);
        const patched = await direct.ok('PATCH', path, {
          contentType: jsonPatchType,
          body: [
            { op: 'test', path: pointer, value: 'merged' },
            { op: 'replace', path: pointer, value: 'patched' },
          ],
        });
        t.is(payloadOf(resource, patched), 'patched');
        const stale = await cached.call('PATCH', path, {
          contentType: jsonPatchType,
          body: [{ op: 'test', path: pointer, value: 'merged' }],
        });
        t.is(stale.status, 422, 'a failed JSON patch test');
        const versions = [before, merged, patched].map(({ metadata }) =>
          BigInt(metadata?.resourceVersion ?? '0'),
        );
        t.true(
          versions.every((version, index) => index === 0 || version > (versions[index - 1] ?? 0n)),
          String(versions),
        );
      },
    );

    test.serial(
      `objects: ${resource.kind} update with an old resourceVersion conflicts and changes nothing`,
      async (t) => {
        const { cached, direct } = cluster();
        const old = await cached.ok('GET', path);
        const fresh = await direct.ok('PUT', path, { body: { ...old, ...payloadPatch(resource, 'fresh') } });
        for (const api of [cached, direct]) {
          const reply = await api.call('PUT', path, { body: { ...old, ...payloadPatch(resource, 'late') } });
          t.is(reply.status, 409);
          t.is(reply.body.reason, 'Conflict');
          t.deepEqual(await api.ok('GET', path), fresh);
        }
      },
    );

    test.serial(`objects: ${resource.kind} concurrent updates lose no write`, async (t) => {
      const writers = Array.from({ length: 8 }, (_, writer) => ({
        metadata: { labels: { [`writer-${writer}`]: 'yes' } },
      }));
      const { cached, direct } = cluster();
      await Promise.all(
        writers.map((body, index) =>
          (index % 2 === 0 ? cached : direct).ok('PATCH', path, { body, contentType: mergeType }),
        ),
      );
      const { metadata } = await direct.ok('GET', path);
      t.is(Object.keys(metadata?.labels ?? {}).length, writers.length);
    });

    test.serial(
      `objects: ${resource.kind} server-side apply creates, merges owners and reports a conflict`,
      async (t) => {
        const { cached } = cluster();
        const applied = objectPath(resource, at.namespace, 'applied');
        const apply = (manager: string, text: string, extra: { force?: boolean } = {}) =>
          cached.call('PATCH', applied, {
            contentType: applyType,
            query: { fieldManager: manager, ...extra },
            body: newObject(resource, 'applied', text),
          });
        t.is((await apply('first', 'one')).status, 201);
        await assertPlaced(t, cluster(), resource, { ...at, name: 'applied' });
        const same = await apply('first', 'one');
        t.is(same.status, 200);
        const conflict = await apply('second', 'two');
        t.is(conflict.status, 409);
        t.is(conflict.body.reason, 'Conflict');
        const forced = await apply('second', 'two', { force: true });
        t.is(payloadOf(resource, forced.body), 'two');
        t.deepEqual(
          forced.body.metadata?.managedFields?.map((entry) => entry['manager']),
          ['second'],
        );
      },
    );

    test.serial(`objects: ${resource.kind} is deleted for good`, async (t) => {
      const { cached, direct } = cluster();
      await cached.ok('DELETE', path);
      for (const api of [cached, direct]) t.is((await api.call('GET', path)).status, 404);
      t.is((await direct.call('DELETE', path)).status, 404);
      const body = newObject(resource, at.name, 'x', { resourceVersion: '1' });
      t.is((await direct.call('PUT', path, { body })).status, 404, 'an update does not bring it back');
      await untilEmpty(cluster(), objectKey(resource, at.namespace, at.name));
    });
  }

  for (const resource of customResources) {
    test.serial(`objects: ${resource.kind} status is a subresource of its own`, async (t) => {
      const { cached, direct } = cluster();
      const name = 'with-status';
      const path = objectPath(resource, 'objects', name);
      const created = await cached.ok('POST', collectionPath(resource, 'objects'), {
        body: { ...newObject(resource, name, 'spec'), status: { phase: 'ignored' } },
      });
      t.is(created.status, undefined, 'status of a create is dropped');
      await direct.ok('PATCH', `${path}/status`, {
        contentType: mergeType,
        body: { spec: { payload: 'ignored' }, status: { phase: 'Ready' } },
      });
      const read = await cached.ok('GET', path);
      t.deepEqual(
        [payloadOf(resource, read), read.status, read.metadata?.generation],
        ['spec', { phase: 'Ready' }, 1],
      );
      const changed = await cached.ok('PATCH', path, {
        contentType: mergeType,
        body: { ...payloadPatch(resource, 'new'), status: { phase: 'ignored' } },
      });
      t.deepEqual(
        [payloadOf(resource, changed), changed.status, changed.metadata?.generation],
        ['new', { phase: 'Ready' }, 2],
      );
    });
  }
}
