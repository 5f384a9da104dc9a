// What a Postgres server says of itself: whether it can be written to, and which timeline it is on. Used by postgres.ts.

import type pg from 'pg';
import { SqlFault, type DriverOptions, type Epoch } from './dialect.ts';
import { toFault } from './faults.ts';
import { Hosts, type Standing } from './hosts.ts';
import { closeClient, openClient } from './postgres-client.ts';
import { classifyPostgres, codeOf } from './postgres-faults.ts';
import { parsePostgresUrl, type PostgresTarget } from './postgres-url.ts';

const standingText = `SELECT pg_is_in_recovery() AS is_replica,
  current_setting('default_transaction_read_only') = 'on' AS is_read_only`;

/** Each promotion begins a new timeline, whose number begins the names of its files. */
const epochText = `SELECT (SELECT system_identifier FROM pg_control_system()) AS lineage,
  substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline`;

/** Servers that are like Postgres have no such functions, or no right to them. */
const unknownCodes = new Set(['42883', '0A000', '42501', '42P01']);

/** What is wrong with it for this target. */
function objectionOf(row: { is_replica: boolean; is_read_only: boolean }, target: PostgresTarget) {
  if (target === 'any') return undefined;
  if (row.is_replica) return 'it is a replica, which is read-only';
  return target === 'read-write' && row.is_read_only
    ? 'it is read-only (default_transaction_read_only)'
    : undefined;
}

/** Undefined where it cannot be known. */
export async function epochOf(client: pg.Client, timeoutMs: number): Promise<Epoch | undefined> {
  try {
    const { rows } = await ask<{ lineage: string; timeline: string }>(client, epochText, timeoutMs);
    const { lineage, timeline } = rows[0]!;
    return { lineage: BigInt(lineage), timeline: BigInt(`0x${timeline}`) };
  } catch (error) {
    // 55000: of a replica, which goes on with the timeline of another server.
    if (unknownCodes.has(codeOf(error)) || codeOf(error) === '55000') return undefined;
    throw error;
  }
}

/** Whether the server behind `client` is what the endpoint asks for. */
export async function standingOf(
  client: pg.Client,
  { target, timeoutMs }: { readonly target: PostgresTarget; readonly timeoutMs: number },
): Promise<Standing> {
  if (target !== 'any') {
    const { rows } = await ask<{ is_replica: boolean; is_read_only: boolean }>(
      client,
      standingText,
      timeoutMs,
    );
    const objection = objectionOf(rows[0]!, target);
    if (objection !== undefined) return { usable: false, fault: new SqlFault('read-only', objection) };
  }
  return { usable: true, epoch: await epochOf(client, timeoutMs) };
}

function ask<R extends pg.QueryResultRow>(client: pg.Client, text: string, timeoutMs: number) {
  return client.query<R>({ text, query_timeout: timeoutMs } as pg.QueryConfig);
}

/** Each as HOST:PORT. @throws SqlFault for a URL that cannot work */
export function hostNames({ url }: DriverOptions): readonly string[] {
  return parsePostgresUrl(url).hosts.map(({ host, port }) => `${host}:${port}`);
}

/** The hosts of an endpoint. */
export function postgresHosts(options: DriverOptions): Hosts {
  const { connectTimeoutMs: timeoutMs } = options.pool;
  return new Hosts({
    names: () => hostNames(options),
    async open(host) {
      const { target } = parsePostgresUrl(options.url);
      const client = await openClient(options, { host });
      return {
        look: () => standingOf(client, { target, timeoutMs }),
        close: () => void closeClient(client),
      };
    },
    faultOf: (error) => toFault({ classify: classifyPostgres }, error, 'connect'),
  });
}
