// The suite against a real etcd: the reference that every expectation has to meet.

import test from 'ava';
import { testEtcd } from '../servers/index.ts';
import { skipped } from '../servers/database.ts';
import { progressNotifySeconds, registerConformance } from './suite.ts';

const args = [`--watch-progress-notify-interval=${progressNotifySeconds}s`];
registerConformance(test, async () => {
  const etcd = await skipped(() => testEtcd({ args }));
  return etcd === undefined ? undefined : { ...etcd, isEtcd: true };
});
