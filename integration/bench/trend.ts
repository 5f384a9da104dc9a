// Whether a figure stays what it is: the straight line through its samples, and how far that line rises.

/** A figure over time. */
export interface Sample {
  /** Seconds since the beginning. */
  readonly at: number;
  readonly value: number;
}

/** The straight line with the least squares. */
export interface Line {
  /** At time 0. */
  readonly start: number;
  /** Per second. */
  readonly slope: number;
}

/** Undefined for fewer than two points in time. */
export function leastSquares(samples: readonly Sample[]): Line | undefined {
  const n = samples.length;
  const mean = (of: (sample: Sample) => number) => samples.reduce((sum, sample) => sum + of(sample), 0) / n;
  const [at, value] = [mean((sample) => sample.at), mean((sample) => sample.value)];
  const spread = samples.reduce((sum, sample) => sum + (sample.at - at) ** 2, 0);
  if (!(spread > 0)) return undefined;
  const together = samples.reduce((sum, sample) => sum + (sample.at - at) * (sample.value - value), 0);
  const slope = together / spread;
  return { start: value - slope * at, slope };
}

/** How a figure did in the second half of its samples. */
export interface Trend {
  readonly mean: number;
  /** Of the line from the beginning of the second half to its end, as a part of the mean. */
  readonly growth: number;
  readonly bound: number;
  /** It does not grow by more than the bound; that it falls is no fault. */
  readonly flat: boolean;
}

/** Undefined when there are too few samples. `bound` is a part of the mean. */
export function trendOf(samples: readonly Sample[], bound: number): Trend | undefined {
  const half = samples.slice(samples.length >> 1);
  const line = leastSquares(half);
  const [first, last] = [half[0], half.at(-1)];
  if (line === undefined || first === undefined || last === undefined) return undefined;
  const mean = half.reduce((sum, { value }) => sum + value, 0) / half.length;
  const growth = mean === 0 ? 0 : (line.slope * (last.at - first.at)) / mean;
  return { mean, growth, bound, flat: growth <= bound };
}
