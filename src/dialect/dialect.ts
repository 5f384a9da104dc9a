// The seam between the SQL store and a database engine. A dialect is strings, booleans and a driver; nothing outside
// it may branch on which engine runs. Types, and the one error class that crosses the seam.

import type { Histogram } from '../lib/histogram.ts';
import type { StatementEnd } from '../lib/observer.ts';

/** Integers of every width come back as bigint, always; binary columns as Buffer; NULL as null. */
export type SqlValue = bigint | number | string | Buffer | null;
export type Row = Readonly<Record<string, SqlValue>>;

/** `text` uses `?` for every parameter, in order, on every engine; `name` is for metrics and logs and is constant. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

/** A statement with its parameters. */
export interface Step {
  readonly statement: Statement;
  readonly params: readonly SqlValue[];
}

export interface QueryResult {
  readonly rows: readonly Row[];
  /** Rows inserted, updated or deleted (rows matched by an UPDATE, changed or not). */
  readonly affected: number;
}

/** One connection inside a transaction. A statement that failed ends it: nothing may follow but its rollback. */
export interface Session {
  query(statement: Statement, params: readonly SqlValue[]): Promise<QueryResult>;
  /**
   * What the transaction does last: once its body has resolved, the steps are run in order and committed, with fewer round
   * trips than `query` would take. They read nothing that the caller sees, and nothing may follow them.
   */
  finish(steps: readonly Step[]): void;
}

/** Which of several histories a server goes on with: each promotion of a replica begins another timeline of the same lineage. */
export interface Epoch {
  readonly lineage: bigint;
  readonly timeline: bigint;
}

/** What went wrong, in terms the store acts on. */
export type SqlFaultKind =
  | 'unique-violation'
  | 'not-null-violation'
  | 'serialization'
  | 'deadlock'
  | 'busy'
  | 'crowded'
  | 'disconnected'
  | 'timeout'
  | 'full'
  | 'read-only'
  | 'too-large'
  | 'refused'
  | 'other';

/**
 * A driver's error, classified. `refused`: wrong password, no permission, unknown database: a person must act. `crowded`: too many wait
 * for a connection, and the database was not asked.
 */
export class SqlFault extends Error {
  override readonly name = 'SqlFault';
  readonly kind: SqlFaultKind;
  /**
   * True when the failure came at or after the sending of COMMIT (or of an autocommitted statement that writes), so
   * that nobody knows whether the work is done.
   */
  readonly outcomeUnknown: boolean;
  constructor(
    kind: SqlFaultKind,
    message: string,
    options: ErrorOptions & { readonly outcomeUnknown?: boolean } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.kind = kind;
    this.outcomeUnknown = options.outcomeUnknown ?? false;
  }
}

/** What an engine can do, where it is neither SQL text nor I/O. */
export interface Capabilities {
  /** Driver.listen exists: commits of other processes are announced. */
  readonly notify: boolean;
  /** Statements that write may stand in the WITH of another, which then does what they do in one go. */
  readonly writesInWith: boolean;
  /** Longest key in bytes that the key columns take. */
  readonly keyBytesMax: number;
  /** Most parameters in one statement. */
  readonly parametersMax: number;
}

/** SQL that differs between engines. Everything else is in store/sql/statements.ts. */
export interface DialectSql {
  /** Column types. */
  readonly types: {
    readonly key: string;
    readonly value: string;
    readonly int64: string;
    readonly flag: string;
    /** Up to 255 characters. */
    readonly text: string;
  };
  /** Appended to CREATE TABLE (engine and character-set clauses), or empty. */
  readonly tableOptions: string;
  /** The same for tables whose rows have a primary key and little else. */
  readonly smallRowsOptions: string;
  /** An expression: milliseconds since the epoch by the database's clock, as a 64-bit integer. */
  readonly nowMs: string;
  /** Appended to a SELECT that must lock the rows it reads until the transaction ends; empty where a write transaction locks anyway. */
  readonly forUpdate: string;
  /**
   * Insert-or-replace of whole rows: `INSERT INTO table (columns) <source>` plus the clause that overwrites every column
   * not in `keyColumns`. `source` is `VALUES` with the row list and its placeholders, or a SELECT with a WHERE. Engines
   * count a replaced row in `affected` as one or as two.
   */
  upsert(table: string, columns: readonly string[], keyColumns: readonly string[], source: string): string;
  /** Insert that does nothing where the key exists already. */
  insertIgnore(table: string, columns: readonly string[], rows: string): string;
  /** Run first in the transaction that creates the tables, to keep others out of it until it ends; may be empty. */
  readonly lockSchema: readonly string[];
  /** A definition of a table or view commits what was before it in its transaction, and itself. */
  readonly definitionsCommit: boolean;
  /**
   * What creates the views `switchyard_objects` and `switchyard_history` for people, in order; each may be run again. Their columns
   * are the same on all engines, and no value makes them fail. `keyPrefix`: what the keys of Kubernetes begin with, without a slash at
   * its end.
   */
  views(keyPrefix: string): readonly string[];
  /** A query that gives one row (`size`, `used`): bytes of the whole database, and in use. */
  readonly size: string;
  /** An expression that wakes other processes' feeds when the transaction commits; undefined without `can.notify`. */
  readonly notify?: string;
}

/** Executions of statements of one name. */
export interface StatementStats {
  readonly seconds: Histogram;
  /** How many ended so: `ok`, `canceled`, or the kind of the fault. */
  readonly outcomes: ReadonlyMap<string, number>;
}

/** The connections for one use. */
export interface PoolStats {
  readonly max: number;
  readonly idle: number;
  readonly lent: number;
  readonly opening: number;
  /** Callers that wait for one. */
  readonly waiting: number;
  /** Since the start: connections that were made, attempts that failed, and callers that were refused since too many waited. */
  readonly opened: number;
  readonly failed: number;
  readonly refused: number;
  /** Callers that waited for too long. */
  readonly late: number;
}

export interface DriverStats {
  /** By lane: which use the connections are for. */
  readonly pools: ReadonlyMap<string, PoolStats>;
  readonly statements: ReadonlyMap<string, StatementStats>;
}

export interface PoolOptions {
  /** Most connections at once. */
  readonly connectionsMax: number;
  readonly idleConnectionsMax?: number;
  readonly lifeTimeMs?: number;
  readonly idleLifeTimeMs?: number;
  /** How long a connection attempt, and a wait for a free connection, may take. */
  readonly connectTimeoutMs: number;
  /** How long one statement may take. */
  readonly statementTimeoutMs: number;
}

export interface DriverOptions {
  readonly url: string;
  readonly tls?: {
    readonly caFile?: string;
    readonly certFile?: string;
    readonly keyFile?: string;
    readonly skipVerify: boolean;
  };
  /** Read when a connection is opened, in the place of the URL's password. */
  readonly passwordFile?: string;
  readonly pool: PoolOptions;
  /** Hears of everything that the database was asked, when it has answered. */
  readonly answered?: (end: Answered) => void;
}

/** See StatementEnd; the driver does not know the store's name. */
export type Answered = Omit<StatementEnd, 'store' | 'engine'>;

/** What is to be done before anything else on a server that has taken over. `before`: the epoch entered last. */
export type Enter = (session: Session, epoch: Epoch, before: Epoch | undefined) => Promise<void>;

/** An engine's connections. Every rejection is a SqlFault (or the abort reason of the given signal). */
export interface Driver {
  /**
   * One statement, committed by itself. An abort makes it reject early where the engine can; the connection is then
   * discarded, never reused in an unknown state.
   */
  query(statement: Statement, params: readonly SqlValue[], signal?: AbortSignal): Promise<QueryResult>;
  /** As `query`, for a read that a writer waits for: over a writer's connection, where no crowd of readers is before it. */
  queryForWriter(statement: Statement, params: readonly SqlValue[]): Promise<QueryResult>;
  /**
   * Runs `body` in a transaction: committed when it resolves, rolled back when it rejects. `write` transactions see the
   * latest committed rows in each statement (READ COMMITTED, or the whole database locked); `read` ones see one
   * snapshot. On SQLite a `write` transaction takes the write lock at its start.
   */
  transaction<T>(
    mode: 'read' | 'write',
    body: (session: Session) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T>;
  /**
   * A write transaction that begins with `opening`, in order, in one round trip with its beginning where the engine can; `body`
   * gets the results. They only read: one may be done although the server has not begun the transaction, which then fails.
   */
  writeAfter<T>(
    opening: readonly Step[],
    body: (session: Session, opened: readonly QueryResult[]) => Promise<T>,
  ): Promise<T>;
  /**
   * Runs `steps` in order in one write transaction and commits it, in one round trip where the engine can; the first step that
   * fails undoes all. Steps read nothing that the caller sees. `outcomeUnknown` is set when the commit may have happened.
   */
  script(steps: readonly Step[]): Promise<void>;
  /**
   * From now on `enter` runs in a write transaction of its own on the first connection to a server of an epoch not entered yet,
   * before anything else does; when it fails, so does what was to come after it. Absent where engines tell of no epochs.
   */
  entering?(enter: Enter): void;
  /** Calls `onHint` when another process may have committed, and after each reconnect; runs until aborted. */
  listen?(onHint: () => void, signal: AbortSignal): Promise<void>;
  stats(): DriverStats;
  /** Waits for what is running, then closes every connection. */
  close(): Promise<void>;
}

export interface Dialect {
  /** For logs and metrics; nobody may branch on it. */
  readonly name: 'postgres' | 'mysql' | 'sqlite';
  readonly sql: DialectSql;
  readonly can: Capabilities;
  /** Creates the database when it is missing. @throws SqlFault when it cannot be reached or created. */
  createDatabase(options: DriverOptions): Promise<void>;
  /** Does no I/O that can fail: connections are made when first needed. */
  open(options: DriverOptions): Driver;
}
