// How large the tables of a store are, asked of the database itself.

import mysql2 from 'mysql2/promise';
import { statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import pg from 'pg';
import type { SqlEngine } from '../servers/index.ts';

export interface StoreSize {
  readonly mib: number;
  readonly logRows: number;
  readonly currentRows: number;
}

/** Asks again and again over one connection. */
export interface StoreMeter {
  size(): Promise<StoreSize>;
  close(): Promise<void>;
}

const counts = `(SELECT count(*) FROM switchyard_log) AS log, (SELECT count(*) FROM switchyard_current) AS live`;

interface Row {
  readonly bytes: string | number;
  readonly log: string | number;
  readonly live: string | number;
}

const toSize = ({ bytes, log, live }: Row): StoreSize => ({
  mib: Number(bytes) / 2 ** 20,
  logRows: Number(log),
  currentRows: Number(live),
});

async function postgres(url: string): Promise<StoreMeter> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return {
    size: async () => {
      const { rows } = await client.query<Row>(
        `SELECT pg_database_size(current_database()) AS bytes, ${counts}`,
      );
      return toSize(rows[0]!);
    },
    close: () => client.end(),
  };
}

async function mysql(url: string): Promise<StoreMeter> {
  const client = await mysql2.createConnection({ uri: url });
  const [found] = await client.query(`SELECT count(*) AS n FROM information_schema.tables
    WHERE table_schema = 'information_schema' AND table_name = 'INNODB_SYS_TABLESPACES'`);
  // MySQL 8 has renamed it.
  const table =
    Number((found as { n: number }[])[0]?.n) > 0 ? 'INNODB_SYS_TABLESPACES' : 'INNODB_TABLESPACES';
  return {
    size: async () => {
      const [rows] = await client.query(`SELECT ${counts}, (SELECT sum(file_size)
        FROM information_schema.${table} WHERE name LIKE concat(database(), '/%')) AS bytes`);
      return toSize((rows as Row[])[0]!);
    },
    close: () => client.end(),
  };
}

function sqlite(url: string): StoreMeter {
  const path = new URL(url).pathname;
  const database = new DatabaseSync(path, { readOnly: true, timeout: 30_000 });
  const statement = database.prepare(`SELECT ${counts}`);
  const bytesOf = (file: string) => statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  return {
    size: () => {
      const row = statement.get() as unknown as Omit<Row, 'bytes'>;
      return Promise.resolve(toSize({ ...row, bytes: bytesOf(path) + bytesOf(`${path}-wal`) }));
    },
    close: () => Promise.resolve(database.close()),
  };
}

/** Of the database in which switchyard has its tables. */
export function openMeter(engine: SqlEngine, url: string): Promise<StoreMeter> {
  switch (engine) {
    case 'postgres':
      return postgres(url);
    case 'mysql':
      return mysql(url);
    case 'sqlite':
      return Promise.resolve(sqlite(url));
  }
}
