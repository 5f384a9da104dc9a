// Faults while gateways keep a type in SQLite.

import { testFaults } from './suite.ts';

testFaults('sqlite');
