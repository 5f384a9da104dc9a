// The flags of the benchmark.

import { isAbsolute, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { scenarios, type Scenario } from './scenarios.ts';
import { targetNames, type Variant } from './targets.ts';

export interface Options {
  readonly help: boolean;
  readonly keys: readonly number[];
  readonly rounds: number;
  readonly seconds: number;
  readonly valueBytes: number;
  /** Undefined: the databases' defaults. */
  readonly cacheMiB: number | undefined;
  readonly only: readonly string[];
  readonly scenarios: readonly Scenario[];
  readonly variants: readonly Variant[];
  readonly given: readonly { readonly name: string; readonly url: string }[];
  readonly json: string | undefined;
  readonly markdown: string | undefined;
}

export const usage = `Usage: npm run bench -- [flags]

  --keys LIST         numbers of keys, one after the other (default 10000)
  --rounds N          rounds of all scenarios; medians are reported (default 1)
  --seconds N         length of each measurement (default 1)
  --value-bytes N     size of a value (default 1024)
  --database-cache MIB  what Postgres and MariaDB may keep of their data in memory (default: theirs, 128 each)
  --only LIST         of ${targetNames.join(',')}; "none": no target of its own
  --scenarios LIST    of ${scenarios.map(({ name }) => name).join(',')};
                      a name without its number means all of them (update, get, delivery, delivery-other)
  --switchyard NAME=DIR[ FLAGS]  each chosen switchyard once more, as TARGET@NAME, from the checkout DIR and with further
                      flags; may be repeated
  --target NAME=URL   a server that runs already, empty or with the keys of an earlier run; a name like postgres@mine
                      stands beside postgres; may be repeated
  --json FILE         every measurement and the conditions
  --markdown FILE     the tables and the conditions

Exit code 1: requests failed at a server that is not kine.`;

/** Splits at the first "="; undefined without one. */
function pair(text: string): readonly [string, string] | undefined {
  const at = text.indexOf('=');
  return at < 1 ? undefined : [text.slice(0, at), text.slice(at + 1)];
}

const split = (text: string) => text.split(',').filter((part) => part !== '');

function chosen(names: readonly string[]): readonly Scenario[] | string {
  const fits = (scenario: Scenario, name: string) =>
    scenario.name === name || scenario.name.replace(/-\d+$/u, '') === name;
  const unknown = names.find((name) => !scenarios.some((scenario) => fits(scenario, name)));
  if (unknown !== undefined) return unknown;
  return scenarios.filter((scenario) => names.some((name) => fits(scenario, name)));
}

/** The flags, or what is wrong with them. */
export function parse(args: readonly string[]): Options | { readonly problem: string } {
  let values;
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        keys: { type: 'string', default: '10000' },
        rounds: { type: 'string', default: '1' },
        seconds: { type: 'string', default: '1' },
        'value-bytes': { type: 'string', default: '1024' },
        'database-cache': { type: 'string' },
        only: { type: 'string', default: targetNames.join(',') },
        scenarios: { type: 'string', default: scenarios.map(({ name }) => name).join(',') },
        switchyard: { type: 'string', multiple: true, default: [] },
        target: { type: 'string', multiple: true, default: [] },
        json: { type: 'string' },
        markdown: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    return { problem: (error as Error).message };
  }
  const cache = values['database-cache'];
  const numbers = {
    rounds: values.rounds,
    seconds: values.seconds,
    'value-bytes': values['value-bytes'],
    ...(cache === undefined ? {} : { 'database-cache': cache }),
  };
  for (const [flag, text] of Object.entries(numbers))
    if (!(Number(text) > 0)) return { problem: `Expected a number above 0 for --${flag}, got ${text}` };
  const keys = split(values.keys).map(Number);
  if (keys.length === 0 || keys.some((count) => !Number.isInteger(count) || count < 1000))
    return { problem: `Expected whole numbers from 1000 on for --keys, got ${values.keys}` };
  const only = values.only === 'none' ? [] : split(values.only);
  const stranger = only.find((name) => !targetNames.includes(name));
  if (stranger !== undefined)
    return { problem: `Expected names of ${targetNames.join(', ')} for --only, got ${stranger}` };
  const picked = chosen(split(values.scenarios));
  if (typeof picked === 'string')
    return { problem: `Expected names of scenarios for --scenarios, got ${picked}` };
  const variants = values.switchyard.map(pair);
  const given = values.target.map(pair);
  if (variants.includes(undefined) || given.includes(undefined))
    return { problem: 'Expected NAME=… for --switchyard and --target' };
  return {
    help: values.help,
    keys,
    rounds: Number(values.rounds),
    seconds: Number(values.seconds),
    valueBytes: Number(values['value-bytes']),
    cacheMiB: cache === undefined ? undefined : Number(cache),
    only,
    scenarios: picked,
    variants: variants.flatMap((parts) => (parts === undefined ? [] : variantOf(parts))),
    given: given.flatMap((parts) => (parts === undefined ? [] : { name: parts[0], url: parts[1] })),
    json: values.json,
    markdown: values.markdown,
  };
}

function variantOf([name, text]: readonly [string, string]): Variant {
  const [folder = '.', ...flags] = text.split(' ').filter((part) => part !== '');
  return { name, checkout: isAbsolute(folder) ? folder : resolve(folder), flags };
}
