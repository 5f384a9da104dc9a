// Leader election by Lease: kube-controller-manager holds and renews its lease, a second one stands by, and takes over
// when the first one is killed.

import type { TestFn } from 'ava';
import { newNamespace, type OpenCluster } from './cluster.ts';
import { collectionPath, newObject, quietResources } from './resources.ts';
import { until } from './wait.ts';

const leasePath = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager';

/** Registers the tests of leader election; afterwards another kube-controller-manager leads. */
export function registerLeader(test: TestFn, cluster: OpenCluster): void {
  const lease = async () => {
    const { spec } = await cluster().direct.ok('GET', leasePath);
    return {
      holder: String(spec?.['holderIdentity']),
      renewed: String(spec?.['renewTime']),
      transitions: Number(spec?.['leaseTransitions']),
    };
  };

  test.serial('leader: kube-controller-manager holds its lease and renews it', async (t) => {
    const first = await until(lease, { what: 'the lease' });
    t.regex(first.holder, /_/);
    const later = await until(
      async () => {
        const now = await lease();
        return now.renewed !== first.renewed && now;
      },
      { what: 'a renewal' },
    );
    t.is(later.holder, first.holder);
    t.log(`renewed at ${first.renewed}, then at ${later.renewed}`);
  });

  test.serial('leader: a second kube-controller-manager stands by and takes over', async (t) => {
    const { plane } = cluster();
    const before = await lease();
    await plane.addControllerManager();
    const renewed = await until(
      async () => {
        const now = await lease();
        return now.renewed !== before.renewed && now;
      },
      { what: 'a renewal beside a second candidate' },
    );
    t.is(renewed.holder, before.holder, 'the first goes on leading');

    await plane.controllerManager?.kill();
    const after = await until(
      async () => {
        const now = await lease();
        return now.holder !== before.holder && now;
      },
      { what: 'another leader', deadlineMs: 60_000 },
    );
    t.is(after.transitions, before.transitions + 1);

    const namespace = await newNamespace(cluster(), 'led');
    for (const resource of quietResources) {
      await cluster().cached.ok('POST', collectionPath(resource, namespace), {
        body: newObject(resource, 'left', 'x'),
      });
    }
    const path = `/api/v1/namespaces/${namespace}`;
    await cluster().cached.ok('DELETE', path);
    await until(async () => (await cluster().direct.call('GET', path)).status === 404, {
      what: 'a namespace removed by the new leader',
      deadlineMs: 120_000,
    });
  });
}
