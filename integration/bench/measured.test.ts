// Medians over rounds.

import test from 'ava';
import type { Result } from './client.ts';
import { median, Medians, type Measured } from './measured.ts';

const result = (rate: number, more: Partial<Result> = {}): Result => ({
  count: 10,
  rate,
  p50: 1,
  p99: 2,
  max: 3,
  conflicts: 0,
  errors: 0,
  seconds: 2,
  cpu: 1,
  ...more,
});

const measured = (round: number, of: Result, gatewayCpu?: number): Measured => ({
  keys: 1000,
  round,
  target: 'etcd',
  scenario: 'get-1',
  result: of,
  use: gatewayCpu === undefined ? {} : { gatewayCpu },
});

const place = { keys: 1000, target: 'etcd', scenario: 'get-1' };

test('medians: the middle of an odd number, the mean of the two of an even one', (t) => {
  t.is(median([30, 1, 2]), 2);
  t.is(median([4, 1, 2, 30]), 3);
  t.is(median([]), undefined);
});

test('medians: over the rounds of one place only', (t) => {
  const other = { ...measured(1, result(1000)), target: 'postgres' };
  const medians = new Medians([1, 5, 3].map((rate, round) => measured(round, result(rate))).concat(other));
  t.is(medians.figure(place, 'rate'), 3);
  t.is(medians.figure({ ...place, keys: 2000 }, 'rate'), undefined);
});

test('medians: a round in which nothing succeeded has errors and no figure', (t) => {
  const failed = result(0, { count: 0, errors: 4, p50: 0 });
  const medians = new Medians([measured(1, failed), measured(2, result(7))]);
  t.is(medians.figure(place, 'rate'), 7);
  t.is(medians.errors(place), 4);
});

test('medians: cores are CPU seconds a second', (t) => {
  const medians = new Medians([measured(1, result(1), 3)]);
  t.is(medians.cores(place, 'gatewayCpu'), 1.5);
  t.is(medians.cores(place, 'load'), 0.5);
  t.is(medians.cores(place, 'databaseCpu'), undefined);
});
