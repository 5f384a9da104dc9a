// SQLite through node:sqlite in worker threads: strings, capabilities, connections. Used by store/open.ts. Invariant:
// one write connection per file in this process; other processes are kept out by SQLite's own locks.

import { Worker } from 'node:worker_threads';
import { dirname, resolve } from 'node:path';
import {
  SqlFault,
  type Dialect,
  type DialectSql,
  type DriverOptions,
  type QueryResult,
  type SqlFaultKind,
  type SqlValue,
  type Step,
} from './dialect.ts';
import { onConflict } from './on-conflict.ts';
import { createDriver } from './driver.ts';
import type { Connection, Engine } from './engine.ts';
import { makeFolder } from '../lib/folder.ts';
import type { Answer, Request, WireValue, WorkerSettings } from './sqlite-wire.ts';
import { unknownFile, type KnownFile } from './sqlite-file.ts';
import { unpackRows } from './sqlite-rows.ts';
import { sqliteViews } from './sqlite-views.ts';
import { refuse } from './url.ts';

// SQL

const sql: DialectSql = {
  types: { key: 'blob', value: 'blob', int64: 'integer', flag: 'integer', text: 'text' },
  tableOptions: '',
  // Rows in the tree of their key, instead of beside it.
  smallRowsOptions: 'WITHOUT ROWID',
  nowMs: `CAST(round(unixepoch('subsec') * 1000) AS INTEGER)`,
  forUpdate: '',
  ...onConflict,
  // A write transaction locks the whole database from its start.
  lockSchema: [],
  definitionsCommit: false,
  views: sqliteViews,
  size: `SELECT page_count * page_size AS size, (page_count - freelist_count) * page_size AS used
    FROM pragma_page_count(), pragma_page_size(), pragma_freelist_count()`,
};

// Address

/** The path in `sqlite://./relative.db` or `sqlite:///absolute.db`. @throws SqlFault */
export function parseSqliteUrl(text: string): string {
  const match = /^sqlite:\/\/([^?#]*)([?#].*)?$/.exec(text);
  const path = match?.[1] ?? '';
  if (match?.[2] !== undefined) refuse('no parameters in the SQLite URL', match[2]);
  if (path === '' || path.endsWith('/') || path.includes(':memory:')) {
    refuse('a URL of the form sqlite://./relative.db or sqlite:///absolute.db', text);
  }
  try {
    return resolve(decodeURIComponent(path));
  } catch {
    refuse('a percent-encoded path in the SQLite URL', text);
  }
}

// Faults of the thread

/** SQLite's extended result code, or the system's code, with the message. */
class SqliteError extends Error {
  readonly errcode: number;
  readonly code: string;
  constructor(message: string, errcode: number, code: string) {
    super(message);
    this.errcode = errcode;
    this.code = code;
  }
}

/** The worker is gone. */
class WorkerLostError extends Error {}

// Values

/** A view of its own bytes: cloning a part of a shared allocation would clone all of it. */
function toWire(value: SqlValue): WireValue {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value);
  if (!Buffer.isBuffer(value)) return value;
  return value.byteLength === value.buffer.byteLength ? value : new Uint8Array(value);
}

// Connection

/** Threads for single SELECTs, so that a long one does not hold up the short ones. */
const readersMax = 2;
/** Another process's write lock is waited for this long, or the statement timeout if that is shorter. */
const busyTimeoutMaxMs = 5_000;

interface Pending {
  readonly resolve: (answer: Answer & { ok: true }) => void;
  readonly reject: (error: Error) => void;
}

/** MiB of heap of a thread: rows under way are outside of it. Without a limit a thread lets some hundred MiB of garbage lie. */
const threadMemory = { maxYoungGenerationSizeMb: 16, maxOldGenerationSizeMb: 128 };

class SqliteConnection implements Connection {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  readonly #exited: Promise<void>;
  #usable = true;
  #lastId = 0;

  constructor(settings: WorkerSettings) {
    const file = import.meta.url.endsWith('.ts') ? './sqlite-worker.ts' : './sqlite-worker.js';
    this.#worker = new Worker(new URL(file, import.meta.url), {
      workerData: settings,
      name: 'sqlite',
      resourceLimits: threadMemory,
    });
    this.#worker.on('message', (answer: Answer) => this.#settle(answer));
    this.#worker.on('error', (error: Error) => this.#lose(error));
    this.#exited = new Promise((done) => {
      this.#worker.on('exit', () => {
        this.#lose(new Error('the thread has ended'));
        done();
      });
    });
  }

  async open(): Promise<void> {
    await this.#ask((id) => ({ id, kind: 'open' }));
  }

  async run(text: string, params: readonly SqlValue[]): Promise<QueryResult> {
    const wire = params.map(toWire);
    const { columns, packed, affected } = await this.#ask((id) => ({ id, kind: 'run', text, params: wire }));
    return { rows: unpackRows(columns, packed), affected };
  }

  async control(text: string): Promise<void> {
    await this.#ask((id) => ({ id, kind: 'control', text }));
  }

  async script(begin: string, steps: readonly Step[]): Promise<void> {
    await this.#script(begin, steps);
  }

  /** The thread takes one message after the other. */
  async begin(text: string, steps: readonly Step[]): Promise<readonly QueryResult[]> {
    const began = this.control(text);
    const results = Promise.all(steps.map(({ statement, params }) => this.run(statement.text, params)));
    const [beginning, reading] = await Promise.allSettled([began, results]);
    if (beginning.status === 'rejected') throw beginning.reason;
    if (reading.status === 'fulfilled') return reading.value;
    await this.control('ROLLBACK');
    throw reading.reason;
  }

  async finish(steps: readonly Step[]): Promise<void> {
    await this.#script(undefined, steps);
  }

  async #script(begin: string | undefined, steps: readonly Step[]): Promise<void> {
    const wire = steps.map(({ statement, params }) => ({ text: statement.text, params: params.map(toWire) }));
    await this.#ask((id) => ({ id, kind: 'script', begin, steps: wire }));
  }

  isUsable(): boolean {
    return this.#usable;
  }

  /** Waits for a running statement: a thread inside SQLite cannot be stopped, and its lock must be gone after this. */
  async close(): Promise<void> {
    if (this.#usable) {
      this.#usable = false;
      this.#worker.ref();
      this.#worker.postMessage({ id: 0, kind: 'close' } satisfies Request);
    }
    await this.#exited;
  }

  #ask(make: (id: number) => Request): Promise<Answer & { ok: true }> {
    return new Promise((resolve_, reject) => {
      if (!this.#usable) return reject(new WorkerLostError('The SQLite thread is gone'));
      const id = ++this.#lastId;
      this.#pending.set(id, { resolve: resolve_, reject });
      if (this.#pending.size === 1) this.#worker.ref();
      return this.#worker.postMessage(make(id));
    });
  }

  #settle(answer: Answer): void {
    const pending = this.#pending.get(answer.id);
    this.#pending.delete(answer.id);
    // An idle connection does not keep the process alive.
    if (this.#pending.size === 0) this.#worker.unref();
    if (answer.ok) pending?.resolve(answer);
    else pending?.reject(new SqliteError(answer.message, answer.code, answer.system));
  }

  #lose(cause: Error): void {
    this.#usable = false;
    const error = new WorkerLostError(`The SQLite thread is gone: ${cause.message}`, { cause });
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }
}

async function connect(options: DriverOptions, lane: string, file: KnownFile): Promise<Connection> {
  const path = parseSqliteUrl(options.url);
  const busyTimeoutMs = Math.min(busyTimeoutMaxMs, options.pool.statementTimeoutMs);
  const connection = new SqliteConnection({ path, busyTimeoutMs, readOnly: lane !== 'write', file });
  try {
    await connection.open();
  } catch (error) {
    await connection.close();
    throw error instanceof SqliteError ? describe(error, path) : error;
  }
  return connection;
}

/** SQLite's and the system's messages do not name the file. */
function describe(error: SqliteError, path: string): SqliteError {
  return new SqliteError(
    `Could not open the SQLite database ${path}: ${error.message}`,
    error.errcode,
    error.code,
  );
}

// Faults

/** By primary result code: the low byte of the extended one. */
const kinds: Readonly<Record<number, SqlFaultKind>> = {
  3: 'refused',
  5: 'busy',
  6: 'busy',
  8: 'read-only',
  9: 'timeout',
  // The file cannot be read or written through this connection any more; another one shows whether it can.
  10: 'disconnected',
  13: 'full',
  14: 'refused',
  18: 'too-large',
  23: 'refused',
  26: 'refused',
};
const uniqueCodes = new Set([1555, 2067, 2579]);
const notNullCode = 1299;
const refusedCodes = new Set(['EACCES', 'EPERM', 'ENOTDIR', 'EEXIST', 'EROFS', 'ESTALE', 'EIO']);

/** The kind of an error of node:sqlite or of the thread around it. */
export function classifySqlite(error: unknown): SqlFaultKind {
  if (error instanceof WorkerLostError) return 'disconnected';
  if (!(error instanceof Error)) return 'other';
  if ('code' in error && error.code === 'ENOSPC') return 'full';
  if ('code' in error && refusedCodes.has(String(error.code))) return 'refused';
  if (!('errcode' in error) || typeof error.errcode !== 'number') return 'other';
  if (uniqueCodes.has(error.errcode)) return 'unique-violation';
  if (error.errcode === notNullCode) return 'not-null-violation';
  return kinds[error.errcode & 0xff] ?? 'other';
}

// Dialect

const createEngine = (file: KnownFile): Engine => ({
  classify: classifySqlite,
  begin: { write: 'BEGIN IMMEDIATE', read: 'BEGIN DEFERRED' },
  interruptible: false,
  // A single SELECT never waits for a read transaction, nor either of them for a writer.
  lane: (mode, use) => (mode === 'write' ? 'write' : use === 'transaction' ? 'snapshot' : 'read'),
  pool: (lane, { connectTimeoutMs, statementTimeoutMs }) => ({
    connectionsMax: lane === 'read' ? readersMax : 1,
    connectTimeoutMs,
    statementTimeoutMs,
  }),
  connect: (options, lane) => connect(options, lane, file),
});

async function createDatabase(options: DriverOptions): Promise<void> {
  const folder = dirname(parseSqliteUrl(options.url));
  try {
    await makeFolder(folder);
  } catch (cause) {
    throw new SqlFault(classifySqlite(cause), `Could not create the folder ${folder}`, { cause });
  }
}

/** SQLite in a file, as built into Node. */
export const sqlite: Dialect = Object.freeze({
  name: 'sqlite',
  sql,
  can: { notify: false, writesInWith: false, keyBytesMax: 8192, parametersMax: 32_766 },
  createDatabase,
  open: (options: DriverOptions) => createDriver(createEngine(unknownFile()), options),
});
