// Failed calls that repeat are counted instead of written.

import test from 'ava';
import type { Clock } from '../lib/clock.ts';
import { createLogger } from '../lib/log.ts';
import { FailureLog } from './failure-log.ts';

/** Time stands still until `pass`. */
function scene() {
  let sleepers: (() => void)[] = [];
  const clock: Clock = {
    now: () => 0,
    sleep: () => new Promise((resolve) => sleepers.push(resolve)),
  };
  /** The quiet time of every line is over. */
  const pass = async () => {
    const woken = sleepers;
    sleepers = [];
    for (const wake of woken) wake();
    await new Promise(setImmediate);
  };
  const lines: { error: string; repeats?: number }[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line) as (typeof lines)[number]);
  const log = new FailureLog({ logger: createLogger({ level: 'debug', format: 'json', write }), clock });
  const fail = (text: string, level: 'debug' | 'warn' = 'warn') =>
    log.failed(level, { request: 'r', method: '/KV/Range', code: 14, error: new Error(text) });
  return { log, fail, pass, lines, sleeping: () => sleepers.length };
}

test('a failure that repeats is written once and then as a count', async (t) => {
  const { fail, pass, lines, sleeping } = scene();
  for (let n = 0; n < 100; n++) fail('away');
  fail('other');
  t.deepEqual(
    lines.map(({ error }) => error),
    ['away', 'other'],
  );
  await pass();
  t.is(lines.length, 3);
  t.like(lines[2], { error: 'away', repeats: 99 });
  fail('away');
  t.is(lines.length, 3);
  await pass();
  t.like(lines[3], { error: 'away', repeats: 1 });
  await pass();
  t.is(sleeping(), 0);
  fail('away');
  t.is(lines.length, 5);
  t.is(lines[4]!.repeats, undefined);
});

test('what was counted is told at the end', (t) => {
  const { log, fail, lines } = scene();
  fail('away');
  fail('away');
  log.flush();
  log.flush();
  t.is(lines.length, 2);
  t.is(lines[1]!.repeats, 1);
});

test('ever new texts do not take ever more memory', (t) => {
  const { fail, lines, sleeping } = scene();
  for (let n = 0; n < 2_000; n++) fail(`failure ${n}`);
  t.is(sleeping(), 501);
  t.is(lines.length, 501);
});

test('lines for debugging are all written', (t) => {
  const { fail, lines } = scene();
  fail('bad request', 'debug');
  fail('bad request', 'debug');
  t.is(lines.length, 2);
});
