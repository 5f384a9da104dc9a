// The tables of a SQL store, and their creation. Used by sql-store.ts when it connects. Keys are byte columns named `k`
// (`key` is a reserved word somewhere), so that every engine compares them bytewise. Values stand once, in the log;
// `current` has the live keys without values, so that counts and key lists touch small rows.

import { randomBytes } from 'node:crypto';
import { SqlFault, type Dialect, type Driver, type SqlValue, type Statement } from '../../dialect/dialect.ts';
import { int64 } from './row.ts';

/** The layout this program reads and writes. */
export const schemaFormat = 1n;

/** What is constant about a store. */
export interface StoreIdentity {
  /** Drawn when the store was created; not zero. */
  readonly clusterId: bigint;
}

function tables({ types, tableOptions, smallRowsOptions }: Dialect['sql']): readonly string[] {
  const { key, value, int64: int, flag } = types;
  const create = (name: string, columns: readonly string[], options = tableOptions) =>
    `CREATE TABLE IF NOT EXISTS ${name} (${columns.join(', ')}) ${options}`;
  return [
    // One row. `writer` and `batch` name the last write, so that one with an unknown outcome can be looked for.
    create('switchyard_meta', [
      'id int NOT NULL PRIMARY KEY',
      `format ${int} NOT NULL`,
      `revision ${int} NOT NULL`,
      `compact_revision ${int} NOT NULL`,
      `swept_revision ${int} NOT NULL`,
      `cluster_id ${int} NOT NULL`,
      `writer ${int} NOT NULL`,
      `batch ${int} NOT NULL`,
    ]),
    // A txn changes a key at most once, so (mod_revision, k) is unique; the second key serves reads at old revisions.
    create('switchyard_log', [
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
    ]),
    create(
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
    create('switchyard_lease', [
      `id ${int} NOT NULL PRIMARY KEY`,
      `ttl_seconds ${int} NOT NULL`,
      `expires_at ${int} NOT NULL`,
    ]),
    // Where each promotion of a replica found the store.
    create('switchyard_epoch', [
      `lineage ${int} NOT NULL`,
      `timeline ${int} NOT NULL`,
      `revision ${int} NOT NULL`,
      'PRIMARY KEY (lineage, timeline)',
    ]),
    create(
      'switchyard_lease_key',
      [`lease ${int} NOT NULL`, `k ${key} NOT NULL`, 'PRIMARY KEY (lease, k)'],
      smallRowsOptions,
    ),
  ];
}

/** Fails where one of the tables is missing that were not there from the beginning. */
const selectIdentity: Statement = {
  name: 'schema.identity',
  text:
    'SELECT format, cluster_id, (SELECT MAX(timeline) FROM switchyard_epoch) AS timeline' +
    ' FROM switchyard_meta WHERE id = 1',
};

const metaColumns = [
  'id',
  'format',
  'revision',
  'compact_revision',
  'swept_revision',
  'cluster_id',
  'writer',
  'batch',
];

/** A new store: revision 1, nothing compacted, as an empty etcd. */
function firstMeta(): readonly SqlValue[] {
  // 63 bits, the lowest set: positive as int64 and not zero.
  const clusterId = (randomBytes(8).readBigUInt64BE() >> 1n) | 1n;
  return [1n, schemaFormat, 1n, 0n, 0n, clusterId, 0n, 0n];
}

async function identity(driver: Driver, signal?: AbortSignal): Promise<StoreIdentity | undefined> {
  const { rows } = await driver.query(selectIdentity, [], signal);
  const row = rows[0];
  if (row === undefined) return undefined;
  const format = int64(row, 'format');
  if (format !== schemaFormat) {
    throw new SqlFault('refused', `Expected tables of format ${schemaFormat}, got format ${format}`);
  }
  return { clusterId: int64(row, 'cluster_id') };
}

/**
 * Creates what is missing of the tables and gives the store's identity. Several processes may do so at once. A user
 * without the right to create tables is enough once they are there.
 * @throws SqlFault `refused` when the tables are of another format.
 */
export async function ensureSchema(
  driver: Driver,
  dialect: Dialect,
  signal?: AbortSignal,
): Promise<StoreIdentity> {
  try {
    const existing = await identity(driver, signal);
    if (existing !== undefined) return existing;
  } catch (error) {
    // `other`: there is no such table.
    if (!(error instanceof SqlFault) || error.kind !== 'other') throw error;
  }
  const { sql } = dialect;
  const statement = (text: string): Statement => ({ name: 'schema.create', text });
  await driver.transaction(
    'write',
    async (session) => {
      for (const text of sql.lockSchema) await session.query(statement(text), []);
      for (const text of tables(sql)) await session.query(statement(text), []);
      const row = sql.insertIgnore(
        'switchyard_meta',
        metaColumns,
        `(${metaColumns.map(() => '?').join(', ')})`,
      );
      await session.query(statement(row), firstMeta());
    },
    signal,
  );
  const created = await identity(driver, signal);
  if (created === undefined) throw new SqlFault('other', 'Expected one row in switchyard_meta, got none');
  return created;
}
