// What the project wants to reach, as rules over the medians of one run.

import type { Summary } from './client.ts';

/** The figures that a rule compares. */
export interface Figures {
  readonly own: number;
  readonly kine: number | undefined;
  readonly etcd: number | undefined;
}

/** `met` is undefined where a peer was not measured in the same run. */
export interface Verdict {
  readonly text: string;
  readonly met: boolean | undefined;
}

interface Budget {
  readonly scenario: string;
  readonly figure: keyof Summary;
  /** Only on these targets. */
  readonly targets?: readonly string[];
  readonly text: (target: string) => string;
  readonly met: (figures: Figures, target: string) => boolean | undefined;
}

const sql = ['postgres', 'mysql', 'sqlite'];

const atLeast = (own: number, factor: number, peer: number | undefined) =>
  peer === undefined ? undefined : own >= factor * peer;

const both = (a: boolean | undefined, b: boolean | undefined) =>
  a === false || b === false ? false : a === undefined || b === undefined ? undefined : true;

const updateFactor = (target: string) => (target === 'sqlite' ? 3 : 10);

/** Absolute bounds in milliseconds. */
const within = (
  scenario: string,
  figure: keyof Summary,
  ms: number,
  targets: readonly string[] = sql,
): Budget => ({
  scenario,
  figure,
  targets,
  text: () => `< ${ms} ms`,
  met: ({ own }) => own < ms,
});

const through = (scenario: string): readonly Budget[] => [
  {
    scenario: `${scenario}-1`,
    figure: 'p50',
    targets: ['through-etcd'],
    text: () => '< etcd + 0.4 ms',
    met: ({ own, etcd }) => (etcd === undefined ? undefined : own < etcd + 0.4),
  },
  {
    scenario: `${scenario}-64`,
    figure: 'rate',
    targets: ['through-etcd'],
    text: () => '> 0.5 × etcd',
    met: ({ own, etcd }) => (etcd === undefined ? undefined : own > 0.5 * etcd),
  },
];

const budgets: readonly Budget[] = [
  {
    scenario: 'update-64',
    figure: 'rate',
    targets: sql,
    text: (target) => `≥ ${updateFactor(target)} × kine, ≥ etcd`,
    met: ({ own, kine, etcd }, target) =>
      both(atLeast(own, updateFactor(target), kine), atLeast(own, 1, etcd)),
  },
  {
    scenario: 'hot',
    figure: 'rate',
    targets: sql,
    text: () => '≥ 5 × kine, ≥ etcd',
    met: ({ own, kine, etcd }) => both(atLeast(own, 5, kine), atLeast(own, 1, etcd)),
  },
  {
    scenario: 'update-1',
    figure: 'p50',
    targets: sql,
    text: () => '≤ kine',
    met: ({ own, kine }) => (kine === undefined ? undefined : own <= kine),
  },
  {
    scenario: 'get-64',
    figure: 'rate',
    targets: ['postgres'],
    text: () => '≥ 3 × kine',
    met: ({ own, kine }) => atLeast(own, 3, kine),
  },
  within('page', 'p50', 10),
  within('continue', 'p50', 10),
  within('count', 'p50', 1),
  within('count-past', 'p50', 1),
  within('delivery-1', 'p99', 5),
  within('delivery-other-1', 'p99', 20),
  within('progress', 'p50', 5),
  within('progress-after-write', 'p50', 5),
  {
    scenario: 'fan-out',
    figure: 'rate',
    targets: sql,
    text: () => '≥ etcd',
    met: ({ own, etcd }) => atLeast(own, 1, etcd),
  },
  ...through('get'),
  ...through('update'),
];

/** Undefined: there is no budget for this figure of this target. */
export function verdict(
  place: { readonly scenario: string; readonly figure: keyof Summary; readonly target: string },
  figures: Figures,
): Verdict | undefined {
  const target = place.target.replace(/@.*/u, '');
  const budget = budgets.find(
    ({ scenario, figure, targets }) =>
      scenario === place.scenario && figure === place.figure && targets?.includes(target) !== false,
  );
  return budget === undefined ? undefined : { text: budget.text(target), met: budget.met(figures, target) };
}

/** A page may cost so much more with many keys than with few. */
const flatFactor = 2;

/** Whether a figure stays what it is from the fewest keys to the most. */
export function flatness(few: number | undefined, most: number | undefined): Verdict {
  const text = `≤ ${flatFactor} × from fewest to most keys`;
  return { text, met: few === undefined || most === undefined ? undefined : most <= flatFactor * few };
}
