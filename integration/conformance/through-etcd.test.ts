// The suite against switchyard in front of a real etcd: nothing may be lost on the way.

import test from 'ava';
import { registerConformance } from './suite.ts';
import { throughEtcd } from './switchyard.ts';

registerConformance(test, () => throughEtcd());
