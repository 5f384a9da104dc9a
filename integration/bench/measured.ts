// The measurements of a run, and the medians over its rounds.

import type { Result, Summary } from './client.ts';

/** One scenario on one target in one round. CPU in seconds, memory in MiB. */
export interface Measured {
  readonly keys: number;
  readonly round: number;
  readonly target: string;
  readonly scenario: string;
  readonly result: Result;
  readonly use: Use;
}

/** Of the measured part; undefined: not known. */
export interface Use {
  readonly gatewayCpu?: number;
  readonly databaseCpu?: number;
  readonly gatewayMiB?: number;
  readonly gatewayPeakMiB?: number;
  readonly databaseMiB?: number;
}

/** The middle value, of an even number the mean of the two; undefined of none. */
export function median(values: readonly number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined || sorted.length % 2 === 1) return upper;
  return ((sorted[middle - 1] ?? upper) + upper) / 2;
}

/** What is asked of the measurements. */
export interface Place {
  readonly keys: number;
  readonly target: string;
  readonly scenario: string;
}

/** Medians over the rounds. */
export class Medians {
  readonly #measured: readonly Measured[];

  constructor(measured: readonly Measured[]) {
    this.#measured = measured;
  }

  #at(place: Place): readonly Measured[] {
    return this.#measured.filter(
      ({ keys, target, scenario }) =>
        keys === place.keys && target === place.target && scenario === place.scenario,
    );
  }

  /** Undefined: not measured, or nothing succeeded. */
  figure(place: Place, figure: keyof Summary): number | undefined {
    const succeeded = this.#at(place).filter(({ result }) => result.count > 0);
    return median(succeeded.map(({ result }) => result[figure]));
  }

  use(place: Place, what: keyof Use): number | undefined {
    return median(this.#at(place).flatMap(({ use }) => use[what] ?? []));
  }

  /** CPU seconds a second of measured time. */
  cores(place: Place, what: 'gatewayCpu' | 'databaseCpu' | 'load'): number | undefined {
    return median(
      this.#at(place).flatMap(({ use, result }) => {
        const seconds = what === 'load' ? result.cpu : use[what];
        return seconds === undefined || result.seconds === 0 ? [] : seconds / result.seconds;
      }),
    );
  }

  errors(place: Place): number {
    return this.#at(place).reduce((sum, { result }) => sum + result.errors, 0);
  }
}
