// The flags about what a running switchyard tells of itself. Used by config.ts.

import type { LogFormat, LogLevel } from './lib/log.ts';
import { logLevels } from './lib/log.ts';

/** What is told, and how much. */
export interface ObserveSettings {
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  /** Milliseconds: what takes as long is logged; infinite: nothing is. */
  readonly slowRequestsMs: number;
  readonly slowStatementsMs: number;
}

export const observeFlags = [
  {
    name: 'log-level',
    value: 'text',
    placeholder: 'LEVEL',
    default: 'info',
    help: 'debug, info, warn or error; SIGUSR2 turns debug on and off',
  },
  {
    name: 'log-format',
    value: 'text',
    placeholder: 'FORMAT',
    help: 'json or text (default: text on a terminal, else json)',
  },
  {
    name: 'log-slow-requests',
    value: 'text',
    placeholder: 'DURATION',
    default: '500ms',
    help: 'log requests that take as long, and where the time went; 0: none',
  },
  {
    name: 'log-slow-statements',
    value: 'text',
    placeholder: 'DURATION',
    default: '500ms',
    help: 'log what takes a database as long; 0: nothing',
  },
] as const;

type FlagName = (typeof observeFlags)[number]['name'];

/** What is read from. */
interface FlagReader {
  oneOf<T extends string>(name: FlagName, choices: readonly T[], fallback: T): T;
  duration(name: FlagName, options: { readonly zero?: number; readonly zeroMeans?: string }): number;
}

const never = { zero: Number.POSITIVE_INFINITY, zeroMeans: 'none' };

/** Reads the flags above. `logsTo`: where the log goes when nobody says how it is to look. */
export function readObserve(
  reader: FlagReader,
  { logsTo }: { readonly logsTo: 'terminal' | 'elsewhere' },
): ObserveSettings {
  return {
    logLevel: reader.oneOf<LogLevel>('log-level', logLevels, 'info'),
    logFormat: reader.oneOf<LogFormat>(
      'log-format',
      ['json', 'text'],
      logsTo === 'terminal' ? 'text' : 'json',
    ),
    slowRequestsMs: reader.duration('log-slow-requests', never),
    slowStatementsMs: reader.duration('log-slow-statements', never),
  };
}
