// The suite against a real etcd: the reference that every expectation has to meet.

import test from 'ava';
import { testEtcd } from '../servers/index.ts';
import { skipped } from '../servers/database.ts';
import { registerConformance } from './suite.ts';

registerConformance(test, () => skipped(() => testEtcd()));
