// The harness itself, on a real etcd: what other tests rely on works without switchyard in between.

import test from 'ava';
import { testEtcd, waitFor } from '../servers/index.ts';
import { startControlPlane } from './control-plane.ts';
import { createCrds } from './crds.ts';

test('a control plane on etcd creates, watches and finalizes objects', async (t) => {
  t.timeout(300_000);
  const etcd = await testEtcd();
  t.teardown(() => etcd.dispose());
  const plane = await startControlPlane({ etcdServers: [etcd.endpoint] });
  t.teardown(() => plane.dispose());
  await createCrds(plane);
  await plane.run(['create', 'namespace', 'shop']);
  await plane.run(['-n', 'shop', 'create', 'configmap', 'settings', '--from-literal=a=b']);
  const path = '/apis/monitoring.example.com/v1/namespaces/shop/metrics';
  const metric = { apiVersion: 'monitoring.example.com/v1', kind: 'Metric', metadata: { name: 'load' } };
  // The type is served by its own handler only once the API server has seen the CRD as established.
  const created = await waitFor(
    async () => {
      const response = await plane.api.request({
        method: 'POST',
        path,
        body: { ...metric, spec: { value: 1 } },
      });
      return response.status === 201 && response;
    },
    { what: 'a Metric to be created' },
  );
  const { metadata } = created.json<{ metadata: { resourceVersion: string } }>();
  const stop = new AbortController();
  const watch = plane.api.watch(
    `${path}?watch=true&resourceVersion=${metadata.resourceVersion}`,
    stop.signal,
  );
  await plane.run(['delete', 'namespace', 'shop', '--wait=true', '--timeout=120s']);
  t.like((await watch.next()).value, { type: 'DELETED', object: { metadata: { name: 'load' } } });
  await watch.return(undefined);
  const gone = await plane.kubectl(['get', 'namespace', 'shop']);
  t.is(gone.code, 1);
  t.regex(gone.stderr, /NotFound/);
});
