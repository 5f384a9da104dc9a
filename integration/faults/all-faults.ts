// Every fault, in the order of the table.

import { cutFaults } from './cut-faults.ts';
import { databaseFaults } from './database-faults.ts';
import { etcdFaults } from './etcd-faults.ts';
import type { Fault } from './fault.ts';
import { gatewayFaults } from './gateway-faults.ts';

export const allFaults: readonly Fault[] = [...gatewayFaults, ...databaseFaults, ...cutFaults, ...etcdFaults];
