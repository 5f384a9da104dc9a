// An unmodified Kubernetes on the example topology: three resource types in three databases, the rest in etcd.

import test from 'ava';
import type { Cluster } from './cluster/cluster.ts';
import { hasPrograms, openMixed, sharedDatabases } from './cluster/open.ts';
import { registerSuite } from './cluster/suite.ts';

const databases = (await hasPrograms()) ? await sharedDatabases() : undefined;
if (databases === undefined)
  test.skip('an unmodified Kubernetes (see above what is missing)', (t) => t.pass());
else {
  let cluster: Cluster;
  test.before('the cluster starts', async (t) => {
    t.timeout(600_000);
    cluster = await openMixed(databases);
    t.pass();
  });
  test.after.always('the cluster stops', () => cluster?.[Symbol.asyncDispose]());
  registerSuite(test, () => cluster);
}
