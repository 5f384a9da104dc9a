// The same random history on a real etcd and on switchyard over each database: every answer and every event must be
// equal. The seed is fixed and printed; SWITCHYARD_TEST_SEED and SWITCHYARD_TEST_RUNS try others.

import fc from 'fast-check';
import test, { type ExecutionContext } from 'ava';
import { skipped } from '../servers/database.ts';
import { testEtcd, type SqlEngine } from '../servers/index.ts';
import { EtcdClient } from './client.ts';
import { replay, step, type Step } from './history.ts';
import { Scene } from './scene.ts';
import type { Target } from './suite.ts';
import { onDatabase } from './switchyard.ts';

const seed = Number(process.env['SWITCHYARD_TEST_SEED'] ?? 20_261);
const runs = Number(process.env['SWITCHYARD_TEST_RUNS'] ?? 60);
const stepsMin = 20;
const stepsMax = 60;

let etcd: Target | undefined;
let scenes = 0;

test.before('etcd starts', async (t) => {
  etcd = await skipped(() => testEtcd());
  t.pass();
});
test.after.always('etcd stops', () => etcd?.dispose());

for (const engine of ['sqlite', 'postgres', 'mysql'] satisfies SqlEngine[]) {
  test.serial(`${engine} answers random histories as etcd does`, async (t) => {
    const reference = etcd;
    const target = reference === undefined ? undefined : await onDatabase(engine);
    if (reference === undefined || target === undefined) return void t.pass();
    t.teardown(() => target.dispose());
    t.log(`seed ${seed}, ${runs} runs`);
    const compareOnce = async (steps: readonly Step[]) => {
      const prefix = `/random/${String(++scenes).padStart(5, '0')}/`;
      const [expected, got] = await Promise.all([
        play(reference.endpoint, prefix, steps),
        play(target.endpoint, prefix, steps),
      ]);
      return difference(t, steps, expected, got);
    };
    const property = fc.asyncProperty(
      fc.array(step, { minLength: stepsMin, maxLength: stepsMax }),
      async (steps) => {
        const text = await compareOnce(steps);
        if (text !== undefined) throw new Error(text);
      },
    );
    await fc.assert(property, { seed, numRuns: runs, interruptAfterTimeLimit: 120_000, endOnFailure: false });
    t.pass();
  });
}

async function play(endpoint: string, prefix: string, steps: readonly Step[]): Promise<unknown[]> {
  const client = new EtcdClient(endpoint);
  const scene = new Scene(client, { prefix });
  try {
    await scene.enter();
    return await replay(scene, steps);
  } finally {
    scene.leave();
  }
}

/** The first answer that differs, in words; undefined when all are equal. */
function difference(
  t: ExecutionContext,
  steps: readonly Step[],
  expected: readonly unknown[],
  got: readonly unknown[],
): string | undefined {
  const plain = (value: unknown) =>
    JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'bigint' ? `${inner}` : inner));
  for (const [index, answer] of expected.entries()) {
    const [etcdSays, weSay] = [plain(answer), plain(got[index])];
    if (etcdSays === weSay) continue;
    const asked =
      index < steps.length ? plain(steps[index]) : index === steps.length ? 'all keys' : 'all events';
    return `Expected the answer of etcd to step ${index}, ${asked}:\n  ${etcdSays}\ngot\n  ${weSay}`;
  }
  t.is(expected.length, got.length);
  return undefined;
}
