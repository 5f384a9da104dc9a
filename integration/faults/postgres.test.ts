// Faults while gateways keep a type in Postgres.

import { testFaults } from './suite.ts';

testFaults('postgres');
