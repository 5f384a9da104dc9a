// The flags that validate and explain share, with the same environment twins as those of serve.

import { parseArgs } from 'node:util';
import { environmentTwin, UsageError } from '../config.ts';

export interface TopologyFlags {
  readonly topology: string | undefined;
  readonly defaultEndpoint: string | undefined;
  readonly keyPrefix: string;
  readonly offline: boolean;
  readonly help: boolean;
}

type TextFlag = 'topology' | 'default-endpoint' | 'key-prefix';
type Flag = TextFlag | 'offline';

/** Reads the flags named in `accepted`. @throws UsageError */
export function readArguments(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  accepted: readonly Flag[],
): { readonly values: TopologyFlags; readonly positionals: readonly string[] } {
  const known = accepted.map((name) => [name, { type: name === 'offline' ? 'boolean' : 'string' }] as const);
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
    else if (name !== 'offline' && (token.value === undefined || token.value === ''))
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
  };
}
