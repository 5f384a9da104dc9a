// `npx node integration/bench/limit.ts`: what each database can do for a gateway in Node at all, and how much of it switchyard
// reaches. A bare client writes the same rows (log, current, meta) in transactions of 1, 16 and 64 updates, one after the other as
// the store's revisions demand; switchyard gets updates from 1, 16 and 64 clients. In turn, several rounds, medians.

import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { openBare, type BareWriter, type Change } from './bare-writers.ts';
import { conditionLines, conditions } from './conditions.ts';
import { median } from './measured.ts';
import { asMarkdown, asText, shown, type Table } from './table.ts';
import { databaseOf, sqlEngines, startTarget, type Place, type Target } from './targets.ts';
import { LoadClient } from './client.ts';
import { startSwitchyard, type SqlEngine } from '../servers/index.ts';
import { cpuSeconds } from './usage.ts';

const sizes = [1, 16, 64];

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: sqlEngines.join(',') },
    keys: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '3' },
    'value-bytes': { type: 'string', default: '1024' },
    json: { type: 'string' },
    markdown: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
const engines = sqlEngines.filter((engine) => values.only.split(',').includes(engine));
const [keys, seconds, rounds, valueBytes] = [
  values.keys,
  values.seconds,
  values.rounds,
  values['value-bytes'],
].map(Number);
if (
  values.help ||
  engines.length === 0 ||
  ![keys, seconds, rounds, valueBytes].every((number) => number !== undefined && number > 0)
) {
  console.log(`Usage: npx node integration/bench/limit.ts [flags]

  --only LIST  of ${sqlEngines.join(',')}
  --keys N, --seconds N, --rounds N, --value-bytes N  (default 10000, 2, 3, 1024)
  --json FILE, --markdown FILE`);
  process.exit(values.help ? 0 : 2);
}

interface Measurement {
  readonly engine: SqlEngine;
  readonly round: number;
  readonly size: number;
  /** Updates a second. */
  readonly bare: number;
  readonly switchyard: number;
  /** CPU seconds a second. */
  readonly bareCores: number;
  readonly databaseCores: number;
}

/** A database with the tables and keys of switchyard, and nobody else at it. */
async function prepare(engine: SqlEngine): Promise<Place | undefined> {
  const place = await databaseOf(engine);
  if (place === undefined) return undefined;
  const gateway = await startSwitchyard({ defaultEndpoint: place.url });
  const load = await LoadClient.start({ endpoint: gateway.endpoint, valueBytes: valueBytes! });
  const { errors, error } = await load.run({ do: 'fill', keys: keys! });
  await load.close();
  await gateway.dispose();
  if (errors > 0) throw new Error(`Expected ${engine} to be filled, got: ${error}`);
  return place;
}

/** Batches without a pause. */
class Bare {
  readonly #writer: BareWriter;
  readonly #keys: { key: Buffer; revision: bigint }[];
  readonly #random = randomBytes(1 << 20);
  #revision: bigint;
  #turn = 0;

  private constructor(writer: BareWriter, revision: bigint, known: { key: Buffer; revision: bigint }[]) {
    this.#writer = writer;
    this.#revision = revision;
    this.#keys = known;
  }

  static async open(engine: SqlEngine, url: string): Promise<Bare> {
    const writer = await openBare(engine, url);
    const known = (await writer.keys()).map((key) => ({ ...key }));
    // As the load does: not in the order of the keys.
    known.sort((a, b) => Buffer.compare(a.key.subarray(-4), b.key.subarray(-4)));
    return new Bare(writer, await writer.revision(), known);
  }

  async run(size: number, forSeconds: number): Promise<number> {
    let written = 0;
    const began = performance.now();
    while (performance.now() - began < forSeconds * 1000) {
      const from = this.#revision;
      const changes: Change[] = [];
      for (let index = 0; index < size; index++) {
        const known = this.#keys[this.#turn++ % this.#keys.length]!;
        const at = Math.floor(Math.random() * (this.#random.length - valueBytes!));
        this.#revision += 1n;
        const value = this.#random.subarray(at, at + valueBytes!);
        changes.push({ key: known.key, revision: this.#revision, previous: known.revision, value });
        known.revision = this.#revision;
      }
      await this.#writer.write(from, changes);
      written += size;
    }
    return (written / (performance.now() - began)) * 1000;
  }

  close = () => this.#writer.close();
}

async function measureEngine(engine: SqlEngine, target: Target, place: Place): Promise<Measurement[]> {
  const measurements: Measurement[] = [];
  const filled = await target.fill(keys!);
  if (filled.errors > 0) throw new Error(`Expected ${engine} to be filled, got: ${filled.error}`);
  const bare = await Bare.open(engine, place.url);
  for (let round = 1; round <= rounds!; round++) {
    for (const size of sizes) {
      const [cpu, database] = [process.cpuUsage(), cpuSeconds(place.pids)];
      const rate = await bare.run(size, seconds!);
      const used = process.cpuUsage(cpu);
      const bareCores = (used.user + used.system) / 1e6 / seconds!;
      const databaseCores = (cpuSeconds(place.pids) - database) / seconds!;
      const own = await target.load.run({ do: 'update', clients: size, seconds: seconds! });
      if (own.errors > 0) throw new Error(`Expected updates on ${engine} to succeed, got: ${own.error}`);
      measurements.push({ engine, round, size, bare: rate, switchyard: own.rate, bareCores, databaseCores });
      process.stderr.write(
        `${engine}, round ${round}, ${size}: bare ${rate.toFixed(0)}/s, switchyard ${own.rate.toFixed(0)}/s\n`,
      );
    }
  }
  await bare.close();
  return measurements;
}

const of = conditions([
  `values of ${valueBytes} bytes, ${keys} keys, ${seconds} s a measurement, medians of ${rounds} rounds`,
]);
const measurements: Measurement[] = [];
for (const engine of engines) {
  const [target, place] = await Promise.all([
    startTarget(engine, { valueBytes: valueBytes! }),
    prepare(engine),
  ]);
  if (target !== undefined && place !== undefined)
    measurements.push(...(await measureEngine(engine, target, place)));
  await target?.dispose();
  await place?.dispose();
}

const rows = engines.flatMap((engine) =>
  sizes.map((size) => {
    const mine = measurements.filter((one) => one.engine === engine && one.size === size);
    const middle = (figure: keyof Measurement) => median(mine.map((one) => Number(one[figure])));
    const [bare, own] = [middle('bare'), middle('switchyard')];
    return [
      `${engine}, ${size}`,
      shown(bare),
      shown(bare === undefined ? undefined : (size / bare) * 1000),
      shown(middle('bareCores')),
      place(middle('databaseCores')),
      shown(own),
      bare === undefined || own === undefined ? '-' : (own / bare).toFixed(2),
    ];
  }),
);

/** SQLite runs inside the client. */
function place(cores: number | undefined): string {
  return cores === undefined || cores === 0 ? '-' : shown(cores);
}

const table: Table = {
  title: 'Updates a second: a bare client by size of its transactions, switchyard by number of clients',
  rows: [
    [
      '',
      'bare client /s',
      'its ms a transaction',
      'its cores',
      'cores of the database',
      'switchyard /s',
      'ratio',
    ],
    ...rows,
  ],
};
console.log([...conditionLines(of), '', asText(table)].join('\n'));
if (values.json !== undefined)
  writeFileSync(values.json, `${JSON.stringify({ conditions: of, measurements }, null, 1)}\n`);
if (values.markdown !== undefined) {
  const lines = conditionLines(of).map((line) => `- ${line}`);
  writeFileSync(values.markdown, [...lines, '', asMarkdown(table)].join('\n'));
}
process.exit();
