// Random histories on a real etcd and on switchyard over each database: every answer and every event must be equal (how they
// are compared: replay.ts, tape.ts, answers.ts). In the environment:
//   SWITCHYARD_TEST_SEED        the seed, which is fixed else; a failure prints its own
//   SWITCHYARD_TEST_OPERATIONS  operations per engine, at least
//   SWITCHYARD_TEST_ENGINES     sqlite,postgres,mysql or some of them
//   SWITCHYARD_TEST_PATH        with the seed of a failure: its path, to play only that
// The long form: SWITCHYARD_TEST_OPERATIONS=200000 npx ava integration/differential/differential.test.ts

import fc from 'fast-check';
import test, { type ExecutionContext } from 'ava';
import { skipped } from '../servers/database.ts';
import { startSwitchyard, testDatabase, testEtcd, type SqlEngine } from '../servers/index.ts';
import { cases } from './cases.ts';
import { difference } from './compare.ts';
import { history } from './generator.ts';
import { Wire } from './wire.ts';

const seed = Number(process.env['SWITCHYARD_TEST_SEED'] ?? 20_261);
const path = process.env['SWITCHYARD_TEST_PATH'];
const operationsMin = Number(process.env['SWITCHYARD_TEST_OPERATIONS'] ?? 3_000);
const engines = (process.env['SWITCHYARD_TEST_ENGINES'] ?? 'sqlite,postgres,mysql').split(',') as SqlEngine[];
/** Pairs of servers at work at the same time: each history has a pair for itself. */
const pairs = 4;
/** Histories generated from one seed. */
const historiesPerSeed = 20;
const shrinkMsMax = 120_000;
const testMsMax = 60 * 60_000;

interface Pair {
  readonly etcd: Wire;
  readonly switchyard: Wire;
}

/** An etcd and a switchyard; undefined: one of them cannot be had here. */
async function pairFor(t: ExecutionContext, engine: SqlEngine): Promise<Pair | undefined> {
  // What etcd answers does not depend on syncing its files.
  const etcd = await skipped(() =>
    testEtcd({ args: ['--unsafe-no-fsync', `--quota-backend-bytes=${8 * 1024 ** 3}`] }),
  );
  if (etcd === undefined) return undefined;
  t.teardown(() => etcd.dispose());
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  t.teardown(() => database.dispose());
  const switchyard = await startSwitchyard({ defaultEndpoint: database.url });
  t.teardown(() => switchyard.dispose());
  const pair = { etcd: new Wire(etcd.endpoint), switchyard: new Wire(switchyard.endpoint) };
  t.teardown(() => {
    pair.etcd.close();
    pair.switchyard.close();
  });
  return pair;
}

/** Plays histories until `isEnough`. @throws Error with the shortest history found that makes a difference */
async function play(
  { etcd, switchyard }: Pair,
  seeds: () => number | undefined,
  count: (operations: number) => void,
): Promise<void> {
  const property = fc.asyncProperty(history, async (steps) => {
    const text = await difference(etcd, switchyard, steps);
    if (text !== undefined) throw new Error(text);
    count(steps.length);
  });
  for (let next = seeds(); next !== undefined; next = seeds()) {
    const options = { seed: next, numRuns: historiesPerSeed };
    // Histories may take as long as they like; only the search for a shorter one is limited.
    const found = await fc.check(property, {
      ...options,
      ...(path === undefined ? {} : { path }),
      endOnFailure: true,
    });
    if (!found.failed) continue;
    const shortest = await fc.check(property, {
      ...options,
      path: found.counterexamplePath ?? '',
      interruptAfterTimeLimit: shrinkMsMax,
      markInterruptAsFailure: true,
      includeErrorInReport: true,
    });
    const isReproduced = shortest.failed && shortest.counterexample !== null;
    throw new Error(fc.defaultReportMessage(isReproduced ? shortest : found));
  }
}

for (const engine of engines) {
  test.serial(`${engine} answers as etcd does`, async (t) => {
    t.timeout(testMsMax);
    const found = await Promise.all(Array.from({ length: pairs }, () => pairFor(t, engine)));
    const all = found.filter((pair) => pair !== undefined);
    const [first] = all;
    if (first === undefined) return void t.pass();
    for (const [title, steps] of Object.entries(cases)) {
      t.is(await difference(first.etcd, first.switchyard, steps), undefined, title);
    }
    let operations = 0;
    let seedsUsed = 0;
    const nextSeed = () => {
      const isEnough = operations >= operationsMin || (path !== undefined && seedsUsed > 0);
      return isEnough ? undefined : seed + seedsUsed++;
    };
    const started = performance.now();
    await Promise.all(all.map((pair) => play(pair, nextSeed, (more) => (operations += more))));
    const seconds = Math.round((performance.now() - started) / 1000);
    t.log(`seeds ${seed} to ${seed + seedsUsed - 1}: ${operations} operations in ${seconds} s`);
    t.pass();
  });
}
