// Every fault, in the order of the table.

import { databaseFaults } from './database-faults.ts';
import type { Fault } from './fault.ts';
import { gatewayFaults } from './gateway-faults.ts';

export const allFaults: readonly Fault[] = [...gatewayFaults, ...databaseFaults];
