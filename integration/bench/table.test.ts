// Verdicts and tables.

import test from 'ava';
import { flatness, verdict } from './budgets.ts';
import { Medians, type Measured } from './measured.ts';
import { scenarios } from './scenarios.ts';
import { asMarkdown, asText, shown, tablesOf } from './table.ts';

const update = (target: string) => ({ scenario: 'update-64', figure: 'rate', target }) as const;

test('budgets: an update rate needs both kine and etcd', (t) => {
  t.true(verdict(update('postgres'), { own: 5000, kine: 400, etcd: 4000 })?.met);
  t.false(verdict(update('postgres'), { own: 3000, kine: 400, etcd: 2000 })?.met);
  t.false(verdict(update('postgres'), { own: 5000, kine: 400, etcd: 6000 })?.met);
});

test('budgets: SQLite has a smaller factor, and a variant the budget of its engine', (t) => {
  t.true(verdict(update('sqlite'), { own: 3000, kine: 1000, etcd: 2000 })?.met);
  t.false(verdict(update('mysql@base'), { own: 3000, kine: 1000, etcd: 2000 })?.met);
});

test('budgets: without a peer there is no verdict, unless the other one decides it', (t) => {
  const unknown = verdict(update('postgres'), { own: 5000, kine: undefined, etcd: 4000 });
  t.is(unknown?.met, undefined);
  t.false(verdict(update('postgres'), { own: 5000, kine: undefined, etcd: 6000 })?.met);
});

test('budgets: peers and unnamed figures have none', (t) => {
  t.is(verdict(update('through-etcd'), { own: 1, kine: 1, etcd: 1 })?.text, '> 0.5 × etcd');
  t.is(
    verdict({ scenario: 'mixed', figure: 'rate', target: 'sqlite' }, { own: 1, kine: 1, etcd: 1 }),
    undefined,
  );
});

test('budgets: flat is no more than twice as slow', (t) => {
  t.true(flatness(4, 8).met);
  t.false(flatness(4, 8.1).met);
  t.is(flatness(undefined, 8).met, undefined);
});

test('table: numbers keep three digits', (t) => {
  t.deepEqual([1234.5, 12.34, 1.234, 0.1234, undefined].map(shown), ['1235', '12.3', '1.23', '0.123', '-']);
});

const measured = (target: string, rate: number, errors = 0): Measured => ({
  keys: 1000,
  round: 1,
  target,
  scenario: 'update-64',
  result: { count: 1, rate, p50: 1, p99: 2, max: 3, conflicts: 0, errors, seconds: 1, cpu: 0 },
  use: {},
});

test('table: one engine beside etcd and its kine, with ratios and the verdict', (t) => {
  const targets = ['etcd', 'kine-postgres', 'postgres', 'kine-sqlite'];
  const rates = [4000, 500, 5000, 1];
  const [table, ...others] = tablesOf({
    medians: new Medians(
      targets.map((target, index) => measured(target, rates[index]!, index === 1 ? 3 : 0)),
    ),
    scenarios: scenarios.filter(({ name }) => name === 'update-64'),
    targets,
    keys: [1000],
  });
  t.deepEqual(table?.rows[1], [
    'update of any key, 64 clients: rate /s',
    '4000',
    '500 (3 errors)',
    '5000',
    '1.25 ×',
    '10.0 ×',
    '≥ 10 × kine, ≥ etcd: met',
  ]);
  t.true(others.some(({ title }) => title.startsWith('SQLite')));
});

test('table: as text in columns, as markdown with escaped bars', (t) => {
  const table = {
    title: 'T',
    rows: [
      ['', 'a'],
      ['long | name', '1'],
    ],
  };
  t.is(asText(table), 'T\n             a\nlong | name  1');
  t.is(asMarkdown(table), '### T\n\n|  | a |\n| --- | ---: |\n| long · name | 1 |\n');
});
