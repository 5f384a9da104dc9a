// The flags that the commands beside serve share, with the same environment twins as those of serve; and how each reads its own.

import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { defaultTopologyPath, environmentTwin, UsageError } from '../config/config.ts';
import { loadTopology, type Topology } from '../router/topology.ts';
import type { Io } from './io.ts';

export interface TopologyFlags {
  readonly topology: string | undefined;
  readonly defaultEndpoint: string | undefined;
  readonly keyPrefix: string;
  readonly offline: boolean;
  readonly help: boolean;
}

type TextFlag = 'topology' | 'default-endpoint' | 'key-prefix';
/** Of one command alone, without a twin: those that take a value may be given several times. */
type ListFlag = 'type' | 'store' | 'revision-margin';
type SwitchFlag = 'offline' | 'replace' | 'resume' | 'give-up' | 'with-leases' | 'dry-run';
type Flag = TextFlag | ListFlag | SwitchFlag;

const switches: ReadonlySet<string> = new Set<SwitchFlag>([
  'offline',
  'replace',
  'resume',
  'give-up',
  'with-leases',
  'dry-run',
]);

export interface Arguments {
  readonly values: TopologyFlags;
  readonly positionals: readonly string[];
  readonly isOn: (flag: SwitchFlag) => boolean;
  /** In the order given. */
  readonly listOf: (flag: ListFlag) => readonly string[];
}

/** Reads the flags named in `accepted`. @throws UsageError */
export function readArguments(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  accepted: readonly Flag[],
): Arguments {
  const known = accepted.map((name) => [name, { type: switches.has(name) ? 'boolean' : 'string' }] as const);
  const problems: string[] = [];
  const { values, positionals, tokens } = parseArgs({
    args: [...args],
    options: { ...Object.fromEntries(known), help: { type: 'boolean', short: 'h' } },
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    const name = token.name as Flag;
    if (token.name === 'help') continue;
    if (!accepted.includes(name))
      problems.push(
        `Expected one of the flags ${accepted.map((flag) => `--${flag}`).join(', ')}, got ${token.rawName}`,
      );
    else if (!switches.has(name) && (token.value === undefined || token.value === ''))
      problems.push(`Expected a value after --${name}, got nothing`);
  }
  if (problems.length > 0) throw new UsageError(problems);
  const text = (name: TextFlag): string | undefined => {
    const given = values[name];
    if (typeof given === 'string') return given;
    return (accepted.includes(name) ? env[environmentTwin(name)] : undefined) || undefined;
  };
  return {
    values: {
      topology: text('topology'),
      defaultEndpoint: text('default-endpoint'),
      keyPrefix: (text('key-prefix') ?? '/registry').replace(/\/$/u, ''),
      offline: values['offline'] === true,
      help: values['help'] === true,
    },
    positionals,
    isOn: (flag) => values[flag] === true,
    listOf: (flag) =>
      tokens.flatMap((token) => (token.kind === 'option' && token.name === flag ? [token.value ?? ''] : [])),
  };
}

/** The topology that the flags name, or the file where serve would look for it. @throws TopologyError */
export function topologyOf(
  { topology: given, defaultEndpoint }: TopologyFlags,
  { env }: Pick<Io, 'env'>,
  files: 'checked' | 'unchecked',
): Topology {
  const path = given ?? (existsSync(defaultTopologyPath) ? defaultTopologyPath : undefined);
  return loadTopology({
    env,
    files,
    ...(path === undefined ? {} : { path }),
    ...(defaultEndpoint === undefined ? {} : { defaultEndpoint }),
  });
}
