// The flags of the benchmark.

import test from 'ava';
import { resolve } from 'node:path';
import { parse, type Options } from './options.ts';

const parsed = (...args: string[]) => parse(args) as Options;
const problem = (...args: string[]) => (parse(args) as { problem?: string }).problem;

test('options: lists of keys and scenarios, a name without its number for all of them', (t) => {
  const options = parsed('--keys', '10000,1000000', '--scenarios', 'update,page');
  t.deepEqual(options.keys, [10_000, 1_000_000]);
  t.deepEqual(
    options.scenarios.map(({ name }) => name),
    ['update-1', 'update-16', 'update-64', 'page'],
  );
});

test('options: another checkout with flags, and a running server whose URL has an equals sign', (t) => {
  const options = parsed(
    '--switchyard',
    'b=../x --a 1',
    '--switchyard',
    'c=/y',
    '--target',
    'm=http://h:1?a=b',
  );
  t.deepEqual(options.variants, [
    { name: 'b', checkout: resolve('../x'), flags: ['--a', '1'] },
    { name: 'c', checkout: '/y', flags: [] },
  ]);
  t.deepEqual(options.given, [{ name: 'm', url: 'http://h:1?a=b' }]);
});

test('options: what is wrong is said', (t) => {
  t.is(problem('--rounds', 'x'), 'Expected a number above 0 for --rounds, got x');
  t.true(problem('--keys', '10')?.startsWith('Expected whole numbers from 1000 on for --keys'));
  t.true(problem('--only', 'oracle')?.endsWith('got oracle'));
  t.is(problem('--scenarios', 'fly'), 'Expected names of scenarios for --scenarios, got fly');
  t.is(problem('--target', 'here'), 'Expected NAME=… for --switchyard and --target');
  t.truthy(problem('--nonsense'));
});

test('options: no targets but the given ones', (t) => {
  t.deepEqual(parsed('--only', 'none', '--target', 'm=http://h:1').only, []);
});
