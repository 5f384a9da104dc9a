// The log lines of failed calls. Clients try again many times a second while a store is away, so a line that repeats is
// written once and then counted. Used by call.ts.

import type { Clock } from '../lib/clock.ts';
import { errorText, type Logger } from '../lib/log.ts';

/** A line that repeats is written again at most this often. */
const quietMs = 10_000;
/** Different lines remembered; beyond it, failures of a method with the same code count as the same line. */
const linesMax = 500;

export type FailureLevel = 'debug' | 'warn' | 'error';

export interface Failure {
  /** Its id. */
  readonly request: string;
  readonly method: string;
  readonly code: number;
  readonly error: unknown;
}

interface Line {
  readonly level: FailureLevel;
  latest: Failure;
  /** Since the line was last written. */
  repeats: number;
}

/** Writes failures, repeated ones as a count. Lines for debugging are all written. */
export class FailureLog {
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #lines = new Map<string, Line>();

  constructor(options: { readonly logger: Logger; readonly clock: Clock }) {
    this.#logger = options.logger;
    this.#clock = options.clock;
  }

  failed(level: FailureLevel, failure: Failure): void {
    if (level === 'debug') return this.#write(level, failure);
    const { method, code, error } = failure;
    const text = error instanceof Error ? errorText(error) : String(error);
    const exact = `${method}\n${code}\n${text}`;
    const key = this.#lines.has(exact) || this.#lines.size < linesMax ? exact : `${method}\n${code}`;
    const line = this.#lines.get(key);
    if (line !== undefined) {
      line.repeats++;
      line.latest = failure;
      return;
    }
    this.#write(level, failure);
    const fresh: Line = { level, latest: failure, repeats: 0 };
    this.#lines.set(key, fresh);
    void this.#follow(key, fresh);
  }

  /** Writes what was counted and not yet told. */
  flush(): void {
    for (const line of this.#lines.values()) this.#tell(line);
  }

  /** Until the line has been quiet for as long as it may be. */
  async #follow(key: string, line: Line): Promise<void> {
    do await this.#clock.sleep(quietMs);
    while (this.#tell(line));
    this.#lines.delete(key);
  }

  #tell(line: Line): boolean {
    const { level, latest, repeats } = line;
    if (repeats === 0) return false;
    line.repeats = 0;
    this.#write(level, latest, { repeats });
    return true;
  }

  #write(level: FailureLevel, failure: Failure, more: { readonly repeats?: number } = {}): void {
    this.#logger[level]('call failed', { ...failure, ...more });
  }
}
