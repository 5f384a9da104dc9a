// Observations counted in buckets: latencies, sizes. To count one costs a few comparisons and no memory, so it may stand in the way
// of every request; whoever shows the figures reads them when somebody asks (server/metrics/).

/** Upper bounds for latencies, in seconds. */
export const latencyBounds = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
] as const;

/** Upper bounds for how many went together, up to some hundred. */
export const countBounds = [1, 2, 4, 8, 16, 32, 64, 128, 256] as const;

export class Histogram {
  /** Upper bounds of the buckets, each included, in ascending order. */
  readonly bounds: readonly number[];
  /** How many fell into each bucket and no lower one; the last is for what is above every bound. */
  readonly counts: number[];
  sum = 0;
  count = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(value: number): void {
    const { bounds } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]!) bucket++;
    this.counts[bucket]!++;
    this.sum += value;
    this.count++;
  }
}
