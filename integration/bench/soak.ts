// `npx node integration/bench/soak.ts --minutes 20`: the mixed load at a part of the most that the server takes, for long, with a
// compaction every minute as kube-apiserver asks for it, and whether latency, memory and the database stay what they are. Exit
// code 1: something failed or grew.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LoadClient, type Result } from './client.ts';
import { conditionLines, conditions } from './conditions.ts';
import { openMeter, type StoreSize } from './store-size.ts';
import { asMarkdown, asText, shown, type Table } from './table.ts';
import { sqlEngines, startTarget, type Target } from './targets.ts';
import { trendOf } from './trend.ts';
import { cpuSeconds, residentMiB } from './usage.ts';
import { tempFolder } from '../servers/index.ts';

const clients = 64;
const watchers = 20;
const sampleSeconds = 10;

const { values } = parseArgs({
  options: {
    target: { type: 'string', default: 'postgres' },
    minutes: { type: 'string', default: '20' },
    'rate-percent': { type: 'string', default: '70' },
    rate: { type: 'string' },
    'probe-seconds': { type: 'string', default: '30' },
    'compact-seconds': { type: 'string', default: '60' },
    keys: { type: 'string', default: '100000' },
    'value-bytes': { type: 'string', default: '1024' },
    json: { type: 'string' },
    markdown: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
const engine = sqlEngines.find((name) => name === values.target);
const numbers = [
  'minutes',
  'rate-percent',
  'probe-seconds',
  'compact-seconds',
  'keys',
  'value-bytes',
] as const;
if (
  values.help ||
  engine === undefined ||
  !numbers.every((name) => Number(values[name]) > 0) ||
  (values.rate !== undefined && !(Number(values.rate) > 0))
) {
  console.log(`Usage: npx node integration/bench/soak.ts [flags]

  --target NAME        one of ${sqlEngines.join(', ')} (default postgres)
  --minutes N          length (default 20)
  --rate-percent N     of the most that the server takes (default 70), which is found first
  --probe-seconds N    how long that takes (default 30)
  --rate N             requests a second, instead of looking for the most
  --compact-seconds N  between compactions, each at the revision of the one before (default 60)
  --keys N, --value-bytes N  (default 100000, 1024)
  --json FILE, --markdown FILE`);
  process.exit(values.help ? 0 : 2);
}
const [minutes, ratePercent, probeSeconds, compactSeconds, keys, valueBytes] = numbers.map((name) =>
  Number(values[name]),
) as [number, number, number, number, number, number];

const heapFile = join(tempFolder('heap'), 'heap');
writeFileSync(heapFile, '');
const probe = fileURLToPath(new URL('heap-probe.ts', import.meta.url));

interface Sample extends StoreSize {
  readonly at: number;
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly errors: number;
  readonly error: string | undefined;
  readonly rssMiB: number;
  /** The least of the last ten seconds. */
  readonly heapMiB: number | undefined;
  readonly gatewayCores: number;
  readonly databaseCores: number;
}

/** What must stay, and by how much of its mean its line may rise over the second half. */
const bounds: readonly { readonly figure: keyof Sample; readonly title: string; readonly bound: number }[] = [
  { figure: 'p50', title: 'latency, p50 [ms]', bound: 0.25 },
  { figure: 'p99', title: 'latency, p99 [ms]', bound: 0.5 },
  { figure: 'rssMiB', title: 'resident memory of the gateway [MiB]', bound: 0.1 },
  { figure: 'heapMiB', title: 'heap of the gateway [MiB]', bound: 0.1 },
  { figure: 'mib', title: 'database [MiB]', bound: 0.1 },
  { figure: 'logRows', title: 'rows of the log', bound: 0.1 },
  { figure: 'currentRows', title: 'live keys', bound: 0.05 },
];

const lastHeap = () => {
  const line = readFileSync(heapFile, 'utf8').trimEnd().split('\n').at(-1);
  return line === undefined || line === '' ? undefined : Number(line) / 2 ** 20;
};

/** Compacts until it is told to stop; how long each took, in ms. */
async function compactions(target: Target, stop: AbortSignal): Promise<number[]> {
  const load = await LoadClient.start({ endpoint: target.endpoint, valueBytes });
  const taken: number[] = [];
  let { revision } = await load.run({ do: 'revision' });
  while (!stop.aborted) {
    try {
      await sleep(compactSeconds * 1000, undefined, { signal: stop });
    } catch {
      // Told to stop.
      break;
    }
    const { revision: next } = await load.run({ do: 'revision' });
    const done = await load.run({ do: 'compact', revision: revision! });
    if (done.errors > 0) throw new Error(`Expected a compaction at ${revision}, got: ${done.error}`);
    taken.push(done.max);
    revision = next;
  }
  await load.close();
  return taken;
}

async function findMost(target: Target): Promise<Result> {
  const mixed = { do: 'mixed', clients, watchers };
  // The first seconds are those of a compiler that does not know the program yet.
  await target.load.run({ ...mixed, seconds: probeSeconds / 3 });
  return target.load.run({ ...mixed, seconds: probeSeconds });
}

async function soak(target: Target, rate: number): Promise<{ samples: Sample[]; compacted: number[] }> {
  const samples: Sample[] = [];
  const meter = await openMeter(engine!, target.url);
  const stop = new AbortController();
  const compacted = compactions(target, stop.signal);
  const began = performance.now();
  let spent = [cpuSeconds(target.gateway), cpuSeconds(target.database)] as const;
  let sampling = Promise.resolve();
  const take = async (result: Result) => {
    const at = (performance.now() - began) / 1000;
    const now = [cpuSeconds(target.gateway), cpuSeconds(target.database)] as const;
    const sample: Sample = {
      at,
      rate: result.rate,
      p50: result.p50,
      p99: result.p99,
      max: result.max,
      errors: result.errors,
      error: result.error,
      rssMiB: residentMiB(target.gateway),
      heapMiB: lastHeap(),
      gatewayCores: (now[0] - spent[0]) / result.seconds,
      databaseCores: (now[1] - spent[1]) / result.seconds,
      ...(await meter.size()),
    };
    spent = now;
    samples.push(sample);
    process.stderr.write(
      `${at.toFixed(0)} s: ${sample.rate.toFixed(0)}/s, p50 ${sample.p50.toFixed(1)} ms, p99 ${sample.p99.toFixed(1)} ms, ` +
        `rss ${sample.rssMiB.toFixed(0)} MiB, heap ${sample.heapMiB?.toFixed(0) ?? '-'} MiB, ` +
        `database ${sample.mib.toFixed(0)} MiB, log ${sample.logRows} rows` +
        (sample.errors === 0 ? '\n' : `, ${sample.errors} errors, the first: ${sample.error}\n`),
    );
  };
  const rest = await target.load.run(
    { do: 'mixed', clients, watchers, rate, seconds: minutes * 60, every: sampleSeconds },
    undefined,
    (result) => {
      sampling = sampling.then(() => take(result));
    },
  );
  stop.abort();
  await sampling;
  await meter.close();
  if (rest.errors > 0) process.stderr.write(`${rest.errors} errors at the end, the first: ${rest.error}\n`);
  return { samples, compacted: await compacted };
}

const target = await startTarget(engine!, {
  valueBytes,
  env: { NODE_OPTIONS: `--import=${probe}`, SWITCHYARD_HEAP_FILE: heapFile },
});
if (target === undefined) process.exit(2);
const of = conditions([
  `${keys} keys, values of ${valueBytes} bytes, ${clients} clients, ${watchers} watchers of all keys, ${minutes} minutes`,
  '60 % gets, 25 % updates, 5 % each creates, deletes and pages of 500; latency counts from the time at which a request was due',
]);
const filled = await target.fill(keys);
if (filled.errors > 0) throw new Error(`Expected ${engine} to be filled, got: ${filled.error}`);
const most = values.rate === undefined ? await findMost(target) : undefined;
if (most !== undefined && most.errors > 0)
  throw new Error(`Expected no errors, got ${most.errors}, the first: ${most.error}`);
const rate = most === undefined ? Number(values.rate) : (most.rate * ratePercent) / 100;
const origin = most === undefined ? 'as asked for' : `${ratePercent} % of ${shown(most.rate)}`;
process.stderr.write(`${shown(rate)} requests a second, ${origin}\n`);
const { samples, compacted } = await soak(target, rate);
await target.dispose();

const errors = samples.reduce((sum, sample) => sum + sample.errors, 0);
const trends = bounds.map(({ figure, title, bound }) => {
  const known = samples.flatMap((sample) => {
    const value = sample[figure];
    return typeof value === 'number' ? [{ at: sample.at, value }] : [];
  });
  return { figure, title, first: known[0]?.value, trend: trendOf(known, bound) };
});
const percent = (part: number) => `${part >= 0 ? '+' : ''}${(part * 100).toFixed(1)} %`;
const table: Table = {
  title: `${minutes} minutes of mixed load on ${engine} at ${shown(rate)} requests a second, ${origin}`,
  rows: [
    ['', 'first sample', 'mean of the second half', 'its line rises', 'bound', 'verdict'],
    ...trends.map(({ title, first, trend }) => [
      title,
      shown(first),
      shown(trend?.mean),
      trend === undefined ? '-' : percent(trend.growth),
      trend === undefined ? '-' : percent(trend.bound),
      trend === undefined ? 'too few samples' : trend.flat ? 'flat' : 'GROWS',
    ]),
  ],
};
const mean = (figure: 'rate' | 'gatewayCores' | 'databaseCores') =>
  shown(samples.reduce((sum, sample) => sum + sample[figure], 0) / samples.length);
const remarks = [
  `${mean('rate')} requests a second answered, ${errors} errors; cores: gateway ${mean('gatewayCores')}, database ${mean('databaseCores')}`,
  `${compacted.length} compactions, the longest ${shown(Math.max(0, ...compacted))} ms`,
];
console.log([...conditionLines(of), '', asText(table), ...remarks].join('\n'));
if (values.json !== undefined)
  writeFileSync(
    values.json,
    `${JSON.stringify({ conditions: of, most, rate, samples, compacted, trends }, null, 1)}\n`,
  );
if (values.markdown !== undefined) {
  const lines = [...conditionLines(of), ...remarks].map((line) => `- ${line}`);
  writeFileSync(values.markdown, [...lines, '', asMarkdown(table)].join('\n'));
}
process.exit(errors > 0 || trends.some(({ trend }) => trend?.flat !== true) ? 1 : 0);
