// kube-apiserver's watch cache on the store: consistent lists are answered from it (which needs the store's progress
// marks, otherwise each one waits three seconds and falls back), and it holds what the store holds.

import type { TestFn } from 'ava';
import type { Api } from '../kubernetes/api.ts';
import { newNamespace, type OpenCluster } from './cluster.ts';
import { collectionPath, newObject, objectPath, quietResources, type Resource } from './resources.ts';
import { inParallel } from './wait.ts';

const roundCount = 25;
/** Well below the three seconds after which kube-apiserver stops to wait for its cache. */
const medianMsMax = 1_000;

/** How kube-apiserver has answered the consistent lists of a type so far. */
async function consistentReads(api: Api, resource: Resource) {
  const { text } = await api.call('GET', '/metrics');
  const group = resource.apiVersion.split('/')[0] ?? '';
  const counts = { fromCache: 0, otherwise: 0 };
  for (const line of text.split('\n')) {
    if (!line.startsWith('apiserver_watch_cache_consistent_read_total{')) continue;
    if (!line.includes(`group="${group}",resource="${resource.plural}"`)) continue;
    const fromCache = line.includes('fallback="false"') && line.includes('success="true"');
    counts[fromCache ? 'fromCache' : 'otherwise'] += Number(line.split(' ').at(-1));
  }
  return counts;
}

/** Registers the tests of the watch cache for a type of each store. */
export function registerCache(test: TestFn, cluster: OpenCluster): void {
  for (const resource of quietResources) {
    const namespace = `cache-${resource.plural}`;
    const path = collectionPath(resource, namespace);

    test.serial(`cache: consistent lists of ${resource.kind} come from the watch cache`, async (t) => {
      const { cached, direct } = cluster();
      await newNamespace(cluster(), namespace);
      // Leaves the cache time to fill; a list before that goes to the store.
      await cached.ok('GET', path);
      const before = await consistentReads(cached, resource);
      const elapsed: number[] = [];
      for (let index = 0; index < roundCount; index += 1) {
        const name = `read-${index}`;
        await direct.ok('POST', path, { body: newObject(resource, name, 'x') });
        const { status, body, elapsedMs } = await cached.call('GET', path);
        t.is(status, 200);
        t.true(
          body.items?.some(({ metadata }) => metadata?.name === name),
          `${name} is in the list after its create`,
        );
        elapsed.push(elapsedMs);
      }
      const after = await consistentReads(cached, resource);
      t.true(after.fromCache - before.fromCache >= roundCount, JSON.stringify({ before, after }));
      t.is(after.otherwise, before.otherwise, 'no list had to fall back to the store');
      const median = elapsed.toSorted((a, b) => a - b)[Math.floor(roundCount / 2)] ?? 0;
      t.true(median < medianMsMax, `median of ${median} ms`);
      t.log(`${median} ms in the median, ${Math.max(...elapsed)} ms at most`);
    });

    test.serial(`cache: the watch cache of ${resource.kind} holds what the store holds`, async (t) => {
      const { cached, direct } = cluster();
      const writes = inParallel({ count: 200, parallel: 4 }, async (index) => {
        const api = index % 2 === 0 ? cached : direct;
        const name = `churn-${index}`;
        await api.ok('POST', path, { body: newObject(resource, name, 'x') });
        if (index % 3 === 0) await api.ok('DELETE', objectPath(resource, namespace, name));
      });
      const compare = async () => {
        const fromCache = await cached.ok('GET', path, { query: { resourceVersion: 0 } });
        const resourceVersion = fromCache.metadata?.resourceVersion ?? '';
        const fromStore = await direct.ok('GET', path, {
          query: { resourceVersion, resourceVersionMatch: 'Exact' },
        });
        t.deepEqual(fromCache.items, fromStore.items, `at ${resourceVersion}`);
      };
      for (let round = 0; round < 10; round += 1) await compare();
      await writes;
      await compare();
    });
  }
}
