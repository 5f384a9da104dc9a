// The whole suite in the order it must run: definitions first, their deletion last. One ava file per target registers it.

import type { TestFn } from 'ava';
import type { OpenCluster } from './cluster.ts';
import { registerLists } from './lists.ts';
import { registerObjects } from './objects.ts';

/** Registers every test for one cluster; all of them are serial, since they share one control plane. */
export function registerSuite(test: TestFn, cluster: OpenCluster): void {
  registerObjects(test, cluster);
  registerLists(test, cluster);
}
