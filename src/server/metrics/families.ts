// Metrics whose figures are looked up when somebody asks for them: nothing is kept here, so nothing that is counted pays for its name
// and labels. Used by the other files of this folder. Labels are names of stores, methods, statements and the like: never a key, a
// value or an address.

import { Counter, Gauge, type Metric, type Registry } from 'prom-client';
import type { Histogram } from '../../lib/histogram.ts';

/** By name. */
export type Labels<L extends string> = Readonly<Record<L, string>>;

export interface Family<L extends string> {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly L[];
}

/** Figures with their labels. */
export type Samples<L extends string, T = number> = Iterable<readonly [Labels<L>, T]>;

/** What was found this long ago serves the next family too. */
const freshForMs = 100;

/** `look`, so that all families of a text see the same, mostly: to look costs. */
export function remembered<T>(look: () => T): () => T {
  let found: { readonly value: T; readonly at: number } | undefined;
  return () => {
    const now = performance.now();
    if (found === undefined || now - found.at >= freshForMs) found = { value: look(), at: now };
    return found.value;
  };
}

/** Figures that only grow. */
export function counter<L extends string>(
  registry: Registry,
  { name, help, labels }: Family<L>,
  samples: () => Samples<L>,
): void {
  new Counter({
    name,
    help,
    labelNames: labels,
    registers: [registry],
    collect() {
      this.reset();
      // Without labels it would begin as a zero, which is a figure too.
      if (labels.length === 0) this.remove();
      for (const [values, value] of samples()) this.inc(values, value);
    },
  });
}

/** Figures as they are now. */
export function gauge<L extends string>(
  registry: Registry,
  { name, help, labels }: Family<L>,
  samples: () => Samples<L>,
): void {
  new Gauge({
    name,
    help,
    labelNames: labels,
    registers: [registry],
    collect() {
      this.reset();
      // Without labels it would begin as a zero, which is a figure too.
      if (labels.length === 0) this.remove();
      for (const [values, value] of samples()) this.set(values, value);
    },
  });
}

/** Observations that were counted elsewhere. */
export function histogram<L extends string>(
  registry: Registry,
  { name, help }: Family<L>,
  samples: () => Samples<L, Histogram>,
): void {
  const get = async () => ({
    name,
    help,
    type: 'histogram',
    aggregator: 'sum',
    values: [...samples()].flatMap(([labels, counted]) => lines(name, labels, counted)),
  });
  // The registry asks a metric for no more than this; the package's own histogram takes single observations only.
  registry.registerMetric({ name, get } as unknown as Metric);
}

function lines<L extends string>(name: string, labels: Labels<L>, { bounds, counts, sum, count }: Histogram) {
  let below = 0;
  const buckets = bounds.map((bound, index) => {
    below += counts[index]!;
    return { metricName: `${name}_bucket`, labels: { ...labels, le: String(bound) }, value: below };
  });
  return [
    ...buckets,
    { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: count },
    { metricName: `${name}_sum`, labels, value: sum },
    { metricName: `${name}_count`, labels, value: count },
  ];
}
