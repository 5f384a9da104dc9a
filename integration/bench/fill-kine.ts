// kine takes one key a request; a million of them would take it an hour. So its table is filled in SQL, with the rows that it
// would have written itself, while it runs: to it they come from another kine on the same database.

import { DatabaseSync } from 'node:sqlite';
import mysql2 from 'mysql2/promise';
import pg from 'pg';

/** Keys a statement. */
const chunkKeys = 10_000;

/** The same number as `spread` in load/store.go: a name's suffix is its index times this, below 2^32. */
const spread = 2_654_435_761;

/** What one engine needs to run the inserts. */
interface Connection {
  one(sql: string): Promise<number>;
  run(sql: string): Promise<void>;
  close(): Promise<void>;
}

async function postgres(url: string): Promise<Connection> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return {
    one: async (sql) => Number((await client.query<{ n: string }>(sql)).rows[0]?.n ?? 0),
    run: async (sql) => void (await client.query(sql)),
    close: () => client.end(),
  };
}

async function mysql(url: string): Promise<Connection> {
  const connection = await mysql2.createConnection({ uri: url });
  return {
    one: async (sql) => {
      const [rows] = await connection.query(sql);
      return Number((rows as { n: number }[])[0]?.n ?? 0);
    },
    run: async (sql) => void (await connection.query(sql)),
    close: () => connection.end(),
  };
}

function sqlite(url: string): Connection {
  const database = new DatabaseSync(new URL(url).pathname, { timeout: 30_000 });
  return {
    one: (sql) => Promise.resolve(Number(database.prepare(sql).get()?.['n'] ?? 0)),
    run: (sql) => Promise.resolve(database.exec(sql)),
    close: () => Promise.resolve(database.close()),
  };
}

type Chunk = { readonly from: number; readonly to: number; readonly base: number; readonly repeats: number };

const columns = '(id, name, created, deleted, create_revision, prev_revision, lease, value)';

/** One statement for the keys `from` to `to` (not in it); the id of a key is `base` plus its index. */
const inserts = {
  postgres: ({ from, to, base, repeats }: Chunk) => `INSERT INTO kine ${columns}
    SELECT ${base} + i, '/registry/bench.example.com/things/ns-' || (i % 10) || '/thing-' ||
      lpad(to_hex(i * ${spread} % 4294967296), 8, '0'), 1, 0, 0, 0, 0, decode(repeat(md5(i::text), ${repeats}), 'hex')
    FROM generate_series(${from}::bigint, ${to - 1}) AS s(i)`,
  mysql: ({ from, to, base, repeats }: Chunk) => `INSERT INTO kine ${columns}
    SELECT ${base} + i, concat('/registry/bench.example.com/things/ns-', i % 10, '/thing-',
      lower(lpad(hex(i * ${spread} % 4294967296), 8, '0'))), 1, 0, 0, 0, 0, unhex(repeat(md5(i), ${repeats}))
    FROM (SELECT seq AS i FROM seq_${from}_to_${to - 1}) AS s`,
  sqlite: ({ from, to, base, repeats }: Chunk) => `INSERT INTO kine ${columns}
    WITH RECURSIVE s(i) AS (VALUES (${from}) UNION ALL SELECT i + 1 FROM s WHERE i + 1 < ${to})
    SELECT ${base} + i, '/registry/bench.example.com/things/ns-' || (i % 10) || '/thing-' ||
      printf('%08x', i * ${spread} % 4294967296), 1, 0, 0, 0, 0, randomblob(${repeats} * 16) FROM s`,
} as const;

const open = { postgres, mysql, sqlite: (url: string) => Promise.resolve(sqlite(url)) };

/** Fills kine's table; the revision of the first key, the others follow one by one. */
export async function fillKine(options: {
  readonly engine: keyof typeof inserts;
  readonly url: string;
  readonly keys: number;
  readonly valueBytes: number;
}): Promise<number> {
  const { engine, url, keys, valueBytes } = options;
  const connection = await open[engine](url);
  try {
    const base = (await connection.one('SELECT MAX(id) AS n FROM kine')) + 1;
    const repeats = Math.ceil(valueBytes / 16);
    for (let from = 0; from < keys; from += chunkKeys) {
      const to = Math.min(from + chunkKeys, keys);
      await connection.run(inserts[engine]({ from, to, base, repeats }));
    }
    // Ids that were given by hand do not move Postgres' own counter.
    if (engine === 'postgres') await connection.run(`SELECT setval('kine_id_seq', ${base + keys - 1})`);
    return base;
  } finally {
    await connection.close();
  }
}
