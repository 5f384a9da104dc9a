// Every fault, in the order of the table.

import { clockFaults } from './clock-faults.ts';
import { cutFaults } from './cut-faults.ts';
import { databaseFaults } from './database-faults.ts';
import { etcdFaults } from './etcd-faults.ts';
import type { Fault } from './fault.ts';
import { failoverFaults } from './failover-faults.ts';
import { gatewayFaults } from './gateway-faults.ts';
import { refusalFaults } from './refusal-faults.ts';
import { sessionFaults } from './session-faults.ts';
import { sqliteFaults } from './sqlite-faults.ts';

export const allFaults: readonly Fault[] = [
  ...gatewayFaults,
  ...clockFaults,
  ...databaseFaults,
  ...failoverFaults,
  ...cutFaults,
  ...sessionFaults,
  ...refusalFaults,
  ...etcdFaults,
  ...sqliteFaults,
];
