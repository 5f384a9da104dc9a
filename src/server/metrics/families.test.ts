// Figures that are looked up, as text.

import test from 'ava';
import { Registry } from 'prom-client';
import { Histogram } from '../../lib/histogram.ts';
import { counter, gauge, histogram, remembered } from './families.ts';

test('families: what is not known is not told, and what was known does not stay', async (t) => {
  const registry = new Registry();
  let value: number | undefined;
  let stores: readonly string[] = [];
  const one = () => (value === undefined ? [] : [[{}, value] as const]);
  gauge(registry, { name: 'one', help: 'One.', labels: [] }, one);
  counter(registry, { name: 'ones_total', help: 'Ones.', labels: [] }, one);
  const many = () => stores.map((store) => [{ store }, 1] as const);
  gauge(registry, { name: 'many', help: 'Many.', labels: ['store'] }, many);
  const lines = async () => (await registry.metrics()).split('\n').filter((line) => /^[^#]/u.test(line));
  t.deepEqual(await lines(), []);
  value = 3;
  stores = ['a', 'b"\\\n'];
  t.deepEqual(await lines(), [
    'one 3',
    'ones_total 3',
    'many{store="a"} 1',
    String.raw`many{store="b\"\\\n"} 1`,
  ]);
  value = 0;
  stores = ['b'];
  t.deepEqual(await lines(), ['one 0', 'ones_total 0', 'many{store="b"} 1']);
});

test('families: what was looked up serves the families of one text, and not of the next', async (t) => {
  let looks = 0;
  const look = remembered(() => ++looks);
  t.deepEqual([look(), look(), look()], [1, 1, 1]);
  await new Promise((resolve) => setTimeout(resolve, 150));
  t.is(look(), 2);
});

test('families: a histogram adds up its buckets', async (t) => {
  const registry = new Registry();
  const counted = new Histogram([0.5, 1]);
  for (const seconds of [0.1, 0.5, 0.7, 3]) counted.observe(seconds);
  histogram(registry, { name: 'took_seconds', help: 'Took.', labels: ['of'] }, () => [
    [{ of: 'x' }, counted],
  ]);
  t.deepEqual((await registry.metrics()).trim().split('\n'), [
    '# HELP took_seconds Took.',
    '# TYPE took_seconds histogram',
    'took_seconds_bucket{of="x",le="0.5"} 2',
    'took_seconds_bucket{of="x",le="1"} 3',
    'took_seconds_bucket{of="x",le="+Inf"} 4',
    'took_seconds_sum{of="x"} 4.3',
    'took_seconds_count{of="x"} 4',
  ]);
});
