// MySQL 8 and MariaDB 10.6+ through the mysql2 package: strings, capabilities, connections. Used by store/open.ts. Its
// address and faults are in mysql-*.ts. Invariant: only syntax that both servers accept; the SQL mode is strict, so nothing is cut off silently.

import driverPackage, { type Connection as Client } from 'mysql2/promise';
import {
  SqlFault,
  type Dialect,
  type DialectSql,
  type Driver,
  type DriverOptions,
  type QueryResult,
  type SqlValue,
  type Step,
} from './dialect.ts';
import { createDriver } from './driver.ts';
import { serverLanes, writeLane, writePauseMaxMs, type Engine } from './engine.ts';
import { messageOf, toFault } from './faults.ts';
import { mysqlErrors } from './mysql-faults.ts';
import { withFirst } from './hosts.ts';
import { NodeConnection, type PlainConnection } from './mysql-node.ts';
import { hostNames, mysqlHosts, settle, type ServerFacts } from './mysql-hosts.ts';
import {
  bytesOf,
  convertRows,
  literal,
  requestOverheadBytes,
  rowsOf,
  toAffected,
  toChanged,
  toParameter,
  type Field,
  type Header,
  type RawRow,
  type Several,
} from './mysql-values.ts';
import { mysqlTls, parseMysqlUrl } from './mysql-url.ts';
import { mysqlViews } from './mysql-views.ts';
import { passwordOf } from './password.ts';
import { scriptText } from './script-text.ts';

// The package loads some of its exports when they are first used; only its default export has them all.
const { createConnection } = driverPackage;

// SQL

const tableOptions = 'ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4';

const sql: DialectSql = {
  types: {
    key: 'varbinary(2048)',
    value: 'longblob',
    int64: 'bigint',
    flag: 'tinyint',
    text: 'varchar(255)',
  },
  tableOptions,
  smallRowsOptions: tableOptions,
  nowMs: 'CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)',
  forUpdate: 'FOR UPDATE',
  upsert(table, columns, keyColumns, source) {
    const others = columns.filter((column) => !keyColumns.includes(column));
    const changed = others.length === 0 ? keyColumns : others;
    const action = changed.map((name) => `${name} = VALUES(${name})`).join(', ');
    return `INSERT INTO ${table} (${columns.join(', ')}) ${source} ON DUPLICATE KEY UPDATE ${action}`;
  },
  insertIgnore(table, columns, rows) {
    // Not INSERT IGNORE, which also turns other errors (a value that does not fit) into warnings.
    const action = `${columns[0]} = ${table}.${columns[0]}`;
    return `INSERT INTO ${table} (${columns.join(', ')}) VALUES ${rows} ON DUPLICATE KEY UPDATE ${action}`;
  },
  // IF NOT EXISTS is safe against another process here, and a lock by name would stay with its connection after a failure.
  lockSchema: [],
  definitionsCommit: true,
  views: mysqlViews,
  size: `SELECT CAST(COALESCE(SUM(data_length + index_length + data_free), 0) AS SIGNED) AS size,
    CAST(COALESCE(SUM(data_length + index_length), 0) AS SIGNED) AS used
    FROM information_schema.tables WHERE table_schema = DATABASE()`,
};

// Statements

/** Server-side prepared statements per connection; the server's limit (16,382) counts those of all connections. */
const preparedMax = 250;
// Connection

const keepAliveDelayMs = 15_000;
/**
 * The server ends a connection that says nothing for so long, and with it what a gateway that is gone has locked. Where statements may
 * take longer, so may the silence between two of a transaction.
 */
const silenceMaxSeconds = 90;
/** The pool is to end idle connections first; it looks after them once in this time. */
const idleLifeTimeMaxMs = 30_000;

/**
 * How long a statement waits for a lock: longer than a silent transaction lasts, and not as long as a statement may take. The server
 * does not see a deadlock of a row with a table that is being flushed (OPTIMIZE TABLE, FLUSH TABLES): only this ends it.
 */
const lockWaitMaxMs = 5_000;

interface ClientUse {
  /** By its place among the hosts of the URL; default: the first. */
  readonly host?: number;
  readonly withDatabase: boolean;
  /** The longest silence within a transaction; default: the statement timeout. */
  readonly pauseMaxMs?: number;
}

async function openClient(options: DriverOptions, use: ClientUse): Promise<Client> {
  const address = parseMysqlUrl(options.url);
  const ssl = await mysqlTls(address, options.tls);
  const client = await createConnection({
    ...address.hosts[use.host ?? 0],
    user: address.user,
    password: await passwordOf(options, address.password),
    ...(use.withDatabase ? { database: address.database } : {}),
    ...(ssl === undefined ? {} : { ssl }),
    connectTimeout: options.pool.connectTimeoutMs,
    enableKeepAlive: true,
    keepAliveInitialDelay: keepAliveDelayMs,
    charset: 'utf8mb4',
    supportBigNumbers: true,
    bigNumberStrings: true,
    maxPreparedStatements: preparedMax,
    // Scripts, and the two statements that begin a read transaction, go in one round trip; other texts with parameters are
    // prepared, alone.
    multipleStatements: true,
    // Without it an INSERT that finds its key says 0, and UPDATE says how many it matched in its remark.
    flags: ['-FOUND_ROWS'],
  });
  client.on('error', () => undefined);
  try {
    // The connect timeout ends with the handshake; a server that hangs behind it must not hold the caller.
    const { statementTimeoutMs } = options.pool;
    const pauseMaxMs = Math.min(use.pauseMaxMs ?? statementTimeoutMs, statementTimeoutMs);
    const sql_ = sessionSetup({ statementTimeoutMs, pauseMaxMs });
    await client.query({ sql: sql_, timeout: options.pool.connectTimeoutMs });
  } catch (error) {
    client.destroy();
    throw error;
  }
  return client;
}

/** The two comment forms are read by MySQL 8 alone and by MariaDB alone. */
function sessionSetup(limits: { readonly statementTimeoutMs: number; readonly pauseMaxMs: number }): string {
  const { statementTimeoutMs } = limits;
  const lockWaitMs = Math.min(lockWaitMaxMs, statementTimeoutMs);
  const [seconds, pauseSeconds, lockSeconds] = [statementTimeoutMs, limits.pauseMaxMs, lockWaitMs].map((ms) =>
    Math.ceil(ms / 1000),
  );
  const silenceSeconds = Math.max(silenceMaxSeconds, Math.ceil(limits.pauseMaxMs / 1000));
  return `SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO',
    time_zone = '+00:00', autocommit = 1, wait_timeout = ${silenceSeconds},
    innodb_lock_wait_timeout = ${lockSeconds}, lock_wait_timeout = ${lockSeconds},
    net_write_timeout = ${pauseSeconds}
    /*!80000 , information_schema_stats_expiry = 0, max_execution_time = ${Math.ceil(statementTimeoutMs)} */
    /*M! , max_statement_time = ${seconds}, idle_transaction_timeout = ${pauseSeconds} */;
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED`;
}

class MysqlConnection implements PlainConnection {
  changedRows = 0;
  readonly #client: Client;
  readonly #requestBytesMax: number;
  #usable = true;

  constructor(client: Client, { requestBytesMax }: ServerFacts) {
    this.#client = client;
    this.#requestBytesMax = requestBytesMax;
    const lost = () => {
      this.#usable = false;
    };
    client.on('error', lost);
    client.on('end', lost);
  }

  async run(text: string, params: readonly SqlValue[]): Promise<QueryResult> {
    const bytes = bytesOf(text, params);
    // The server would read no further than its limit and hang up, which looks like a lost connection.
    if (bytes > this.#requestBytesMax) {
      throw new SqlFault(
        'too-large',
        `Expected a statement of at most ${this.#requestBytesMax} bytes (max_allowed_packet of the server), got ${bytes}`,
      );
    }
    const [result, fields] = await this.#client.execute(text, params.map(toParameter) as never);
    if (!Array.isArray(result)) {
      this.changedRows += toChanged(result as Header, text);
      return { rows: [], affected: toAffected(result as Header, text) };
    }
    return { rows: convertRows(result as RawRow[], fields as unknown as Field[]), affected: 0 };
  }

  async control(text: string): Promise<void> {
    await this.#client.query(text);
  }

  async single(text: string): Promise<string> {
    const [results] = await this.#client.query({ sql: text, rowsAsArray: true });
    return String((results as unknown[][][]).find(Array.isArray)?.[0]?.[0]);
  }

  /**
   * One request of plain text. The server stops at the first statement that fails, and then the transaction is still open.
   * What is too large for one request goes step by step.
   */
  async script(begin: string, steps: readonly Step[]): Promise<void> {
    await this.#run({ begin, end: 'COMMIT' }, steps);
  }

  async begin(text: string, steps: readonly Step[]): Promise<readonly QueryResult[]> {
    return await this.#run({ begin: text }, steps);
  }

  async finish(steps: readonly Step[]): Promise<void> {
    await this.#run({ end: 'COMMIT' }, steps);
  }

  /** As one request, or step by step where that cannot be. Leaves no transaction open when it fails. */
  async #run(
    { begin, end }: { readonly begin?: string; readonly end?: string },
    steps: readonly Step[],
  ): Promise<readonly QueryResult[]> {
    const first = begin === undefined ? [] : [begin];
    const text = [...first, ...scriptText(steps, literal), ...(end === undefined ? [] : [end])].join(';\n');
    try {
      if (Buffer.byteLength(text) + requestOverheadBytes <= this.#requestBytesMax) {
        const [results, fields] = (await this.#client.query(text)) as unknown as Several;
        // Of a lone statement there is no list, but nobody asks for its rows.
        return steps.map((_, index) => rowsOf(results[first.length + index], fields?.[first.length + index]));
      }
      if (begin !== undefined) await this.control(begin);
      const results: QueryResult[] = [];
      for (const { statement, params } of steps) results.push(await this.run(statement.text, params));
      if (end !== undefined) await this.control(end);
      return results;
    } catch (error) {
      await this.#client.query('ROLLBACK').catch(() => {
        this.#usable = false;
      });
      throw error;
    }
  }

  isUsable(): boolean {
    return this.#usable;
  }

  async close(): Promise<void> {
    this.#usable = false;
    this.#client.destroy();
  }
}

// Dialect

const engine: Engine = {
  ...mysqlErrors,
  begin: {
    write: 'START TRANSACTION',
    read:
      'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; ' +
      'START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY',
  },
  interruptible: true,
  lane: serverLanes.lane,
  pool: (lane, options) => ({
    ...serverLanes.pool(lane, options),
    idleLifeTimeMs: Math.min(options.idleLifeTimeMs ?? idleLifeTimeMaxMs, idleLifeTimeMaxMs),
  }),
  async connect(options, lane, host) {
    const client = await openClient(options, {
      host,
      withDatabase: true,
      ...(lane === writeLane ? { pauseMaxMs: writePauseMaxMs } : {}),
    });
    try {
      const facts = await settle(client, options);
      const connection = new MysqlConnection(client, facts);
      return facts.isNode && lane === writeLane ? new NodeConnection(connection) : connection;
    } catch (error) {
      client.destroy();
      throw error;
    }
  },
};

const quote = (name: string) => `\`${name.replaceAll('`', '``')}\``;

async function createDatabase(options: DriverOptions): Promise<void> {
  await withFirst(hostNames(options), (host) => createOn(options, host));
}

async function createOn(options: DriverOptions, host: number): Promise<void> {
  try {
    (await openClient(options, { host, withDatabase: true })).destroy();
    return;
  } catch (error) {
    const unknownDatabase = error instanceof Error && 'errno' in error && error.errno === 1049;
    if (!unknownDatabase) throw toFault(engine, error, 'connect');
  }
  const { database } = parseMysqlUrl(options.url);
  try {
    const client = await openClient(options, { host, withDatabase: false });
    try {
      await settle(client, options);
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

/** A driver over the hosts of the endpoint. */
function open(options: DriverOptions): Driver {
  const hosts = mysqlHosts(options, (host) => openClient(options, { host, withDatabase: true }));
  return createDriver(engine, options, hosts);
}

/** MySQL 8.0 and later, MariaDB 10.6 and later. */
export const mysql: Dialect = Object.freeze({
  name: 'mysql',
  sql,
  can: { notify: false, writesInWith: false, keyBytesMax: 2048, parametersMax: 65_535 },
  createDatabase,
  open,
});
