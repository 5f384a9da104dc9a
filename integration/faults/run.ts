// `npm run faults`: each fault on each engine for longer than in the tests, and the table of what came of it. Exit code 1:
// something was violated.

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { conditionLines, conditions } from '../bench/conditions.ts';
import { asMarkdown, asText, type Table } from '../bench/table.ts';
import { allFaults } from './all-faults.ts';
import { experiment, type Outcome } from './experiment.ts';
import { everyEngine } from './fault.ts';

const { values } = parseArgs({
  options: {
    engines: { type: 'string', default: everyEngine.join(',') },
    faults: { type: 'string' },
    seconds: { type: 'string', default: '30' },
    rounds: { type: 'string', default: '1' },
    markdown: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
const engines = values.engines.split(',');
const wanted = values.faults?.split(',') ?? allFaults.map(({ name }) => name);
const chosen = allFaults.filter(({ name }) => wanted.some((part) => name.includes(part)));
const [seconds, rounds] = [Number(values.seconds), Number(values.rounds)];
const isUsable =
  engines.every((name) => everyEngine.some((engine) => engine === name)) &&
  chosen.length > 0 &&
  seconds > 0 &&
  rounds > 0;

if (values.help || !isUsable) {
  console.log(`Usage: npm run faults -- [flags]

  --engines LIST   of ${everyEngine.join(',')} (default all)
  --faults LIST    names or parts of names (default all), of
                   ${allFaults.map(({ name }) => name).join('\n                   ')}
  --seconds N      how long a fault lasts that lasts (default 30)
  --rounds N       each so often; the table has the worst (default 1)
  --markdown FILE

Exit code 1: something was violated, or did not recover.`);
  process.exit(values.help ? 0 : 2);
}

const outcomes: Outcome[] = [];
let failed = false;
for (let round = 1; round <= rounds; round++) {
  for (const fault of chosen) {
    for (const engine of fault.engines.filter((name) => engines.includes(name))) {
      try {
        const outcome = await experiment(fault, { engine, seconds });
        if (outcome === undefined) continue;
        outcomes.push(outcome);
        console.log(lineOf(outcome));
        for (const text of outcome.violations) console.log(`  ${text}`);
        if (outcome.violations.length > 0) failed = true;
      } catch (error) {
        failed = true;
        console.log(`${engine}: ${fault.name}: ${String(error)}`);
      }
    }
  }
}
const table = tableOf(outcomes);
console.log(`\n${asText(table)}`);
if (values.markdown !== undefined) {
  const settings = [`${seconds} s for faults that last, ${rounds} rounds`];
  const lines = conditionLines(conditions(settings)).map((line) => `- ${line}`);
  writeFileSync(values.markdown, `${lines.join('\n')}\n\n${asMarkdown(table)}`);
}
process.exitCode = failed ? 1 : 0;

function lineOf(outcome: Outcome) {
  const { engine, fault, acknowledged, unknown, violations: broken, unavailableMs, recoveryMs } = outcome;
  return (
    `${engine}: ${fault}: ${acknowledged} acknowledged, ${unknown} unknown, ${broken.length} violations, ` +
    `without a write ${unavailableMs.toFixed(0)} ms, recovery ${recoveryMs.toFixed(0)} ms`
  );
}

/** A row for each fault and engine; of several rounds the sums, and the longest times. */
function tableOf(all: readonly Outcome[]): Table {
  const groups = Map.groupBy(all, ({ engine, fault }) => `${fault}\n${engine}`);
  const sum = (of: readonly Outcome[], figure: 'acknowledged' | 'unknown' | 'rejected' | 'lost') =>
    String(of.reduce((total, outcome) => total + outcome[figure], 0));
  const longest = (
    of: readonly Outcome[],
    figure: 'unavailableMs' | 'othersUnavailableMs' | 'recoveryMs',
  ) => {
    const times = of.map((outcome) => outcome[figure]).filter((ms) => ms !== undefined);
    return times.length === 0 ? '–' : (Math.max(...times) / 1000).toFixed(2);
  };
  const rows = [...groups.values()].map((of) => [
    of[0]!.fault,
    of[0]!.engine,
    sum(of, 'acknowledged'),
    sum(of, 'unknown'),
    sum(of, 'rejected'),
    sum(of, 'lost'),
    String(of.reduce((total, outcome) => total + outcome.violations.length, 0)),
    longest(of, 'unavailableMs'),
    longest(of, 'othersUnavailableMs'),
    longest(of, 'recoveryMs'),
  ]);
  return {
    title: 'Faults',
    rows: [
      [
        'fault',
        'engine',
        'acknowledged writes',
        'unknown',
        'rejected',
        'acknowledged, then lost',
        'violations',
        'longest without a write [s]',
        'at other gateways [s]',
        'recovery [s]',
      ],
      ...rows,
    ],
  };
}
