// From an engine's errors to faults: what kind, and whether the work may be done all the same. Used by everything that talks to an
// engine.

import { SqlFault, type SqlFaultKind } from './dialect.ts';

/** Errors after which the server may have committed although the client saw a failure. */
const uncertain: ReadonlySet<SqlFaultKind> = new Set(['disconnected', 'timeout', 'other']);

/** What failed. */
export type Doing = 'connect' | 'read' | 'write' | 'commit' | 'script';

interface Classifying {
  readonly classify: (error: unknown) => SqlFaultKind;
  /** An error's text without what it quotes of rows, where the engine does that; texts go into the log. */
  readonly withoutValues?: (text: string) => string;
}

/** The classified form of any error; a SqlFault passes unchanged. */
export function toFault(engine: Classifying, error: unknown, doing: Doing): SqlFault {
  if (error instanceof SqlFault) return error;
  const kind = engine.classify(error);
  const outcomeUnknown =
    doing === 'commit' || doing === 'script'
      ? uncertain.has(kind)
      : doing === 'write' && (kind === 'disconnected' || kind === 'timeout');
  const said = messageOf(error);
  const text = engine.withoutValues?.(said) ?? said;
  return new SqlFault(kind, text, { outcomeUnknown, ...(text === said ? { cause: error } : {}) });
}

/** The text of an error. An AggregateError (every address refused) has none of its own. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.message !== '') return error.message;
  if (error instanceof AggregateError && error.errors.length > 0)
    return error.errors.map(messageOf).join('; ');
  return 'code' in error ? String(error.code) : error.name;
}
