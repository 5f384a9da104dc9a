// MySQL 8 and MariaDB 10.6+ through the mysql2 package: strings, capabilities, connections. Used by store/open.ts.
// Invariant: only syntax that both servers accept; the SQL mode is strict, so nothing is cut off silently.

import driverPackage, { type Connection as Client, type ConnectionOptions } from 'mysql2/promise';
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

// The package loads some of its exports when they are first used; only its default export has them all.
const { createConnection, TypedParameter } = driverPackage;

// SQL

/** Longer than any statement may take: who waits for the lock ends by the statement timeout. */
const schemaLockSeconds = 86_400;
/** GET_LOCK is per server, so the name holds the database's; at most 64 characters. */
const schemaLock = `CONCAT('switchyard.', SHA1(DATABASE()))`;

const sql: DialectSql = {
  types: { key: 'varbinary(2048)', value: 'longblob', int64: 'bigint', flag: 'tinyint' },
  tableOptions: 'ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4',
  nowMs: 'CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)',
  forUpdate: 'FOR UPDATE',
  upsert(table, columns, keyColumns, rows) {
    const others = columns.filter((column) => !keyColumns.includes(column));
    const changed = others.length === 0 ? keyColumns : others;
    const action = changed.map((name) => `${name} = VALUES(${name})`).join(', ');
    return `INSERT INTO ${table} (${columns.join(', ')}) VALUES ${rows} ON DUPLICATE KEY UPDATE ${action}`;
  },
  insertIgnore(table, columns, rows) {
    // Not INSERT IGNORE, which also turns other errors (a value that does not fit) into warnings.
    const action = `${columns[0]} = ${table}.${columns[0]}`;
    return `INSERT INTO ${table} (${columns.join(', ')}) VALUES ${rows} ON DUPLICATE KEY UPDATE ${action}`;
  },
  lockSchema: [`SELECT GET_LOCK(${schemaLock}, ${schemaLockSeconds})`],
  unlockSchema: [`SELECT RELEASE_LOCK(${schemaLock})`],
  size: `SELECT CAST(COALESCE(SUM(data_length + index_length + data_free), 0) AS SIGNED) AS size,
    CAST(COALESCE(SUM(data_length + index_length), 0) AS SIGNED) AS used
    FROM information_schema.tables WHERE table_schema = DATABASE()`,
};

// Address

interface Address {
  readonly at: { readonly host: string; readonly port: number } | { readonly socketPath: string };
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly tls: string;
}

const tlsModes = ['false', 'preferred', 'skip-verify', 'true'];

function refuse(expected: string, got: string): never {
  throw new SqlFault('refused', `Expected ${expected}, got ${got}`);
}

/**
 * The parts of `mysql://user:password@host:port/database?tls=…`, or of the form with `tcp(host:port)` or
 * `unix(path)` in the place of the host, whose user and password are not percent-encoded.
 * @throws SqlFault without the password.
 */
export function parseMysqlUrl(text: string): Address {
  const shown = text.replace(/\/\/.*@/, '//…@');
  const dsn = /^(?:mysql|mariadb):\/\/(?:([^:]*?)(?::(.*))?@)?(tcp|unix)\((.*)\)\/([^/?]*)(?:\?(.*))?$/.exec(
    text,
  );
  if (dsn) {
    const [, user = 'root', password = '', network, place = '', database = '', query = ''] = dsn;
    const at = network === 'unix' ? { socketPath: place } : hostAndPort(place, shown);
    return {
      at,
      user,
      password,
      database: database || 'switchyard',
      tls: tlsMode(new URLSearchParams(query)),
    };
  }
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    refuse('a URL of the form mysql://user:password@host:port/database', shown);
  }
  if (url.protocol !== 'mysql:' && url.protocol !== 'mariadb:') refuse('a mysql:// URL', shown);
  return {
    at: hostAndPort(url.host, shown),
    user: decodeURIComponent(url.username) || 'root',
    password: decodeURIComponent(url.password),
    database: decodeURIComponent(url.pathname.slice(1)) || 'switchyard',
    tls: tlsMode(url.searchParams),
  };
}

function hostAndPort(text: string, shown: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(text);
  if (!match) refuse('one host:port in the MySQL URL', shown);
  const host = match[1] ?? match[2];
  return { host: host || '127.0.0.1', port: match[3] === undefined ? 3306 : Number(match[3]) };
}

/** Parameters of other clients' URLs that say nothing to this one. */
const ignored = ['parseTime', 'charset', 'collation', 'loc'];

function tlsMode(parameters: URLSearchParams): string {
  let tls = 'false';
  for (const [name, value] of parameters) {
    if (name === 'tls') tls = value;
    else if (!ignored.includes(name)) refuse('no parameter but tls in the MySQL URL', name);
  }
  if (!tlsModes.includes(tls)) refuse(`tls to be one of ${tlsModes.join(', ')}`, tls);
  return tls;
}

async function tlsConfig(address: Address, tls: DriverOptions['tls']): Promise<ConnectionOptions['ssl']> {
  if (!tls && (address.tls === 'false' || address.tls === 'preferred')) return undefined;
  const material = await readTls(tls ?? { skipVerify: address.tls === 'skip-verify' });
  return { ...material, verifyIdentity: material.rejectUnauthorized };
}

// Statements

/** Server-side prepared statements per connection; the server's limit (16,382) counts those of all connections. */
const preparedMax = 100;

const updating = /^\s*update\b/i;

// Values

/** Column types of the wire protocol that come back as bigint. */
const integerTypes = new Set([1, 2, 3, 8, 9, 13]);
const decimalTypes = new Set([0, 246]);

interface Field {
  readonly name: string;
  readonly columnType: number;
  readonly decimals: number;
}

type RawRow = Record<string, SqlValue>;

/** Integers of every width become bigint; decimals without a fraction (sums) too. */
function convertRows(rows: RawRow[], fields: readonly Field[]): readonly Row[] {
  const names = fields
    .filter(
      (field) =>
        integerTypes.has(field.columnType) || (decimalTypes.has(field.columnType) && !field.decimals),
    )
    .map((field) => field.name);
  for (const row of rows) {
    for (const name of names) {
      const value = row[name];
      if (typeof value === 'string' || typeof value === 'number') row[name] = BigInt(value);
    }
  }
  return rows;
}

/** mysql2 would send a bigint as text and a number as a double, which compare wrongly beyond 2^53. */
function toParameter(value: SqlValue): unknown {
  if (typeof value === 'bigint') return TypedParameter.LONGLONG(value);
  return typeof value === 'number' && Number.isSafeInteger(value) ? TypedParameter.LONGLONG(value) : value;
}

interface Header {
  readonly affectedRows: number;
  readonly info: string;
}

/** Rows matched by an UPDATE stand first in the server's remark; affectedRows are those it really changed. */
function toAffected(header: Header, text: string): number {
  if (!updating.test(text)) return header.affectedRows;
  const matched = /\d+/.exec(header.info);
  return matched ? Number(matched[0]) : header.affectedRows;
}

// Connection

const keepAliveDelayMs = 15_000;

async function openClient(options: DriverOptions, withDatabase: boolean): Promise<Client> {
  const address = parseMysqlUrl(options.url);
  const ssl = await tlsConfig(address, options.tls);
  const client = await createConnection({
    ...address.at,
    user: address.user,
    password: address.password,
    ...(withDatabase ? { database: address.database } : {}),
    ...(ssl === undefined ? {} : { ssl }),
    connectTimeout: options.pool.connectTimeoutMs,
    enableKeepAlive: true,
    keepAliveInitialDelay: keepAliveDelayMs,
    charset: 'utf8mb4',
    supportBigNumbers: true,
    bigNumberStrings: true,
    maxPreparedStatements: preparedMax,
    // Transactions begin with two constant statements in one round trip; texts with parameters are prepared, alone.
    multipleStatements: true,
    // Without it an INSERT that finds its key says 0, and UPDATE says how many it matched in its remark.
    flags: ['-FOUND_ROWS'],
  });
  client.on('error', () => undefined);
  try {
    await client.query(sessionSetup(options.pool.statementTimeoutMs));
  } catch (error) {
    client.destroy();
    throw error;
  }
  return client;
}

/** The two comment forms are read by MySQL 8 alone and by MariaDB alone. */
function sessionSetup(statementTimeoutMs: number): string {
  const seconds = Math.max(1, Math.ceil(statementTimeoutMs / 1000));
  return `SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO',
    time_zone = '+00:00', autocommit = 1, innodb_lock_wait_timeout = ${seconds}
    /*!80000 , information_schema_stats_expiry = 0, max_execution_time = ${Math.ceil(statementTimeoutMs)} */
    /*M! , max_statement_time = ${seconds} */;
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED`;
}

class MysqlConnection implements Connection {
  readonly #client: Client;
  #usable = true;

  constructor(client: Client) {
    this.#client = client;
    const lost = () => {
      this.#usable = false;
    };
    client.on('error', lost);
    client.on('end', lost);
  }

  async run(text: string, params: readonly SqlValue[]): Promise<QueryResult> {
    const [result, fields] = await this.#client.execute(text, params.map(toParameter) as never);
    if (!Array.isArray(result)) return { rows: [], affected: toAffected(result as Header, text) };
    return { rows: convertRows(result as RawRow[], fields as unknown as Field[]), affected: 0 };
  }

  async control(text: string): Promise<void> {
    await this.#client.query(text);
  }

  isUsable(): boolean {
    return this.#usable;
  }

  async close(): Promise<void> {
    this.#usable = false;
    this.#client.destroy();
  }
}

// Faults

const kinds: Readonly<Record<number, SqlFaultKind>> = {
  1062: 'unique-violation',
  1020: 'serialization',
  1213: 'deadlock',
  1040: 'busy',
  1203: 'busy',
  1205: 'busy',
  1226: 'busy',
  1969: 'timeout',
  3024: 'timeout',
  1021: 'full',
  1041: 'full',
  1114: 'full',
  1290: 'read-only',
  1792: 'read-only',
  1836: 'read-only',
  1153: 'too-large',
  1301: 'too-large',
  1406: 'too-large',
  1053: 'disconnected',
  1077: 'disconnected',
  1152: 'disconnected',
  1158: 'disconnected',
  1159: 'disconnected',
  1160: 'disconnected',
  1161: 'disconnected',
  1184: 'disconnected',
  1317: 'timeout',
  1927: 'disconnected',
  4031: 'disconnected',
  1044: 'refused',
  1045: 'refused',
  1049: 'refused',
  1129: 'refused',
  1130: 'refused',
  1142: 'refused',
  1227: 'refused',
  1251: 'refused',
  1698: 'refused',
};

const lostCodes = new Set([
  'PROTOCOL_CONNECTION_LOST',
  'PROTOCOL_SEQUENCE_TIMEOUT',
  'PROTOCOL_PACKETS_OUT_OF_ORDER',
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EPIPE',
  'EHOSTUNREACH',
  'ENETUNREACH',
]);

/** The kind of an error of mysql2. */
export function classifyMysql(error: unknown): SqlFaultKind {
  if (!(error instanceof Error)) return 'other';
  const number = 'errno' in error && typeof error.errno === 'number' ? error.errno : 0;
  const kind = kinds[number];
  if (kind !== undefined) return kind;
  const code = 'code' in error ? String(error.code) : '';
  if (lostCodes.has(code) || ('fatal' in error && error.fatal === true && number <= 0)) return 'disconnected';
  if (/closed state|Connection lost/.test(error.message)) return 'disconnected';
  if (code === 'HANDSHAKE_SSL_ERROR' || code === 'HANDSHAKE_NO_SSL_SUPPORT') return 'refused';
  return 'other';
}

// Dialect

const engine: Engine = {
  classify: classifyMysql,
  begin: {
    write: 'START TRANSACTION',
    read:
      'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; ' +
      'START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY',
  },
  interruptible: true,
  lane: () => 'all',
  pool: (_lane, limits) => limits,
  connect: async (options) => new MysqlConnection(await openClient(options, true)),
};

const quote = (name: string) => `\`${name.replaceAll('`', '``')}\``;

async function createDatabase(options: DriverOptions): Promise<void> {
  try {
    (await openClient(options, true)).destroy();
    return;
  } catch (error) {
    const unknownDatabase = error instanceof Error && 'errno' in error && error.errno === 1049;
    if (!unknownDatabase) throw toFault(engine, error, 'connect');
  }
  const { database } = parseMysqlUrl(options.url);
  try {
    const client = await openClient(options, false);
    try {
      await client.query(
        `CREATE DATABASE IF NOT EXISTS ${quote(database)} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
      );
    } finally {
      client.destroy();
    }
  } catch (error) {
    const { kind } = toFault(engine, error, 'connect');
    const message = `Could not create the database ${JSON.stringify(database)}: ${messageOf(error)}`;
    throw new SqlFault(kind, message, { cause: error });
  }
}

/** MySQL 8.0 and later, MariaDB 10.6 and later. */
export const mysql: Dialect = Object.freeze({
  name: 'mysql',
  sql,
  can: { notify: false, keyBytesMax: 2048, parametersMax: 65_535 },
  createDatabase,
  open: (options: DriverOptions) => createDriver(engine, options),
});
