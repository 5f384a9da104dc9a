// Lines about what took a database long: the names of the statements, how long, how many rows; never their values. The text of a
// statement is the same for all values, and is found by its name in the sources. Listens to the stores.

import type { Clock } from '../lib/clock.ts';
import { LineBudget } from '../lib/line-budget.ts';
import type { Logger } from '../lib/log.ts';
import type { Observer, StatementEnd } from '../lib/observer.ts';
import { workForNobody } from '../lib/work.ts';

/** Lines in a while, of each store. */
const linesMax = 20;
const perMs = 10_000;

export interface SlowStatementsOptions {
  readonly logger: Logger;
  readonly clock: Clock;
  /** What took as long as this, in milliseconds, is told. */
  readonly atLeastMs: number;
}

export class SlowStatements implements Observer {
  readonly #options: SlowStatementsOptions;
  readonly #budgets = new Map<string, LineBudget>();

  constructor(options: SlowStatementsOptions) {
    this.#options = options;
  }

  /** See Observer. The line names the requests that it was for. */
  statement({ store, name, statements, startedAt, endedAt, rows, fault }: StatementEnd): void {
    const ms = endedAt - startedAt;
    if (ms < this.#options.atLeastMs) return;
    if (!workForNobody(() => this.#budgetOf(store).take())) return;
    this.#options.logger.warn('slow statement', {
      store,
      statement: name,
      ...(statements.length > 1 ? { with: statements.slice(1).map((statement) => statement.name) } : {}),
      ms: Math.round(ms * 10) / 10,
      ...(rows === undefined ? {} : { rows }),
      ...(fault === undefined ? {} : { fault }),
    });
  }

  /** Tells what was left out and not yet told. */
  flush(): void {
    for (const budget of this.#budgets.values()) budget.flush();
  }

  #budgetOf(store: string): LineBudget {
    let budget = this.#budgets.get(store);
    if (budget === undefined) {
      const { clock, logger } = this.#options;
      const leftOut = (lines: number) =>
        logger.warn('more slow statements are not told one by one', { store, lines });
      budget = new LineBudget({ clock, linesMax, perMs, leftOut });
      this.#budgets.set(store, budget);
    }
    return budget;
  }
}
