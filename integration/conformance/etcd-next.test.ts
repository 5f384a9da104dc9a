// What came with a later etcd, against that etcd itself: the reference for those tests.

import test from 'ava';
import { testEtcd } from '../servers/index.ts';
import { skipped } from '../servers/database.ts';
import { registerConformance } from './suite.ts';

registerConformance(test, async () => {
  const etcd = await skipped(() => testEtcd({ release: 'etcd-next' }));
  return etcd === undefined ? undefined : { ...etcd, isEtcd: true };
}, ['range', 'range stream']);
