// One connection to Postgres through the pg package: opening, session settings, what the server says of itself. Used by postgres.ts,
// postgres-hosts.ts and postgres-listen.ts. Invariant: a COMMIT that is answered is on disk (synchronous_commit is raised where the server has it off).

import type { Duplex } from 'node:stream';
import pg from 'pg';
import { inTime } from '../lib/in-time.ts';
import type { DriverOptions } from './dialect.ts';
import { passwordOf } from './password.ts';
import { RowConnection } from './postgres-rows.ts';
import { parsePostgresUrl, postgresTls, type PostgresAddress } from './postgres-url.ts';

const keepAliveDelayMs = 15_000;
/** How long a server may take to hang up. */
const farewellMs = 500;

/** What the package's client has beside what its types say. */
interface Inside {
  readonly connection: { readonly stream: Duplex };
}

export const insideOf = (client: pg.Client) => client as unknown as Inside;

/** What a connection is for, where that matters. */
export interface ClientUse {
  /** By its place among the hosts of the URL; default: the first. */
  readonly host?: number;
  /** Default: that of the URL. */
  readonly database?: string;
  /** The longest silence within a transaction; default: the statement timeout. */
  readonly pauseMaxMs?: number;
}

/** A connected client, its session set up. Rejects with the package's error, or SqlFault for a URL that cannot work. */
export async function openClient(options: DriverOptions, use: ClientUse = {}): Promise<pg.Client> {
  const address = parsePostgresUrl(options.url);
  const ssl = await postgresTls(address, options.tls);
  const password = await passwordOf(options, address.password);
  const client = new pg.Client({
    ...address.hosts[use.host ?? 0],
    user: address.user,
    // A function, so that neither the environment nor a password file is asked when the URL has none.
    password: password ?? (() => ''),
    database: use.database ?? address.database,
    ssl,
    application_name: address.parameters.application_name ?? 'switchyard',
    connectionTimeoutMillis: options.pool.connectTimeoutMs,
    // These two are not in the package's types. What is asked goes out at once, whatever is still to be answered.
    pipeline: true,
    connection: new RowConnection({ ssl, keepAlive: true, keepAliveInitialDelayMillis: keepAliveDelayMs }),
  } as pg.ClientConfig);
  // An idle connection that breaks is reported here; without a listener it would end the process.
  client.on('error', () => undefined);
  try {
    await client.connect();
    // The connect timeout ends with the handshake; a server that hangs behind it must not hold the caller.
    const { statementTimeoutMs } = options.pool;
    const pauseMaxMs = Math.min(use.pauseMaxMs ?? statementTimeoutMs, statementTimeoutMs);
    const text = sessionSetup(address, { statementTimeoutMs, pauseMaxMs });
    await client.query({ text, query_timeout: options.pool.connectTimeoutMs } as pg.QueryConfig);
  } catch (error) {
    void closeClient(client);
    throw error;
  }
  return client;
}

function sessionSetup(
  address: PostgresAddress,
  { statementTimeoutMs, pauseMaxMs }: { readonly statementTimeoutMs: number; readonly pauseMaxMs: number },
): string {
  const wanted = address.parameters.synchronous_commit;
  const commit = wanted
    ? `SET synchronous_commit = ${wanted}`
    : `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`;
  // Statements are prepared while the tables are small, and a plan that reads all of them would stay when they are large. What
  // has no other way is then taken for so costly that it would be compiled.
  // A gateway that is gone without a word must not keep what it has locked until TCP notices: neither where the server waits for its
  // next statement, nor where it waits for the gateway to read an answer, which no other limit ends. Its waits for locks are those of
  // a queue: the statement timeout is enough, whatever the role or the database says.
  return `SET statement_timeout = ${Math.ceil(statementTimeoutMs)}; SET lock_timeout = 0;
    SET idle_in_transaction_session_timeout = ${Math.ceil(pauseMaxMs)};
    SET tcp_user_timeout = ${Math.ceil(pauseMaxMs)};
    SET default_transaction_isolation = 'read committed'; SET enable_seqscan = off; SET jit = off; ${commit}`;
}

/** Ends a client at once, whatever it is doing; resolves when it has ended. */
export async function closeClient(client: pg.Client): Promise<void> {
  // Else it would wait for the answers of a server that may give none.
  Object.assign(client, { pipeline: false });
  const ended = client.end().catch(() => undefined);
  // An idle one says farewell, and waits for the server to hang up; that may be gone.
  if ((await inTime(ended, farewellMs)) === 'late') insideOf(client).connection.stream.destroy();
  await ended;
}
