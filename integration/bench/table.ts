// The medians of a run as tables: one for each engine, with etcd, its kine and every switchyard on it side by side.

import { flatness, verdict, type Verdict } from './budgets.ts';
import type { Medians } from './measured.ts';
import { unitOf, type Scenario } from './scenarios.ts';

/** A heading and rows of cells, the first row being the head. */
export interface Table {
  readonly title: string;
  readonly rows: readonly (readonly string[])[];
}

/** What the tables are made of. */
export interface Run {
  readonly medians: Medians;
  readonly scenarios: readonly Scenario[];
  readonly targets: readonly string[];
  readonly keys: readonly number[];
}

/** Three digits that mean something. */
export function shown(value: number | undefined): string {
  if (value === undefined) return '-';
  if (value >= 100) return value.toFixed(0);
  if (value >= 10) return value.toFixed(1);
  return value.toFixed(value >= 1 ? 2 : 3);
}

const judged = (found: Verdict | undefined) =>
  found === undefined
    ? ''
    : `${found.text}: ${found.met === undefined ? 'not compared' : found.met ? 'met' : 'NOT MET'}`;

const ratio = (own: number | undefined, other: number | undefined) =>
  own === undefined || other === undefined || other === 0 ? '-' : `${shown(own / other)} ×`;

const engineOf = (target: string) => target.replace(/^kine-/u, '').replace(/@.*/u, '');

const titleOf = {
  postgres: 'PostgreSQL',
  mysql: 'MariaDB',
  sqlite: 'SQLite',
  'through-etcd': 'Through to etcd',
};

function titled(engine: string): string {
  return engine in titleOf ? titleOf[engine as keyof typeof titleOf] : engine;
}

/** The columns of one engine: etcd first, then its kine, then every switchyard. */
function columnsOf(engine: string, targets: readonly string[]): readonly string[] {
  const mine = targets.filter((target) => engineOf(target) === engine);
  const first = ['etcd', `kine-${engine}`].filter((name) => targets.includes(name) && name !== engine);
  return [...first, ...mine.filter((name) => !first.includes(name))];
}

function engineTable(run: Run, engine: string, keys: number): Table {
  const columns = columnsOf(engine, run.targets);
  const own = columns.find((name) => name === engine) ?? columns.at(-1)!;
  const others = columns.filter((name) => name !== own);
  const rows = run.scenarios.flatMap(({ name, title, shown: figures }) =>
    figures.map((figure) => {
      const of = (target: string) => run.medians.figure({ keys, target, scenario: name }, figure);
      const at = (target: string) => {
        const errors = run.medians.errors({ keys, target, scenario: name });
        return `${shown(of(target))}${errors > 0 && figure === figures[0] ? ` (${errors} errors)` : ''}`;
      };
      const value = of(own);
      const kine = of(`kine-${engine}`);
      const found =
        value === undefined
          ? undefined
          : verdict({ scenario: name, figure, target: own }, { own: value, kine, etcd: of('etcd') });
      return [
        `${title}: ${figure} ${unitOf[figure]}`,
        ...columns.map(at),
        ...others.map((other) => ratio(value, of(other))),
        judged(found),
      ];
    }),
  );
  const measured = rows.filter((row) => row.slice(1, 1 + columns.length).some((cell) => cell !== '-'));
  const head = ['', ...columns, ...others.map((other) => `${own} / ${other}`), 'budget'];
  return { title: `${titled(engine)}, ${keys} keys`, rows: [head, ...measured] };
}

/** CPU and memory of one engine's targets: gateway + database, in cores and MiB. */
function useTable(run: Run, engine: string, keys: number): Table {
  const columns = columnsOf(engine, run.targets);
  const rows = run.scenarios.map(({ name, title }) => [
    title,
    ...columns.map((target) => {
      const place = { keys, target, scenario: name };
      const cores = (['gatewayCpu', 'databaseCpu', 'load'] as const).map((what) =>
        shown(run.medians.cores(place, what)),
      );
      const memory = (['gatewayPeakMiB', 'databaseMiB'] as const).map((what) => {
        const value = run.medians.use(place, what);
        return value === undefined || value === 0 ? '-' : value.toFixed(0);
      });
      return `${cores.join(' ')} | ${memory.join(' ')}`;
    }),
  ]);
  const head = ['cores of gateway, database, load | MiB of gateway (peak), database', ...columns];
  return { title: `${titled(engine)}, ${keys} keys: CPU and memory`, rows: [head, ...rows] };
}

/** How figures that must not depend on the number of keys do. */
function growthTable(run: Run): Table | undefined {
  const [few, most] = [Math.min(...run.keys), Math.max(...run.keys)];
  const scenarios = run.scenarios.filter(({ name }) =>
    ['page', 'continue', 'count', 'count-past', 'get-1', 'update-1'].includes(name),
  );
  if (few === most || scenarios.length === 0) return undefined;
  const rows = scenarios.flatMap(({ name, title }) =>
    run.targets.map((target) => {
      const at = (keys: number) => run.medians.figure({ keys, target, scenario: name }, 'p50');
      const own = !/^(?:etcd|kine-)/u.test(target) && name === 'page';
      return [
        `${title}, ${target}: p50 ms`,
        ...run.keys.map((keys) => shown(at(keys))),
        own ? judged(flatness(at(few), at(most))) : '',
      ];
    }),
  );
  return { title: 'With the number of keys', rows: [['', ...run.keys.map(String), 'budget'], ...rows] };
}

/** Every table of a run. */
export function tablesOf(run: Run): readonly Table[] {
  const engines = [...new Set(run.targets.map(engineOf))];
  const shownEngines = engines.length === 1 ? engines : engines.filter((engine) => engine !== 'etcd');
  const tables = run.keys.flatMap((keys) =>
    shownEngines.flatMap((engine) => [engineTable(run, engine, keys), useTable(run, engine, keys)]),
  );
  const growth = growthTable(run);
  return growth === undefined ? tables : [...tables, growth];
}

/** For a terminal: columns in line. */
export function asText({ title, rows }: Table): string {
  const widths = rows[0]!.map((_, index) => Math.max(...rows.map((row) => row[index]?.length ?? 0)));
  const last = widths.length - 1;
  const line = (row: readonly string[]) =>
    row
      .map((cell, index) =>
        index === 0 || index === last ? cell.padEnd(widths[index]!) : cell.padStart(widths[index]!),
      )
      .join('  ')
      .trimEnd();
  return [title, ...rows.map(line)].join('\n');
}

/** For a document. */
export function asMarkdown({ title, rows }: Table): string {
  const [head = [], ...rest] = rows;
  const line = (row: readonly string[]) => `| ${row.map((cell) => cell.replaceAll('|', '·')).join(' | ')} |`;
  const rule = `| ${head.map((_, index) => (index === 0 ? '---' : '---:')).join(' | ')} |`;
  return [`### ${title}`, '', line(head), rule, ...rest.map(line), ''].join('\n');
}
