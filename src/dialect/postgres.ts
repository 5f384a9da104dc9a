// PostgreSQL through the pg package: strings, capabilities, connections, LISTEN. Used by store/open.ts. Invariant:
// a COMMIT that is answered is on disk (synchronous_commit is raised where the server has it off).

import pg from 'pg';
import {
  SqlFault,
  type Dialect,
  type DialectSql,
  type DriverOptions,
  type QueryResult,
  type Row,
  type SqlFaultKind,
  type SqlValue,
} from './dialect.ts';
import { createDriver, messageOf, toFault, type Connection, type Engine } from './driver.ts';
import { readTls } from './tls.ts';

// SQL

/** Constant of the advisory lock for schema changes; advisory locks are per database. */
const schemaLockKey = 8_315_178_139_273_720_164n;
const channel = 'switchyard';

const sql: DialectSql = {
  types: { key: 'bytea', value: 'bytea', int64: 'bigint', flag: 'smallint' },
  tableOptions: '',
  nowMs: '(extract(epoch FROM clock_timestamp()) * 1000)::bigint',
  forUpdate: 'FOR UPDATE',
  upsert(table, columns, keyColumns, rows) {
    const others = columns.filter((column) => !keyColumns.includes(column));
    const action =
      others.length === 0
        ? 'NOTHING'
        : `UPDATE SET ${others.map((name) => `${name} = excluded.${name}`).join(', ')}`;
    const key = keyColumns.join(', ');
    return `INSERT INTO ${table} (${columns.join(', ')}) VALUES ${rows} ON CONFLICT (${key}) DO ${action}`;
  },
  insertIgnore(table, columns, rows) {
    return `INSERT INTO ${table} (${columns.join(', ')}) VALUES ${rows} ON CONFLICT DO NOTHING`;
  },
  lockSchema: [`SELECT pg_advisory_xact_lock(${schemaLockKey})`],
  unlockSchema: [],
  size: `SELECT pg_database_size(current_database()) AS size,
    (SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
      WHERE relkind = 'r' AND relname LIKE 'switchyard\\_%') AS used`,
  notify: `SELECT pg_notify('${channel}', '')`,
};

// Address

const parameters = [
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'application_name',
  'synchronous_commit',
  'prepared',
] as const;
type Parameter = (typeof parameters)[number];

const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'];
const commitModes = ['off', 'local', 'remote_write', 'on', 'remote_apply'];

interface Address {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string | undefined;
  readonly database: string;
  readonly parameters: Partial<Record<Parameter, string>>;
}

function refuse(expected: string, got: string): never {
  throw new SqlFault('refused', `Expected ${expected}, got ${got}`);
}

/** The parts of `postgres://user:password@host:port/database?parameter=…`. @throws SqlFault without the password. */
export function parsePostgresUrl(text: string): Address {
  const shown = text.replace(/\/\/.*@/, '//…@');
  if (/^[^/]*\/\/(?:.*@)?[^/?]*,/.test(text)) refuse('one host in the Postgres URL', shown);
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    refuse('a URL of the form postgres://user:password@host:port/database', shown);
  }
  if (url.protocol !== 'postgres:' && url.protocol !== 'postgresql:') refuse('a postgres:// URL', shown);
  const given: Partial<Record<Parameter, string>> = {};
  for (const [name, value] of url.searchParams) {
    const known = parameters.find((parameter) => parameter === name);
    if (known === undefined)
      refuse(`one of the parameters ${parameters.join(', ')} in the Postgres URL`, name);
    given[known] = value;
  }
  const check = (name: Parameter, allowed: readonly string[]) => {
    const value = given[name];
    if (value !== undefined && !allowed.includes(value))
      refuse(`${name} to be one of ${allowed.join(', ')}`, value);
  };
  check('sslmode', sslModes);
  check('synchronous_commit', commitModes);
  check('prepared', ['on', 'off']);
  return {
    host: decodeURIComponent(url.hostname).replace(/^\[(.*)\]$/, '$1') || 'localhost',
    port: url.port === '' ? 5432 : Number(url.port),
    user: decodeURIComponent(url.username) || 'postgres',
    password: url.password === '' ? undefined : decodeURIComponent(url.password),
    database: decodeURIComponent(url.pathname.slice(1)) || 'switchyard',
    parameters: given,
  };
}

async function tlsConfig(address: Address, tls: DriverOptions['tls']): Promise<pg.ClientConfig['ssl']> {
  const { sslmode, sslrootcert, sslcert, sslkey } = address.parameters;
  if (tls) return await readTls(tls);
  // Without a certificate authority to check against, `require` asks for encryption alone, as it does in libpq.
  const checks =
    sslmode === 'verify-full' || sslmode === 'verify-ca' || (sslmode === 'require' && sslrootcert);
  if (!checks && sslmode !== 'require') return false;
  const material = await readTls({
    ...(sslrootcert === undefined ? {} : { caFile: sslrootcert }),
    ...(sslcert === undefined ? {} : { certFile: sslcert }),
    ...(sslkey === undefined ? {} : { keyFile: sslkey }),
    skipVerify: !checks,
  });
  return sslmode === 'verify-full' ? material : { ...material, checkServerIdentity: () => undefined };
}

// Statements

/** Texts kept rewritten, and server-side prepared statements per connection. */
const textsMax = 1_000;
const namesMax = 200;
/** A text is prepared on the server when it comes back this often. */
const usesBeforeName = 2;

interface Prepared {
  readonly text: string;
  uses: number;
  name: string | undefined;
}

/** `?` placeholders become `$1`, `$2`, … outside of quotes. */
export function numberPlaceholders(text: string): string {
  let count = 0;
  return text.replace(/'(?:[^']|'')*'|"[^"]*"|\?/g, (match) => (match === '?' ? `$${++count}` : match));
}

/** Rewritten texts, and names for those that come often. Shared by the connections of a driver. */
class Texts {
  readonly #known = new Map<string, Prepared>();
  #names = 0;

  find(text: string): Prepared {
    let prepared = this.#known.get(text);
    if (prepared === undefined) {
      if (this.#known.size >= textsMax) this.#forgetUnnamed();
      prepared = { text: numberPlaceholders(text), uses: 0, name: undefined };
      this.#known.set(text, prepared);
    }
    prepared.uses++;
    if (prepared.name === undefined && prepared.uses > usesBeforeName && this.#names < namesMax) {
      prepared.name = `switchyard_${++this.#names}`;
    }
    return prepared;
  }

  #forgetUnnamed(): void {
    for (const [text, prepared] of this.#known) if (prepared.name === undefined) this.#known.delete(text);
  }
}

// Values

const bigintOf = (text: string) => BigInt(text);
const parsers = new Map<number, (text: string) => SqlValue>([
  [16, (text) => (text === 't' ? 1n : 0n)],
  [17, (text) => Buffer.from(text.slice(2), 'hex')],
  [20, bigintOf],
  [21, bigintOf],
  [23, bigintOf],
  [26, bigintOf],
  [700, Number],
  [701, Number],
  [1700, (text) => (/^-?\d+$/.test(text) ? BigInt(text) : text)],
]);
const asText = (text: string): SqlValue => text;
const types = { getTypeParser: (oid: number) => parsers.get(oid) ?? asText };

function toResult(result: pg.QueryResult<Row>): QueryResult {
  return { rows: result.rows, affected: result.command === 'SELECT' ? 0 : (result.rowCount ?? 0) };
}

// Connection

const keepAliveDelayMs = 15_000;

async function openClient(options: DriverOptions, database?: string): Promise<pg.Client> {
  const address = parsePostgresUrl(options.url);
  const client = new pg.Client({
    host: address.host,
    port: address.port,
    user: address.user,
    // A function, so that neither the environment nor a password file is asked when the URL has none.
    password: address.password ?? (() => ''),
    database: database ?? address.database,
    ssl: await tlsConfig(address, options.tls),
    application_name: address.parameters.application_name ?? 'switchyard',
    connectionTimeoutMillis: options.pool.connectTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveDelayMs,
    types,
  });
  // An idle connection that breaks is reported here; without a listener it would end the process.
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query(sessionSetup(address, options.pool.statementTimeoutMs));
  } catch (error) {
    closeClient(client);
    throw error;
  }
  return client;
}

function sessionSetup(address: Address, statementTimeoutMs: number): string {
  const wanted = address.parameters.synchronous_commit;
  const commit = wanted
    ? `SET synchronous_commit = ${wanted}`
    : `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`;
  return `SET statement_timeout = ${Math.ceil(statementTimeoutMs)}; SET bytea_output = hex;
    SET default_transaction_isolation = 'read committed'; ${commit}`;
}

/** Ends a client at once, whatever it is doing. */
function closeClient(client: pg.Client): void {
  client.end().catch(() => undefined);
}

class PostgresConnection implements Connection {
  readonly #client: pg.Client;
  readonly #texts: Texts | undefined;
  #usable = true;

  constructor(client: pg.Client, texts: Texts | undefined) {
    this.#client = client;
    this.#texts = texts;
    const lost = () => {
      this.#usable = false;
    };
    client.on('error', lost);
    client.on('end', lost);
  }

  async run(text: string, params: readonly SqlValue[]): Promise<QueryResult> {
    const prepared = this.#texts?.find(text) ?? { text: numberPlaceholders(text), name: undefined };
    const { name } = prepared;
    const config = {
      text: prepared.text,
      values: [...params],
      types,
      ...(name === undefined ? {} : { name }),
    };
    try {
      return toResult(await this.#client.query<Row>(config));
    } catch (error) {
      // The tables changed under a prepared statement, or somebody else's pooler lost it.
      if (codeOf(error) === '0A000' || codeOf(error) === '26000') this.#usable = false;
      throw error;
    }
  }

  async control(text: string): Promise<void> {
    const { command } = await this.#client.query(text);
    if (text === 'COMMIT' && command !== 'COMMIT') {
      throw new SqlFault('other', 'The transaction was rolled back by the server');
    }
  }

  isUsable(): boolean {
    return this.#usable;
  }

  async close(): Promise<void> {
    this.#usable = false;
    await this.#client.end().catch(() => undefined);
  }
}

// Faults

const kinds: Readonly<Record<string, SqlFaultKind>> = {
  '23505': 'unique-violation',
  '40001': 'serialization',
  '40P01': 'deadlock',
  '55P03': 'busy',
  '53300': 'busy',
  '57014': 'timeout',
  '53100': 'full',
  '53400': 'full',
  '25006': 'read-only',
  '54000': 'too-large',
  '57P01': 'disconnected',
  '57P02': 'disconnected',
  '57P03': 'disconnected',
  '57P05': 'disconnected',
  '25P03': 'disconnected',
  '28000': 'refused',
  '28P01': 'refused',
  '3D000': 'refused',
  '42501': 'refused',
  ECONNREFUSED: 'disconnected',
  ECONNRESET: 'disconnected',
  ENOTFOUND: 'disconnected',
  EAI_AGAIN: 'disconnected',
  ETIMEDOUT: 'disconnected',
  EPIPE: 'disconnected',
  EHOSTUNREACH: 'disconnected',
  ENETUNREACH: 'disconnected',
};

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** Errors that pg makes itself have no code. */
const lost = /^Connection terminated|^timeout expired|not queryable|closed|does not support SSL/;

/** The kind of an error of pg. */
export function classifyPostgres(error: unknown): SqlFaultKind {
  const code = codeOf(error);
  const kind = kinds[code];
  if (kind !== undefined) return kind;
  if (code.startsWith('08')) return 'disconnected';
  if (code === '' && error instanceof Error && lost.test(error.message)) return 'disconnected';
  if (/certificate|CERT/.test(code) || code === 'SELF_SIGNED_CERT_IN_CHAIN') return 'refused';
  return 'other';
}

// Dialect

function createEngine(): Engine {
  const texts = new Texts();
  return {
    classify: classifyPostgres,
    begin: {
      write: 'BEGIN ISOLATION LEVEL READ COMMITTED',
      read: 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY',
    },
    interruptible: true,
    lane: () => 'all',
    pool: (_lane, limits) => limits,
    async connect(options) {
      const usePrepared = parsePostgresUrl(options.url).parameters.prepared !== 'off';
      return new PostgresConnection(await openClient(options), usePrepared ? texts : undefined);
    },
  };
}

const reconnectDelayMs = { first: 100, max: 5_000 };

/** Calls `onHint` for every notification and after each (re)connect, until aborted. */
async function listen(options: DriverOptions, onHint: () => void, signal: AbortSignal): Promise<void> {
  for (
    let delayMs = reconnectDelayMs.first;
    !signal.aborted;
    delayMs = Math.min(delayMs * 2, reconnectDelayMs.max)
  ) {
    try {
      await listenOnce(options, signal, {
        onHint,
        onConnected: () => {
          delayMs = reconnectDelayMs.first;
        },
      });
    } catch (error) {
      // A URL that can never work is the caller's to know; the rest heals by trying again.
      if (error instanceof SqlFault) throw error;
    }
    await pause(delayMs, signal);
  }
}

async function listenOnce(
  options: DriverOptions,
  signal: AbortSignal,
  handlers: { readonly onHint: () => void; readonly onConnected: () => void },
): Promise<void> {
  const client = await openClient(options);
  const ended = new Promise<void>((resolve) => {
    client.once('end', resolve);
    client.once('error', () => resolve());
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  try {
    client.on('notification', handlers.onHint);
    await client.query(`LISTEN ${channel}`);
    handlers.onConnected();
    handlers.onHint();
    if (!signal.aborted) await ended;
  } finally {
    closeClient(client);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    const onAbort = () => {
      clearTimeout(timer);
      resolve();
    };
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

async function createDatabase(options: DriverOptions): Promise<void> {
  try {
    closeClient(await openClient(options));
    return;
  } catch (error) {
    if (codeOf(error) !== '3D000') throw toFault({ classify: classifyPostgres }, error, 'connect');
  }
  const { database } = parsePostgresUrl(options.url);
  try {
    const client = await openClient(options, 'postgres');
    try {
      await client.query('SET statement_timeout = 0');
      await client.query(`CREATE DATABASE ${quote(database)}`);
    } finally {
      closeClient(client);
    }
  } catch (error) {
    // Another process created it meanwhile: 42P04, or 23505 when both were at it in the same instant.
    if (['42P04', '23505'].includes(codeOf(error))) return;
    const { kind } = toFault({ classify: classifyPostgres }, error, 'connect');
    const message = `Could not create the database ${JSON.stringify(database)}: ${messageOf(error)}`;
    throw new SqlFault(kind, message, { cause: error });
  }
}

/** PostgreSQL 13 and later. */
export const postgres: Dialect = Object.freeze({
  name: 'postgres',
  sql,
  can: { notify: true, keyBytesMax: 2048, parametersMax: 65_535 },
  createDatabase,
  open: (options: DriverOptions) =>
    Object.assign(createDriver(createEngine(), options), {
      listen: (onHint: () => void, signal: AbortSignal) => listen(options, onHint, signal),
    }),
});
