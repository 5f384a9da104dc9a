// The whole suite in the order it must run: definitions first, their deletion last. One ava file per target registers it.

import type { TestFn } from 'ava';
import type { OpenCluster } from './cluster.ts';
import { registerCache } from './cache.ts';
import { registerKubectl } from './kubectl.ts';
import { registerLeader } from './leader.ts';
import { registerLists } from './lists.ts';
import { registerObjects } from './objects.ts';
import { registerRemoval } from './removal.ts';
import { registerCompaction, registerLast, registerUpkeep } from './upkeep.ts';
import { registerWatches } from './watches.ts';

/** Registers every test for one cluster; all of them are serial, since they share one control plane. */
export function registerSuite(test: TestFn, cluster: OpenCluster): void {
  registerObjects(test, cluster);
  const compaction = registerCompaction(test, cluster);
  compaction.begin();
  registerLists(test, cluster);
  registerWatches(test, cluster);
  registerCache(test, cluster);
  registerKubectl(test, cluster);
  registerUpkeep(test, cluster);
  registerRemoval(test, cluster);
  registerLeader(test, cluster);
  compaction.end();
  registerLast(test, cluster);
}
