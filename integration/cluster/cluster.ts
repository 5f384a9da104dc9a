// What a suite works on: a control plane whose kube-apiservers are unmodified, and the places its keys may be in.
// Two kube-apiservers share the store, as in a cluster of several: one with its watch cache, one that passes every list
// and watch on to the store. Suites get a function that gives the cluster, since it opens in `test.before`.

import type { ExecutionContext } from 'ava';
import type { ControlPlane } from '../kubernetes/control-plane.ts';
import type { Api } from '../kubernetes/api.ts';
import type { Place } from './places.ts';
import { objectKey, type Resource } from './resources.ts';
import { until } from './wait.ts';

export interface Cluster {
  readonly name: string;
  /** kube-apiserver as it comes: lists and watches served from its watch cache. */
  readonly cached: Api;
  /** A second one on the same store with `--watch-cache=false --event-ttl=10s`. */
  readonly direct: Api;
  /** The control plane of the first: its kubectl, its kube-controller-manager. */
  readonly plane: ControlPlane;
  readonly places: readonly Place[];
  /** Where both kube-apiservers find their etcd. */
  readonly storeEndpoint: string;
  /** The name of the place that must hold a resource type, by its key root (`/registry/configmaps`). */
  whereIs(keyRoot: string): string;
  [Symbol.asyncDispose](): Promise<void>;
}

export type OpenCluster = () => Cluster;

/** Both kube-apiservers with the word that titles them. */
export function bothApis(cluster: Cluster): readonly { readonly label: string; readonly api: Api }[] {
  return [
    { label: 'watch cache', api: cluster.cached },
    { label: 'no watch cache', api: cluster.direct },
  ];
}

/** Creates a namespace for one test and gives its name. */
export async function newNamespace(cluster: Cluster, name: string): Promise<string> {
  await cluster.cached.ok('POST', '/api/v1/namespaces', { body: { metadata: { name } } });
  return name;
}

/** Asserts that a live key is in exactly the place its type belongs to, and says where it was found. */
export async function assertPlaced(
  t: ExecutionContext,
  cluster: Cluster,
  resource: Resource,
  at: { namespace: string; name: string },
) {
  const key = objectKey(resource, at.namespace, at.name);
  const found = await placesOf(cluster, key);
  t.deepEqual(found, [cluster.whereIs(resource.keyRoot)], `places of ${key}`);
  t.log(`${key} is in ${found.join(', ')}`);
}

/** The names of the places that hold a live key. */
export async function placesOf(cluster: Cluster, key: string): Promise<readonly string[]> {
  const held = await Promise.all(cluster.places.map(async (place) => (await place.keys(key)).includes(key)));
  return cluster.places.filter((_, index) => held[index]).map(({ name }) => name);
}

/** Waits until no place holds a live key with this prefix any more. */
export async function untilEmpty(cluster: Cluster, prefix: string, deadlineMs = 60_000): Promise<void> {
  await until(
    async () => {
      const keys = (await Promise.all(cluster.places.map((place) => place.keys(prefix)))).flat();
      if (keys.length > 0)
        throw new Error(`Expected no key under ${prefix}, got ${keys.slice(0, 5).join(', ')}`);
      return true;
    },
    { what: `no key under ${prefix}`, deadlineMs },
  );
}
