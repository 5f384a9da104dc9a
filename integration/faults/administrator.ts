// A session of an administrator, or of somebody with a SQL tool, on the database that the gateways use.

import mysql2 from 'mysql2/promise';
import pg from 'pg';
import { serverOf, type Site } from './site.ts';

type Row = Readonly<Record<string, unknown>>;

export interface Administrator extends AsyncDisposable {
  query(text: string): Promise<readonly Row[]>;
}

/** Straight to the server, whatever the proxy does. `database`: default that of the gateways, whose sessions end with `killAll`. */
export async function administrator(site: Site, database?: string): Promise<Administrator> {
  const url = new URL(serverOf(site).url);
  url.pathname = database ?? new URL(site.place.endpoint(0)).pathname;
  return site.engine === 'postgres' ? await ofPostgres(url.href) : await ofMysql(url.href);
}

async function ofPostgres(connectionString: string): Promise<Administrator> {
  const client = new pg.Client({ connectionString });
  // The next query says so.
  client.on('error', () => undefined);
  await client.connect();
  return {
    query: async (text) => (await client.query(text)).rows ?? [],
    [Symbol.asyncDispose]: () => client.end(),
  };
}

async function ofMysql(uri: string): Promise<Administrator> {
  const client = await mysql2.createConnection({ uri });
  client.on('error', () => undefined);
  return {
    query: async (text) => {
      const [rows] = await client.query(text);
      return Array.isArray(rows) ? (rows as Row[]) : [];
    },
    [Symbol.asyncDispose]: async () => client.destroy(),
  };
}

/** SQLSTATE, or number of the error of a MySQL. */
export function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return '';
  if ('errno' in error && typeof error.errno === 'number') return String(error.errno);
  return 'code' in error ? String(error.code) : '';
}

/** Runs `work`, where these errors are part of the game. */
export async function allowing(codes: readonly string[], work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!codes.includes(codeOf(error))) throw error;
  }
}

const sessionsOf = {
  postgres: `SELECT pid AS id FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND backend_type = 'client backend'`,
  mysql: `SELECT id AS id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()`,
};
const working = { postgres: ` AND state = 'active'`, mysql: ` AND command <> 'Sleep'` };

/** Ids of the gateways' sessions on the server, in any order. */
export async function sessions(
  site: Site,
  by: Administrator,
  which: 'all' | 'working' = 'all',
): Promise<readonly string[]> {
  const engine = site.engine === 'postgres' ? 'postgres' : 'mysql';
  const rows = await by.query(sessionsOf[engine] + (which === 'working' ? working[engine] : ''));
  return rows.map(({ id }) => String(id)).toSorted(() => Math.random() - 0.5);
}

/** Ends a session, or what it is doing; it may be gone already. */
export async function kill(
  site: Site,
  by: Administrator,
  id: string,
  what: 'session' | 'statement',
): Promise<void> {
  if (site.engine === 'postgres') {
    await by.query(`SELECT ${what === 'session' ? 'pg_terminate_backend' : 'pg_cancel_backend'}(${id})`);
    return;
  }
  await allowing(['1094'], () => by.query(`KILL ${what === 'session' ? 'CONNECTION' : 'QUERY'} ${id}`));
}

/** Ends all sessions of gateways, so that they come back with what is new for new ones. */
export async function killAll(site: Site, by: Administrator): Promise<void> {
  for (const id of await sessions(site, by)) await kill(site, by, id, 'session');
}
