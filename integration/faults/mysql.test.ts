// Faults while gateways keep a type in MariaDB.

import { testFaults } from './suite.ts';

testFaults('mysql');
