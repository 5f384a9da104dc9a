// What came with a later etcd, through switchyard in front of it.

import test from 'ava';
import { registerConformance } from './suite.ts';
import { throughEtcd } from './switchyard.ts';

registerConformance(test, () => throughEtcd('etcd-next'), ['range', 'range stream']);
