// How much is logged, while the process runs: SIGUSR2 changes between debug and what was asked for at the start, PUT on the metrics port
// (server/http.ts) sets any level. Of several processes one hears it and all follow: a worker tells its supervisor, which tells all
// (workers.ts). Used by serve.ts.

import type { LogControl, LogFormat, LogLevel } from '../lib/log.ts';

/** The options of a logger, which looks at them for each line. */
export interface Logging {
  level: LogLevel;
  readonly format: LogFormat;
}

export class LogSwitch implements LogControl {
  readonly #logging: Logging;
  readonly #atStart: LogLevel;
  readonly #listeners = new Set<(level: LogLevel) => void>();

  constructor(logging: Logging) {
    this.#logging = logging;
    this.#atStart = logging.level;
  }

  get level(): LogLevel {
    return this.#logging.level;
  }

  /** Sets the level here and tells those who listen. */
  change(level: LogLevel): void {
    this.follow(level);
    for (const listener of this.#listeners) listener(level);
  }

  /** Sets the level here, as somebody else has done. */
  follow(level: LogLevel): void {
    this.#logging.level = level;
  }

  onChange(listener: (level: LogLevel) => void): void {
    this.#listeners.add(listener);
  }

  /** What is next: debug, or back to the level of the start; where that is debug itself, info. */
  get toggled(): LogLevel {
    const back = this.#atStart === 'debug' ? 'info' : this.#atStart;
    return this.level === 'debug' ? back : 'debug';
  }
}
