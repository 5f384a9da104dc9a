// Random histories with many clients on several gateways of one store, every answer and every event of which must be the
// model's: on each database, and on a real etcd, which proves the model. The seed is printed; SWITCHYARD_TEST_SEED tries
// another one, SWITCHYARD_TEST_OPERATIONS (requests on each store, about) a longer test.

import test from 'ava';
import fc from 'fast-check';
import { etcdPlace, sqlPlace } from './places.ts';
import { Gateways, Session } from './session.ts';
import { steps, type Step } from './steps.ts';
import { plain } from './explain.ts';

const seed = Number(process.env['SWITCHYARD_TEST_SEED'] ?? 20_262);
const operations = Number(process.env['SWITCHYARD_TEST_OPERATIONS'] ?? 1_500);
/** Requests of a history, about. */
const requestsPerHistory = 100;
/** How long a history that fails is made smaller. */
const shrinkMsMax = 20_000;

const places = {
  etcd: etcdPlace,
  sqlite: () => sqlPlace('sqlite'),
  postgres: () => sqlPlace('postgres'),
  mysql: () => sqlPlace('mysql'),
};

for (const [name, openPlace] of Object.entries(places)) {
  test.serial(`${name}: every answer and every event is the model's`, async (t) => {
    t.timeout(24 * 3_600_000);
    const place = await openPlace();
    if (place === undefined) return void t.pass();
    await using gateways = await Gateways.open(place);
    const numRuns = Math.ceil(operations / requestsPerHistory);
    let failedAt: number | undefined;
    const property = fc.asyncProperty(steps, async (history) => {
      // Enough of making it smaller.
      if (failedAt !== undefined && performance.now() > failedAt + shrinkMsMax) return;
      try {
        const session = await Session.begin(gateways);
        await session.play(history);
      } catch (error) {
        failedAt ??= performance.now();
        throw error;
      }
    });
    const began = performance.now();
    await fc.assert(property, { seed, numRuns, asyncReporter: report });
    const { requests, reads } = gateways.tally;
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    t.log(
      `seed ${seed}: ${numRuns} histories, ${requests} requests, ${reads} reads of watches, ${seconds} s`,
    );
    t.pass();
  });
}

/** Of a failure: what the smallest history is, and what is wrong with its answers. */
async function report(found: fc.RunDetails<[readonly Step[]]>): Promise<void> {
  if (!found.failed) return;
  const { errorInstance, counterexample, numRuns, numShrinks, seed: used, counterexamplePath } = found;
  const reason = errorInstance instanceof Error ? errorInstance : new Error(String(errorInstance));
  const history = (counterexample?.[0] ?? []).map((step) => plain(step)).join('\n');
  throw new Error(
    `seed ${used}, path ${counterexamplePath}, ${numRuns} histories, made smaller ${numShrinks} times:\n${history}\n${reason.message}`,
    { cause: reason },
  );
}
