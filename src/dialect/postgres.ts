// PostgreSQL through the pg package: strings, capabilities, connections. Used by store/open.ts. Its parts are in
// postgres-*.ts. Invariant: a COMMIT that is answered is on disk.

import pg from 'pg';
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
import { onConflict } from './on-conflict.ts';
import { scriptText } from './script-text.ts';
import {
  createDriver,
  messageOf,
  serverLanes,
  toFault,
  writeLane,
  writePauseMaxMs,
  type Connection,
  type Engine,
} from './driver.ts';
import { closeClient, openClient } from './postgres-client.ts';
import { classifyPostgres, codeOf } from './postgres-faults.ts';
import { channel, listen } from './postgres-listen.ts';
import { queryRows } from './postgres-rows.ts';
import { Texts } from './postgres-texts.ts';
import { parsePostgresUrl } from './postgres-url.ts';

// SQL

/** Constant of the advisory lock for schema changes; advisory locks are per database. */
const schemaLockKey = 8_315_178_139_273_720_164n;

const sql: DialectSql = {
  types: { key: 'bytea', value: 'bytea', int64: 'bigint', flag: 'smallint' },
  tableOptions: '',
  smallRowsOptions: '',
  nowMs: '(extract(epoch FROM clock_timestamp()) * 1000)::bigint',
  forUpdate: 'FOR UPDATE',
  ...onConflict,
  lockSchema: [`SELECT pg_advisory_xact_lock(${schemaLockKey})`],
  size: `SELECT pg_database_size(current_database()) AS size,
    (SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
      WHERE relkind = 'r' AND relname LIKE 'switchyard\\_%') AS used`,
  notify: `pg_notify('${channel}', '')`,
};

/** A value as it stands in a statement. Bytes are hexadecimal, whatever they are. */
function literal(value: Exclude<SqlValue, null>): string {
  if (Buffer.isBuffer(value)) return `decode('${value.toString('hex')}', 'hex')`;
  return typeof value === 'bigint' ? String(value) : pg.escapeLiteral(String(value));
}

// Connection

/** What the connections of one driver have in common. */
interface Shared {
  readonly texts: Texts;
  /** Off where a pooler stands between, which may lose prepared statements. */
  readonly canPrepare: boolean;
  readonly processIds: Set<number>;
}

class PostgresConnection implements Connection {
  readonly #client: pg.Client;
  readonly #shared: Shared;
  /** The id of the server process behind it, as notifications name their sender. */
  readonly #processId: number | undefined;
  #usable = true;

  constructor(client: pg.Client, shared: Shared) {
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
  }

  async run(text: string, params: readonly SqlValue[]): Promise<QueryResult> {
    const prepared = this.#shared.texts.find(text);
    const name = this.#shared.canPrepare ? prepared.name : undefined;
    try {
      return await queryRows(this.#client, { text: prepared.text, values: params, name });
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

  /**
   * One statement commits by itself. Of several the first goes ahead, the others as one text: the server's log has the whole
   * text of what it refuses, and that is to be the guard, not the values.
   */
  async script(begin: string, steps: readonly Step[]): Promise<void> {
    const [first, ...others] = steps;
    if (others.length === 0 && first !== undefined) {
      const { affected, rows } = await this.run(first.statement.text, first.params);
      if (affected === 0 && rows.length === 0)
        throw new SqlFault('other', `Expected ${first.statement.name} to write, it did not`);
      return;
    }
    const [guard = '', ...texts] = scriptText(steps, literal);
    await this.#whole(async () => {
      await this.#client.query(`${begin};\n${guard}`);
      await this.#client.query([...texts, 'COMMIT'].join(';\n'));
    });
  }

  /** A lone statement is prepared, which costs a round trip and saves the reading of a long text. */
  async finish(steps: readonly Step[]): Promise<void> {
    const [first, ...others] = steps;
    await this.#whole(async () => {
      if (first !== undefined && others.length === 0) {
        await this.run(first.statement.text, first.params);
        await this.control('COMMIT');
      } else await this.#client.query([...scriptText(steps, literal), 'COMMIT'].join(';\n'));
    });
  }

  /** Leaves no transaction open when `work` fails. */
  async #whole(work: () => Promise<void>): Promise<void> {
    try {
      await work();
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
    if (this.#processId !== undefined) this.#shared.processIds.delete(this.#processId);
    await this.#client.end().catch(() => undefined);
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
    async connect(options, lane) {
      const use = lane === writeLane ? { pauseMaxMs: writePauseMaxMs } : {};
      return new PostgresConnection(await openClient(options, use), shared);
    },
  };
}

function open(options: DriverOptions): Driver {
  const processIds = new Set<number>();
  const canPrepare = !/[?&]prepared=off(?:&|$)/.test(options.url);
  const driver = createDriver(createEngine({ texts: new Texts(), canPrepare, processIds }), options);
  const isOwn = (processId: number) => processIds.has(processId);
  return Object.assign(driver, {
    listen: (onHint: () => void, signal: AbortSignal) => listen({ driver: options, onHint, isOwn, signal }),
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
    const client = await openClient(options, { database: 'postgres' });
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
  can: { notify: true, writesInWith: true, keyBytesMax: 2048, parametersMax: 65_535 },
  createDatabase,
  open,
});
