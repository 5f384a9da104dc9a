// Durations in Go's notation and in plain seconds.

import test from 'ava';
import { parseDuration } from './duration.ts';

const durations: readonly [string, number][] = [
  ['10m', 600_000],
  ['5s', 5_000],
  ['1m30s', 90_000],
  ['100ms', 100],
  ['1h15m30.918s', 4_530_918],
  ['1.5h', 5_400_000],
  ['.5s', 500],
  ['5.s', 5_000],
  ['250us', 0.25],
  ['250µs', 0.25],
  ['250μs', 0.25],
  ['0', 0],
  ['0s', 0],
  ['600', 600_000],
  ['2.5', 2_500],
];

for (const [text, expected] of durations) {
  test(`duration: ${text} is ${expected} ms`, (t) => t.is(parseDuration(text), expected));
}

for (const text of [
  '',
  'soon',
  '5 s',
  's',
  '5x',
  '-5s',
  '1m30',
  '30s1',
  '1e3',
  '1d',
  '.s',
  '5s,',
  'Infinity',
]) {
  test(`duration: ${text === '' ? 'nothing' : text} is none`, (t) => t.is(parseDuration(text), undefined));
}
