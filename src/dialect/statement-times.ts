// How long the statements of one driver take and how they end, by name. Used by loan.ts. What goes to the database in one piece counts
// under its first statement.

import type { SqlFaultKind } from './dialect.ts';
import { Histogram, latencyBounds } from '../lib/histogram.ts';

/** `canceled`: nobody waited for it any more. */
export type StatementOutcome = 'ok' | 'canceled' | SqlFaultKind;

/** The executions of one. */
class Times {
  readonly seconds = new Histogram(latencyBounds);
  readonly outcomes = new Map<StatementOutcome, number>();
}

/** All statements. Names are constants of the code, so they are few. */
export class StatementTimes {
  readonly byName = new Map<string, Times>();

  /** One has ended. */
  ended(name: string, outcome: StatementOutcome, tookMs: number): void {
    let times = this.byName.get(name);
    if (times === undefined) this.byName.set(name, (times = new Times()));
    times.seconds.observe(tookMs / 1000);
    times.outcomes.set(outcome, (times.outcomes.get(outcome) ?? 0) + 1);
  }
}
