// `npm run bench`: the same load on etcd, kine and switchyard over each database, side by side in one run. Each scenario runs on every
// target in turn, round after round, so that a noisy minute hits all of them; reported are medians. Figures of one run compare with
// each other, not with those of another machine or day. README.md says what each row means.

import { writeFileSync } from 'node:fs';
import { conditionLines, conditions } from './conditions.ts';
import { Medians, type Measured, type Use } from './measured.ts';
import { parse, usage, type Options } from './options.ts';
import { inTurn } from './turns.ts';
import type { Scenario } from './scenarios.ts';
import { asMarkdown, asText, tablesOf } from './table.ts';
import { givenTarget, startTarget, type Target } from './targets.ts';
import { cpuSeconds, peakMiB, resetPeak, residentMiB } from './usage.ts';

const say = (line: string) => process.stderr.write(`${line}\n`);

async function startAll(options: Options): Promise<readonly Target[]> {
  const { valueBytes, cacheMiB, only, variants, given } = options;
  const mine = only.flatMap((name) => {
    const several = name !== 'etcd' && !name.startsWith('kine-');
    const each = [undefined, ...(several ? variants : [])];
    return each.map((variant) => startTarget(name, { valueBytes, cacheMiB, variant }));
  });
  const others = given.map(({ name, url }) => givenTarget(name, url, { valueBytes }));
  const started = await Promise.all([...mine, ...others]);
  return started.filter((target) => target !== undefined);
}

async function fill(target: Target, keys: number): Promise<void> {
  const began = performance.now();
  const { errors, error } = await target.fill(keys);
  if (errors > 0) throw new Error(`Expected ${target.name} to take ${keys} keys, got: ${error}`);
  say(`${target.name}: ${keys} keys in ${((performance.now() - began) / 1000).toFixed(1)} s`);
}

/** Runs one scenario and what it uses. Undefined: it makes no sense on this target. */
async function measure(
  target: Target,
  scenario: Scenario,
  seconds: number,
): Promise<Pick<Measured, 'result' | 'use'> | undefined> {
  if (scenario.elsewhere === true && target.another === undefined) return undefined;
  const other = scenario.elsewhere === true ? await target.another?.() : undefined;
  const spent = () => [cpuSeconds(target.gateway), cpuSeconds(target.database)] as const;
  let before = spent();
  try {
    const command = {
      seconds,
      ...scenario.command,
      ...(other === undefined ? {} : { endpoint: other.endpoint }),
    };
    const result = await target.load.run(command, () => {
      target.gateway.forEach(resetPeak);
      before = spent();
    });
    const after = spent();
    const use: Use = {
      ...(target.gateway.length === 0
        ? {}
        : {
            gatewayCpu: after[0] - before[0],
            gatewayMiB: residentMiB(target.gateway),
            gatewayPeakMiB: target.gateway.reduce((sum, pid) => sum + peakMiB(pid), 0),
          }),
      ...(target.database.length === 0
        ? {}
        : { databaseCpu: after[1] - before[1], databaseMiB: residentMiB(target.database) }),
    };
    return { result, use };
  } finally {
    await other?.dispose();
  }
}

async function runKeys(options: Options, keys: number, measured: Measured[]): Promise<readonly string[]> {
  const targets = await startAll(options);
  try {
    for (const target of targets) await fill(target, keys);
    for (let round = 1; round <= options.rounds; round++) {
      for (const [index, scenario] of options.scenarios.entries()) {
        for (const target of inTurn(targets, round + index)) {
          const found = await measure(target, scenario, options.seconds);
          if (found === undefined) continue;
          measured.push({ keys, round, target: target.name, scenario: scenario.name, ...found });
          const { result } = found;
          say(
            `${keys} keys, round ${round}, ${scenario.name}, ${target.name}: ${result.rate.toFixed(0)}/s, ` +
              `p50 ${result.p50.toFixed(2)} ms, p99 ${result.p99.toFixed(2)} ms` +
              (result.errors === 0 ? '' : `, ${result.errors} errors, the first: ${result.error}`),
          );
          if (scenario.name === 'create' && !options.scenarios.some(({ name }) => name === 'delete'))
            await target.load.run({ do: 'delete', clients: 64 });
        }
      }
    }
    return targets.map(({ name }) => name);
  } finally {
    for (const target of targets) await target.dispose();
  }
}

const parsed = parse(process.argv.slice(2));
if ('problem' in parsed) {
  console.error(`${parsed.problem}\n\n${usage}`);
  process.exit(2);
}
if (parsed.help) {
  console.log(usage);
  process.exit(0);
}
const of = conditions([
  ...(parsed.cacheMiB === undefined
    ? []
    : [`Postgres and MariaDB with ${parsed.cacheMiB} MiB for data instead of the default, for kine too`]),
  `values of ${parsed.valueBytes} bytes, ${parsed.seconds} s a measurement, medians of ${parsed.rounds} rounds`,
]);
const measured: Measured[] = [];
let targets: readonly string[] = [];
for (const keys of parsed.keys) targets = await runKeys(parsed, keys, measured);
const run = { medians: new Medians(measured), scenarios: parsed.scenarios, targets, keys: parsed.keys };
const tables = tablesOf(run);
console.log([...conditionLines(of), '', ...tables.map((table) => `${asText(table)}\n`)].join('\n'));
if (parsed.json !== undefined)
  writeFileSync(parsed.json, `${JSON.stringify({ conditions: of, measured }, null, 1)}\n`);
if (parsed.markdown !== undefined) {
  const lines = conditionLines(of).map((line) => `- ${line}`);
  writeFileSync(parsed.markdown, [...lines, '', ...tables.map(asMarkdown)].join('\n'));
}
const failed = measured.filter(({ target, result }) => !target.startsWith('kine-') && result.errors > 0);
process.exit(failed.length > 0 ? 1 : 0);
