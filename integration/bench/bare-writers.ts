// The rows of a batch of updates, written by a client that does nothing else: what a database can do for a gateway in Node. The
// tables are the store's own; each batch is one transaction that moves the revision in `meta` under the store's guard, adds to the log
// and changes `current`, in as few round trips as the database's package allows.

import mysql2 from 'mysql2/promise';
import { DatabaseSync } from 'node:sqlite';
import pg from 'pg';
import type { SqlEngine } from '../servers/index.ts';

/** An update of one key. */
export interface Change {
  readonly key: Buffer;
  readonly revision: bigint;
  readonly previous: bigint;
  readonly value: Buffer;
}

/** Writes batches over one connection. */
export interface BareWriter {
  /** The revision of the store. */
  revision(): Promise<bigint>;
  /** Every key with the revision of its last change. */
  keys(): Promise<readonly { readonly key: Buffer; readonly revision: bigint }[]>;
  /** Moves the store from `from` to the last change's revision. @throws when it is not at `from` */
  write(from: bigint, changes: readonly Change[]): Promise<void>;
  close(): Promise<void>;
}

const meta = 'SELECT revision FROM switchyard_meta WHERE id = 1';
const live = 'SELECT k, mod_revision FROM switchyard_current ORDER BY k';
const logColumns = 'mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value';
const currentColumns = 'k, mod_revision, sub, create_revision, version, lease';

const list = (n: number, item: (index: number) => string) =>
  Array.from({ length: n }, (_, i) => item(i)).join(', ');

function expectMoved(count: number): void {
  if (count !== 1) throw new Error(`Expected the revision to be the one last written, got ${count} rows`);
}

/** Postgres: one prepared statement, so one round trip and one implicit transaction. */
async function postgres(url: string): Promise<BareWriter> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const text = (n: number) => {
    const parameter = (index: number, column: number) => `$${3 + index * 4 + column}`;
    const row = (i: number) =>
      `(${parameter(i, 0)}::bigint, ${parameter(i, 1)}::bytea, ${parameter(i, 2)}::bigint, ${parameter(i, 3)}::bytea)`;
    return `WITH moved AS (
        UPDATE switchyard_meta SET revision = $2, batch = $2 WHERE id = 1 AND revision = $1 RETURNING 1),
      change (mod_revision, k, prev_revision, value) AS (VALUES ${list(n, row)}),
      logged AS (
        INSERT INTO switchyard_log (${logColumns})
        SELECT mod_revision, k, 0, 1, 2, 0, 0, prev_revision, value FROM change, moved RETURNING 1)
      INSERT INTO switchyard_current (${currentColumns})
      SELECT k, mod_revision, 0, 1, 2, 0 FROM change, moved
      ON CONFLICT (k) DO UPDATE SET mod_revision = excluded.mod_revision, version = excluded.version`;
  };
  const one = (value: bigint) => value.toString();
  return {
    revision: async () => BigInt((await client.query<{ revision: string }>(meta)).rows[0]!.revision),
    keys: async () => {
      const { rows } = await client.query<{ k: Buffer; mod_revision: string }>(live);
      return rows.map((row) => ({ key: row.k, revision: BigInt(row.mod_revision) }));
    },
    write: async (from, changes) => {
      const { length } = changes;
      const values: unknown[] = [one(from), one(changes.at(-1)!.revision)];
      for (const { key, revision, previous, value } of changes)
        values.push(one(revision), key, one(previous), value);
      const { rowCount } = await client.query({ name: `batch-${length}`, text: text(length), values });
      if (rowCount !== length) throw new Error(`Expected ${length} rows to be written, got ${rowCount}`);
    },
    close: () => client.end(),
  };
}

/** MariaDB: the statements of the transaction in one text, so one round trip. */
async function mysql(url: string): Promise<BareWriter> {
  const client = await mysql2.createConnection({
    uri: url,
    multipleStatements: true,
    supportBigNumbers: true,
    bigNumberStrings: true,
  });
  const rowsOf = async <T>(sql: string) => (await client.query(sql))[0] as T[];
  return {
    revision: async () => BigInt((await rowsOf<{ revision: string }>(meta))[0]!.revision),
    keys: async () => {
      const rows = await rowsOf<{ k: Buffer; mod_revision: string }>(live);
      return rows.map((row) => ({ key: row.k, revision: BigInt(row.mod_revision) }));
    },
    write: async (from, changes) => {
      const { length } = changes;
      const upTo = changes.at(-1)!.revision;
      const log = changes.flatMap(({ key, revision, previous, value }) => [revision, key, previous, value]);
      const current = changes.flatMap(({ key, revision }) => [key, revision]);
      const sql = `START TRANSACTION;
        UPDATE switchyard_meta SET revision = ${upTo}, batch = ${upTo} WHERE id = 1 AND revision = ${from};
        INSERT INTO switchyard_log (${logColumns}) VALUES ${list(length, () => '(?, ?, 0, 1, 2, 0, 0, ?, ?)')};
        INSERT INTO switchyard_current (${currentColumns}) VALUES ${list(length, () => '(?, ?, 0, 1, 2, 0)')}
          ON DUPLICATE KEY UPDATE mod_revision = VALUES(mod_revision), version = VALUES(version);
        COMMIT`;
      const [results] = await client.query(sql, [...log, ...current]);
      expectMoved((results as unknown as { affectedRows: number }[])[1]!.affectedRows);
    },
    close: () => client.end(),
  };
}

/** SQLite: prepared statements in this thread; there are no round trips. */
function sqlite(url: string): BareWriter {
  const database = new DatabaseSync(new URL(url).pathname, { timeout: 30_000, readBigInts: true });
  // As the store opens its own.
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 2000');
  const move = database.prepare(
    'UPDATE switchyard_meta SET revision = ?, batch = ? WHERE id = 1 AND revision = ?',
  );
  const log = database.prepare(
    `INSERT INTO switchyard_log (${logColumns}) VALUES (?, ?, 0, 1, 2, 0, 0, ?, ?)`,
  );
  const current = database.prepare(
    `INSERT INTO switchyard_current (${currentColumns}) VALUES (?, ?, 0, 1, 2, 0)
      ON CONFLICT (k) DO UPDATE SET mod_revision = excluded.mod_revision, version = excluded.version`,
  );
  return {
    revision: () => Promise.resolve(database.prepare(meta).get()!['revision'] as bigint),
    keys: () =>
      Promise.resolve(
        database
          .prepare(live)
          .all()
          .map((row) => ({
            key: Buffer.from(row['k'] as Uint8Array),
            revision: row['mod_revision'] as bigint,
          })),
      ),
    write: (from, changes) => {
      const upTo = changes.at(-1)!.revision;
      database.exec('BEGIN IMMEDIATE');
      expectMoved(Number(move.run(upTo, upTo, from).changes));
      for (const { key, revision, previous, value } of changes) {
        log.run(revision, key, previous, value);
        current.run(key, revision);
      }
      database.exec('COMMIT');
      return Promise.resolve();
    },
    close: () => Promise.resolve(database.close()),
  };
}

/** Opens the tables that switchyard has made there. */
export function openBare(engine: SqlEngine, url: string): Promise<BareWriter> {
  switch (engine) {
    case 'postgres':
      return postgres(url);
    case 'mysql':
      return mysql(url);
    case 'sqlite':
      return Promise.resolve(sqlite(url));
  }
}
