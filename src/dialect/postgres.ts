// PostgreSQL through the pg package: strings, capabilities, connections. Used by store/open.ts. Its parts are in
// postgres-*.ts. Invariant: a COMMIT that is answered is on disk.

import pg from 'pg';
import {
  SqlFault,
  type Dialect,
  type DialectSql,
  type Driver,
  type DriverOptions,
  type Epoch,
  type QueryResult,
  type SqlValue,
  type Step,
} from './dialect.ts';
import { onConflict } from './on-conflict.ts';
import { createDriver } from './driver.ts';
import { serverLanes, writeLane, writePauseMaxMs, type Connection, type Engine } from './engine.ts';
import { messageOf, toFault } from './faults.ts';
import { withFirst } from './hosts.ts';
import { closeClient, insideOf, openClient } from './postgres-client.ts';
import { classifyPostgres, codeOf } from './postgres-faults.ts';
import { hostNames, postgresHosts, standingOf } from './postgres-hosts.ts';
import { channel, listen } from './postgres-listen.ts';
import { queryRows } from './postgres-rows.ts';
import { Texts } from './postgres-texts.ts';
import { parsePostgresUrl } from './postgres-url.ts';
import { postgresViews } from './postgres-views.ts';
import { scriptText } from './script-text.ts';

// SQL

/** Constant of the advisory lock for schema changes; advisory locks are per database. */
const schemaLockKey = 8_315_178_139_273_720_164n;

const sql: DialectSql = {
  types: { key: 'bytea', value: 'bytea', int64: 'bigint', flag: 'smallint', text: 'text' },
  tableOptions: '',
  smallRowsOptions: '',
  nowMs: '(extract(epoch FROM clock_timestamp()) * 1000)::bigint',
  forUpdate: 'FOR UPDATE',
  ...onConflict,
  lockSchema: [`SELECT pg_advisory_xact_lock(${schemaLockKey})`],
  definitionsCommit: false,
  views: postgresViews,
  size: `SELECT pg_database_size(current_database()) AS size,
    (SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
      WHERE relkind = 'r' AND relname LIKE 'switchyard\\_%') AS used`,
  notify: `pg_notify('${channel}', '')`,
};

// Connection

/** What the connections of one driver have in common. */
interface Shared {
  readonly texts: Texts;
  /** Off where a pooler stands between, which may lose prepared statements. */
  readonly canPrepare: boolean;
  readonly processIds: Set<number>;
}

/** A value as it stands in a statement. Bytes are hexadecimal, whatever they are. */
function literal(value: Exclude<SqlValue, null>): string {
  if (Buffer.isBuffer(value)) return `decode('${value.toString('hex')}', 'hex')`;
  return typeof value === 'string' ? pg.escapeLiteral(value) : String(value);
}

/** Of warnings that have no code of their own. */
const warningCode = '01000';

class PostgresConnection implements Connection {
  readonly #client: pg.Client;
  readonly #shared: Shared;
  /** The id of the server process behind it, as notifications name their sender. */
  readonly #processId: number | undefined;
  readonly epoch: Epoch | undefined;
  #usable = true;
  /** Since the last commit. */
  #warning: string | undefined;

  constructor(client: pg.Client, shared: Shared, epoch: Epoch | undefined) {
    this.epoch = epoch;
    this.#client = client;
    this.#shared = shared;
    // Not in the package's types.
    this.#processId = (client as { readonly processID?: number }).processID;
    if (this.#processId !== undefined) shared.processIds.add(this.#processId);
    const lost = () => {
      this.#usable = false;
    };
    client.on('error', lost);
    client.on('end', lost);
    client.on('notice', ({ code, message }) => {
      if (code === warningCode) this.#warning = message;
    });
  }

  async run(text: string, params: readonly SqlValue[]): Promise<QueryResult> {
    const prepared = this.#shared.texts.find(text);
    const name = this.#shared.canPrepare ? prepared.name : undefined;
    try {
      return await queryRows(this.#client, { text: prepared.text, values: params, name });
    } catch (error) {
      this.#noteLost(error);
      throw error;
    }
  }

  /** The tables changed under a prepared statement, or somebody else's pooler lost it. */
  #noteLost(error: unknown): void {
    if (codeOf(error) === '0A000' || codeOf(error) === '26000') this.#usable = false;
  }

  async control(text: string): Promise<void> {
    const { command } = await this.#client.query(text);
    if (text === 'COMMIT' && command !== 'COMMIT') {
      throw new SqlFault('other', 'The transaction was rolled back by the server');
    }
    if (text === 'COMMIT') this.#checkReplicated();
  }

  /** One statement commits by itself. */
  async script(begin: string, steps: readonly Step[]): Promise<void> {
    const [guard, ...others] = steps;
    if (others.length === 0 && guard !== undefined) {
      const { affected, rows } = await this.#step(guard);
      if (affected === 0 && rows.length === 0)
        throw new SqlFault('other', `Expected ${guard.statement.name} to write, it did not`);
      this.#checkReplicated();
      return;
    }
    await this.#whole(async () => {
      // As one message: on its own the guard would be done, and by itself, also where the server refuses to begin. And the server's
      // log has what it refuses: that is to be the guard, and not what follows it.
      await this.control([begin, ...scriptText(steps.slice(0, 1), literal)].join('; '));
      await this.#inOrder(() => [...others.map((step) => this.#step(step)), this.control('COMMIT')]);
    });
  }

  async begin(text: string, steps: readonly Step[]): Promise<readonly QueryResult[]> {
    return await this.#whole(async () => {
      let results: readonly Promise<QueryResult>[] = [];
      await this.#inOrder(() => {
        const began = this.control(text);
        results = steps.map((step) => this.#step(step));
        return [began, ...results];
      });
      return await Promise.all(results);
    });
  }

  async finish(steps: readonly Step[]): Promise<void> {
    // After a step that has failed COMMIT rolls back.
    await this.#whole(() =>
      this.#inOrder(() => [...steps.map((step) => this.#step(step)), this.control('COMMIT')]),
    );
  }

  /**
   * Sends in one piece what `ask` asks, waits for all answers, which come in the same order, and tells the first failure, if
   * there is one.
   */
  async #inOrder(ask: () => readonly Promise<unknown>[]): Promise<void> {
    const { stream } = insideOf(this.#client).connection;
    stream.cork();
    const work = ask();
    stream.uncork();
    await Promise.allSettled(work);
    await Promise.all(work);
  }

  #step({ statement, params }: Step): Promise<QueryResult> {
    return this.run(statement.text, params);
  }

  /** Leaves no transaction open when `work` fails. */
  async #whole<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.#noteLost(error);
      await this.#client.query('ROLLBACK').catch(() => {
        this.#usable = false;
      });
      throw error;
    }
  }

  /**
   * With synchronous replication a commit may be made to wait no longer for the replica: the server then answers as if it were
   * done, with a warning. It is there, but a failover may lose it.
   */
  #checkReplicated(): void {
    const warning = this.#warning;
    this.#warning = undefined;
    if (warning !== undefined) throw new SqlFault('other', warning, { outcomeUnknown: true });
  }

  isUsable(): boolean {
    return this.#usable;
  }

  async close(): Promise<void> {
    this.#usable = false;
    if (this.#processId !== undefined) this.#shared.processIds.delete(this.#processId);
    await closeClient(this.#client);
  }
}

// Dialect

function createEngine(shared: Shared): Engine {
  return {
    classify: classifyPostgres,
    begin: {
      write: 'BEGIN ISOLATION LEVEL READ COMMITTED',
      read: 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY',
    },
    interruptible: true,
    ...serverLanes,
    async connect(options, lane, host) {
      const use = lane === writeLane ? { pauseMaxMs: writePauseMaxMs } : {};
      const client = await openClient(options, { host, ...use });
      try {
        const { target } = parsePostgresUrl(options.url);
        const timeoutMs = options.pool.connectTimeoutMs;
        const standing = await standingOf(client, { target, timeoutMs });
        if (!standing.usable) throw standing.fault;
        return new PostgresConnection(client, shared, standing.epoch);
      } catch (error) {
        void closeClient(client);
        throw error;
      }
    },
  };
}

function open(options: DriverOptions): Driver {
  const processIds = new Set<number>();
  const canPrepare = !/[?&]prepared=off(?:&|$)/.test(options.url);
  const hosts = postgresHosts(options);
  const driver = createDriver(createEngine({ texts: new Texts(), canPrepare, processIds }), options, hosts);
  const isOwn = (processId: number) => processIds.has(processId);
  return Object.assign(driver, {
    listen: (onHint: () => void, signal: AbortSignal) =>
      listen({ driver: options, hosts, onHint, isOwn, signal }),
  });
}

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

async function createDatabase(options: DriverOptions): Promise<void> {
  await withFirst(hostNames(options), (host) => createOn(options, host));
}

async function createOn(options: DriverOptions, host: number): Promise<void> {
  try {
    void closeClient(await openClient(options, { host }));
    return;
  } catch (error) {
    if (codeOf(error) !== '3D000') throw toFault({ classify: classifyPostgres }, error, 'connect');
  }
  const { database } = parsePostgresUrl(options.url);
  try {
    const client = await openClient(options, { host, database: 'postgres' });
    try {
      await client.query('SET statement_timeout = 0');
      await client.query(`CREATE DATABASE ${quote(database)}`);
    } finally {
      void closeClient(client);
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
  can: { notify: true, writesInWith: true, keyBytesMax: 2048, parametersMax: 65_535 },
  createDatabase,
  open,
});
