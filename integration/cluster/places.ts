// Looks into the databases and into etcd behind the gateway's back, to prove where each key is and where it is not.
// A place is read with the engine's own client and never through switchyard.

import { execFile } from 'node:child_process';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { Client } from 'pg';

const run = promisify(execFile);
const answerBytesMax = 256 * 1024 * 1024;

export interface Place {
  readonly name: string;
  /** Live keys that start with `prefix`, in key order. */
  keys(prefix: string): Promise<readonly string[]>;
  /** The id of the lease a live key is attached to; 0 when it has none, undefined when there is no such key. */
  leaseOf(key: string): Promise<bigint | undefined>;
  /** How many revisions of a key are kept, tombstones included; undefined where the place does not tell (etcd). */
  history(key: string): Promise<number | undefined>;
}

/** Half-open key range that holds exactly the keys with this prefix. */
function bounds(prefix: string) {
  return {
    from: Buffer.from(prefix),
    to: Buffer.from(`${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`),
  };
}

interface Row {
  readonly k?: Buffer | Uint8Array;
  readonly n?: string | number | bigint;
}

/** Answers rows for a statement whose parameters are written as `?`. */
type Ask = (sql: string, parameters: readonly Buffer[]) => Promise<readonly Row[]>;

function sqlPlace(name: string, ask: Ask): Place {
  return {
    name,
    async keys(prefix) {
      const { from, to } = bounds(prefix);
      const rows = await ask('SELECT k FROM switchyard_current WHERE k >= ? AND k < ? ORDER BY k', [
        from,
        to,
      ]);
      return rows.map(({ k }) => Buffer.from(k ?? '').toString());
    },
    async leaseOf(key) {
      const [row] = await ask('SELECT lease AS n FROM switchyard_current WHERE k = ?', [Buffer.from(key)]);
      return row?.n === undefined ? undefined : BigInt(row.n);
    },
    async history(key) {
      const [row] = await ask('SELECT count(*) AS n FROM switchyard_log WHERE k = ?', [Buffer.from(key)]);
      return Number(row?.n ?? 0);
    },
  };
}

/** A Postgres database; a connection for each question, so that a killed server leaves nothing behind. */
export function postgresPlace(url: string): Place {
  return sqlPlace('Postgres', async (sql, parameters) => {
    const client = new Client({ connectionString: url });
    // Without a listener a connection that a dying server cuts would end the process.
    client.on('error', () => undefined);
    await client.connect();
    try {
      let place = 0;
      const answer = await client.query<Row>(
        sql.replaceAll('?', () => `$${++place}`),
        [...parameters],
      );
      return answer.rows;
    } finally {
      await client.end();
    }
  });
}

/** A MariaDB or MySQL database. */
export function mysqlPlace(url: string): Place {
  return sqlPlace('MariaDB', async (sql, parameters) => {
    const connection = await createConnection({ uri: url, supportBigNumbers: true, bigNumberStrings: true });
    try {
      const [rows] = await connection.query<RowDataPacket[]>(sql, [...parameters]);
      return rows as readonly Row[];
    } finally {
      await connection.end();
    }
  });
}

/** An SQLite file, opened read-only beside its owner. */
export function sqlitePlace(path: string, name = 'SQLite'): Place {
  return sqlPlace(name, (sql, parameters) => {
    const database = new DatabaseSync(path, { readOnly: true, timeout: 10_000 });
    try {
      const statement = database.prepare(sql);
      statement.setReadBigInts(true);
      return Promise.resolve(statement.all(...parameters) as readonly Row[]);
    } finally {
      database.close();
    }
  });
}

/** A real etcd, asked at its own address by the etcdctl at `etcdctlPath`. */
export function etcdPlace(endpoint: string, etcdctlPath: string): Place {
  const etcdctl = async (...args: readonly string[]) => {
    const answer = await run(etcdctlPath, ['--endpoints', endpoint, ...args], { maxBuffer: answerBytesMax });
    return answer.stdout;
  };
  return {
    name: 'etcd',
    async keys(prefix) {
      const text = await etcdctl('get', '--prefix', '--keys-only', prefix);
      return text.split('\n').filter((line) => line !== '');
    },
    async leaseOf(key) {
      const text = await etcdctl('get', key, '-w', 'fields');
      if (!text.includes('"Key"')) return undefined;
      return BigInt(/^"Lease" : (\d+)$/m.exec(text)?.[1] ?? '0');
    },
    history: () => Promise.resolve(undefined),
  };
}
