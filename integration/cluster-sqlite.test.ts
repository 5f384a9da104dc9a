// An unmodified Kubernetes on the embedded default: one SQLite file, no etcd and no database server.

import test from 'ava';
import type { Cluster } from './cluster/cluster.ts';
import { hasPrograms, openSqlite } from './cluster/open.ts';
import { registerSuite } from './cluster/suite.ts';

if (!(await hasPrograms()))
  test.skip('an unmodified Kubernetes (see above what is missing)', (t) => t.pass());
else {
  let cluster: Cluster;
  test.before('the cluster starts', async (t) => {
    t.timeout(600_000);
    cluster = await openSqlite();
    t.pass();
  });
  test.after.always('the cluster stops', () => cluster?.[Symbol.asyncDispose]());
  registerSuite(test, () => cluster);
}
