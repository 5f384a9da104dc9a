// The suite against switchyard with the keys of the tests in MySQL by a rule of the topology, in front of an etcd.

import test from 'ava';
import { registerConformance } from './suite.ts';
import { byRule } from './switchyard.ts';

registerConformance(test, () => byRule('mysql'));
