// Objects written one after another while something is killed: what was acknowledged must be there afterwards, and a
// watch must show what is there, each object once.

import type { ExecutionContext } from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { bothApis, type Cluster } from './cluster.ts';
import { brokenByWatches } from './guarantees.ts';
import { collectionPath, newObject, type Resource } from './resources.ts';
import { openInformer, versionsOf, type RecordedWatch } from './watch.ts';

/** Between two writes: a steady trickle, not a benchmark. */
const paceMs = 20;

export interface Load {
  /** Names whose create was answered with 201. */
  readonly acknowledged: readonly string[];
  /** Stops writing, and compares what was acknowledged, what is there and what the watches showed. */
  finish(): Promise<void>;
}

const nameOf = (object: { readonly metadata?: { readonly name?: string } }) => object.metadata?.name ?? '';

/** Every event once and in order, and together exactly the objects of the list. */
function assertComplete(
  t: ExecutionContext,
  informer: RecordedWatch,
  expected: { label: string; names: readonly string[] },
) {
  const { label, names } = expected;
  const seen = informer.events.filter(({ type }) => type !== 'BOOKMARK');
  t.true(
    seen.every(({ type }) => type === 'ADDED'),
    `${label}: ${seen.find(({ type }) => type !== 'ADDED')?.object.message}`,
  );
  t.deepEqual(seen.map(({ object }) => nameOf(object)).toSorted(), names.toSorted(), label);
  const versions = versionsOf(informer);
  t.true(
    versions.every((version, index) => index === 0 || version >= (versions[index - 1] ?? 0n)),
    `${label}: events in order`,
  );
}

export interface LoadOptions {
  readonly resource: Resource;
  readonly namespace: string;
  /**
   * A kube-apiserver is started anew meanwhile. Its watch cache begins with what it lists then, and refuses to go on from before: whatever
   * was written until it listed, through the other one, is in the list and in no event.
   */
  readonly startsAnew?: boolean;
}

/** Starts to create objects in an empty namespace, through both kube-apiservers and watched through both. */
export async function startLoad(
  t: ExecutionContext,
  cluster: Cluster,
  { resource, namespace, startsAnew: relist = false }: LoadOptions,
): Promise<Load> {
  const path = collectionPath(resource, namespace);
  const { metadata } = await cluster.direct.ok('GET', path);
  const from = { resourceVersion: metadata?.resourceVersion ?? '' };
  const watches = bothApis(cluster).map(({ label, api }) => ({
    label,
    informer: openInformer(api, path, from, { relist }),
  }));
  const tried: string[] = [];
  const acknowledged: string[] = [];
  const stopping = new AbortController();
  const writers = bothApis(cluster).map(async ({ api }) => {
    while (!stopping.signal.aborted) {
      const name = `load-${tried.length}`;
      tried.push(name);
      // A connection that breaks with its server leaves the outcome open, as a 500 does.
      const reply = await api
        .call('POST', path, { body: newObject(resource, name, 'x') })
        .catch(() => undefined);
      if (reply?.status === 201) acknowledged.push(name);
      await sleep(paceMs, undefined, { ref: false });
    }
  });
  t.teardown(() => {
    stopping.abort();
    for (const { informer } of watches) informer.close();
  });
  return {
    acknowledged,
    async finish() {
      stopping.abort();
      await Promise.all(writers);
      await cluster.cached.ok('POST', path, { body: newObject(resource, 'last', 'x') });
      const { items = [] } = await cluster.direct.ok('GET', path);
      const names = items.map(nameOf);
      const there = new Set(names);
      t.deepEqual(
        acknowledged.filter((name) => !there.has(name)),
        [],
        'acknowledged and lost',
      );
      const mayBe = new Set([...tried, 'last']);
      t.deepEqual(
        names.filter((name) => !mayBe.has(name)),
        [],
      );
      for (const { label, informer } of watches) {
        await informer.find('the last object', ({ object }) => nameOf(object) === 'last', 60_000);
        assertComplete(t, informer, { label, names });
      }
      const judged = watches.map(({ label, informer }) => ({
        label,
        from: from.resourceVersion,
        watch: informer,
      }));
      t.deepEqual(await brokenByWatches(cluster, { resource, namespace }, judged), []);
      t.log(
        `${resource.kind}: ${tried.length} tried, ${acknowledged.length} acknowledged, ${names.length - 1} there; ` +
          `connections of the watches: ${watches.map(({ informer }) => informer.connections).join(', ')}`,
      );
    },
  };
}
