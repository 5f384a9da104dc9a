// The steps that lead from no tables to those of this program, in order. Used by schema.ts. Keys are byte columns named `k`
// (`key` is a reserved word somewhere), so that every engine compares them bytewise. Values stand once, in the log;
// `current` has the live keys without values, so that counts and key lists touch small rows.
//
// A step that has been published is never changed: what comes later is another step. Each statement may be run again, also when a part of
// the step is done already: a gateway may be killed between two of them, MySQL commits each by itself, and several gateways may be at it at
// once.

import type { Dialect } from '../../../dialect/dialect.ts';

/** What the steps are made for. */
export interface StepContext {
  readonly sql: Dialect['sql'];
  /** Without a slash at its end. */
  readonly keyPrefix: string;
}

/** A step from one format to the next. */
export interface MigrationStep {
  /** What the tables are afterwards; one more than before. */
  readonly format: bigint;
  readonly title: string;
  /** Programs that know this format may go on beside the step, and start after it. */
  readonly knows: bigint;
  /** This program does without where the database refuses the step. */
  readonly isOptional: boolean;
  readonly statements: (context: StepContext) => readonly string[];
}

/** `CREATE TABLE` that does nothing where the table is there. */
export function createTable(name: string, columns: readonly string[], options: string): string {
  return `CREATE TABLE IF NOT EXISTS ${name} (${columns.join(', ')}) ${options}`;
}

function firstTables({ types, tableOptions, smallRowsOptions }: Dialect['sql']): readonly string[] {
  const { key, value, int64: int, flag } = types;
  return [
    // One row. `writer` and `batch` name the last write, so that one with an unknown outcome can be looked for.
    createTable(
      'switchyard_meta',
      [
        'id int NOT NULL PRIMARY KEY',
        `format ${int} NOT NULL`,
        `revision ${int} NOT NULL`,
        `compact_revision ${int} NOT NULL`,
        `swept_revision ${int} NOT NULL`,
        `cluster_id ${int} NOT NULL`,
        `writer ${int} NOT NULL`,
        `batch ${int} NOT NULL`,
      ],
      tableOptions,
    ),
    // A txn changes a key at most once, so (mod_revision, k) is unique; the second key serves reads at old revisions.
    createTable(
      'switchyard_log',
      [
        `mod_revision ${int} NOT NULL`,
        `k ${key} NOT NULL`,
        `sub ${int} NOT NULL`,
        `create_revision ${int} NOT NULL`,
        `version ${int} NOT NULL`,
        `lease ${int} NOT NULL`,
        `tombstone ${flag} NOT NULL`,
        `prev_revision ${int} NOT NULL`,
        `value ${value} NOT NULL`,
        'PRIMARY KEY (mod_revision, k)',
        'UNIQUE (k, mod_revision)',
      ],
      tableOptions,
    ),
    createTable(
      'switchyard_current',
      [
        `k ${key} NOT NULL PRIMARY KEY`,
        `mod_revision ${int} NOT NULL`,
        `sub ${int} NOT NULL`,
        `create_revision ${int} NOT NULL`,
        `version ${int} NOT NULL`,
        `lease ${int} NOT NULL`,
      ],
      smallRowsOptions,
    ),
    // expires_at: milliseconds since the epoch by the database's clock.
    createTable(
      'switchyard_lease',
      [`id ${int} NOT NULL PRIMARY KEY`, `ttl_seconds ${int} NOT NULL`, `expires_at ${int} NOT NULL`],
      tableOptions,
    ),
    createTable(
      'switchyard_lease_key',
      [`lease ${int} NOT NULL`, `k ${key} NOT NULL`, 'PRIMARY KEY (lease, k)'],
      smallRowsOptions,
    ),
  ];
}

/** Where each promotion of a replica found the store. */
function epochTable({ types: { int64: int }, tableOptions }: Dialect['sql']): string {
  const columns = [
    `lineage ${int} NOT NULL`,
    `timeline ${int} NOT NULL`,
    `revision ${int} NOT NULL`,
    'PRIMARY KEY (lineage, timeline)',
  ];
  return createTable('switchyard_epoch', columns, tableOptions);
}

/** From the first to the latest format. */
export const steps: readonly MigrationStep[] = [
  {
    format: 1n,
    title: 'tables',
    knows: 1n,
    isOptional: false,
    statements: ({ sql }) => firstTables(sql),
  },
  {
    format: 2n,
    title: 'timelines of promoted replicas',
    knows: 1n,
    isOptional: false,
    statements: ({ sql }) => [epochTable(sql)],
  },
  {
    format: 3n,
    title: 'views for people',
    knows: 1n,
    isOptional: true,
    statements: ({ sql, keyPrefix }) => sql.views(keyPrefix),
  },
];
