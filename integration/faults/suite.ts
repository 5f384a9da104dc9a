// Every fault on one engine, in short: no acknowledged write lost, no wrong answer, every watch complete, and everything works
// again. `npm run faults` is the long form.

import test from 'ava';
import type { SqlEngine } from '../servers/index.ts';
import { allFaults } from './all-faults.ts';
import { experiment } from './experiment.ts';

/** How long a fault lasts that lasts. */
const seconds = 3;

/** Registers a test for each fault that `engine` can have. */
export function testFaults(engine: SqlEngine): void {
  for (const fault of allFaults.filter(({ engines }) => engines.includes(engine))) {
    test.serial(fault.name, async (t) => {
      t.timeout(240_000);
      const outcome = await experiment(fault, { engine, seconds });
      if (outcome === undefined) return void t.pass();
      const { acknowledged, unknown, rejected, unavailableMs, recoveryMs, errors } = outcome;
      t.log(
        `${acknowledged} writes, ${unknown} unknown, ${rejected} rejected, ` +
          `without a write ${unavailableMs.toFixed(0)} ms, recovery ${recoveryMs.toFixed(0)} ms`,
      );
      for (const [text, count] of errors) t.log(`${count} × ${text}`);
      t.deepEqual(outcome.violations, []);
    });
  }
}
