// Ten thousand writes that wait for a database that nobody may write to, and large ones: what does not fit is refused and never
// written, what is taken is acknowledged and there, memory is bounded, and who does not write there notices nothing.

import test from 'ava';
import { writePutRequest } from '../../src/etcd/codec/kv.ts';
import { encode } from '../../src/etcd/wire.ts';
import { putRequest } from '../conformance/requests.ts';
import type { SqlEngine } from '../servers/index.ts';
import { fared } from './probe.ts';
import type { Answer } from './raw-client.ts';
import { mebibyte, onScene, settings, things, type Scene } from './scene.ts';

const connections = 4;
const tooMany = 'etcdserver: too many requests';
/** Waited for longer than a client would. */
const tooLong = 'etcdserver: request timed out';

interface Load {
  readonly writes: number;
  readonly valueBytes: number;
  /** So many are refused at least. */
  readonly refusedMin: number;
  /** So much more memory the gateway may take at most, in MiB. */
  readonly grownMax: number;
}

const loads: Readonly<Record<string, Load>> = {
  'ten thousand and more writes': { writes: 12_000, valueBytes: 1_024, refusedMin: 1_000, grownMax: 450 },
  '300 MiB of large writes': {
    writes: 200,
    valueBytes: 1.5 * mebibyte - 4_096,
    refusedMin: 80,
    grownMax: 900,
  },
};

async function press({ connect, hold, client, steady }: Scene, { writes, valueBytes }: Load) {
  const clients = await Promise.all(Array.from({ length: connections }, connect));
  const release = await hold();
  const value = Buffer.alloc(valueBytes, 'v');
  const answers: Promise<Answer>[] = [];
  for (let n = 0; n < writes; n++) {
    const request = encode(putRequest(`${things}/${n}`, value), writePutRequest);
    answers.push(clients[n % connections]!.call('KV/Put', request));
    // So that the requests come while others wait.
    if (n % 500 === 0) await new Promise(setImmediate);
  }
  let refused = 0;
  for (const answer of answers) void answer.then(({ code }) => (refused += code === 0 ? 0 : 1));
  // All that is not refused waits.
  await steady('switchyard_asked_bytes');
  const whileHeld = { refused };
  return { release, answers, whileHeld, there: () => keysThere(client) };
}

async function keysThere(client: Scene['client']): Promise<string[]> {
  const { kvs } = await client.range(`${things}/`, { rangeEnd: `${things}0`, keysOnly: true });
  return kvs.map(({ key }) => key.toString()).toSorted();
}

for (const engine of ['sqlite', 'postgres', 'mysql'] as const satisfies readonly SqlEngine[]) {
  for (const [what, load] of Object.entries(loads)) {
    test.serial(`${engine}: ${what} wait for a database that is held`, (t) =>
      onScene(t, engine, async (scene) => {
        const { probe, beginPeak, peak, freed } = scene;
        const probes = [await probe(settings), await probe(`${things}/first`)];
        await Promise.all(probes.map((one) => one.warm()));
        const before = probes.map((one) => one.look());
        const rss = beginPeak();
        const heldAt = performance.now();
        const { release, answers, whileHeld, there } = await press(scene, load);
        const during = probes.map((one) => one.look());
        await release();
        const heldMs = performance.now() - heldAt;
        const outcomes = await Promise.all(answers);
        const taken = [`${things}/first`];
        let late = 0;
        for (const [n, { code, details }] of outcomes.entries()) {
          if (code === 0) taken.push(`${things}/${n}`);
          else t.true(details === tooMany || details === tooLong, `${code} ${details}`);
          if (details === tooLong) late++;
        }
        const refused = outcomes.length + 1 - taken.length;
        t.log(
          `${what}: ${rss.toFixed(0)} -> ${peak().toFixed(0)} MiB, ${taken.length - 1} written, ${refused} refused (${whileHeld.refused} at once, ${late} late), held for ${heldMs.toFixed(0)} ms`,
        );
        for (const [index, where] of ['etcd', 'database'].entries())
          t.log(`${where}: ${fared(before[index]!, during[index]!)}`);
        t.deepEqual(await there(), taken.toSorted());
        t.true(refused >= load.refusedMin, `${refused} refused`);
        t.true(taken.length > 50);
        for (const { failures } of during) t.deepEqual(failures, []);
        t.true(peak() - rss < load.grownMax, `${rss} -> ${peak()} MiB`);
        await Promise.all(probes.map((one) => one.stop()));
        await freed();
      }),
    );
  }
}
