// A bound on lines of one kind in the log: the first ones of a while are written, the rest is counted and told at its end. What is slow is
// mostly slow for all at once, and must not be made slower by telling of it.

import type { Clock } from './clock.ts';

export interface LineBudgetOptions {
  readonly clock: Clock;
  /** Lines in `perMs` milliseconds. */
  readonly linesMax: number;
  readonly perMs: number;
  /** So many lines were left out, in about `perMs`. */
  readonly leftOut: (lines: number) => void;
}

export class LineBudget {
  readonly #options: LineBudgetOptions;
  #written = 0;
  #leftOut = 0;
  #running = false;

  constructor(options: LineBudgetOptions) {
    this.#options = options;
  }

  /** Whether a line may be written now; else it is counted. */
  take(): boolean {
    if (!this.#running) void this.#run();
    if (this.#written < this.#options.linesMax) {
      this.#written++;
      return true;
    }
    this.#leftOut++;
    return false;
  }

  /** Tells what was left out and not yet told. */
  flush(): void {
    const lines = this.#leftOut;
    this.#leftOut = 0;
    if (lines > 0) this.#options.leftOut(lines);
  }

  /** Until there is a while without a line. */
  async #run(): Promise<void> {
    this.#running = true;
    do {
      this.#written = 0;
      await this.#options.clock.sleep(this.#options.perMs);
      this.flush();
    } while (this.#written > 0);
    this.#running = false;
  }
}
