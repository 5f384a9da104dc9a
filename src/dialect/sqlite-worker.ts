// The thread that owns one SQLite connection, so that neither a fsync nor a long query stops the event loop. Started
// by sqlite.ts, one per connection. Invariant: requests are answered one by one, in the order of their arrival.

import { closeSync, existsSync, fchownSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { OpenedFile } from './sqlite-file.ts';
import { packRows } from './sqlite-rows.ts';
import type { Answer, Request, WireValue, WorkerSettings } from './sqlite-wire.ts';

/** Prepared statements kept; the least recently used goes first. */
const preparedMax = 200;

interface Prepared {
  readonly statement: StatementSync;
  readonly columns: readonly string[];
}

const settings = workerData as WorkerSettings;
const port = parentPort;
if (port === null) throw new Error('Expected to run in a worker thread');

const file = new OpenedFile(settings.path, settings.file);
let database: DatabaseSync | undefined;
const statements = new Map<string, Prepared>();

/** What root makes, as in a restore, is for the program that the folder belongs to. SQLite gives its other files to the same owner. */
function makeFor(folder: string): void {
  if (process.getuid?.() !== 0 || existsSync(settings.path)) return;
  const { uid, gid } = statSync(folder);
  const made = openSync(settings.path, 'a', 0o600);
  fchownSync(made, uid, gid);
  closeSync(made);
}

function open(): DatabaseSync {
  mkdirSync(dirname(settings.path), { recursive: true });
  makeFor(dirname(settings.path));
  const opened = new DatabaseSync(settings.path, {
    enableForeignKeyConstraints: false,
    timeout: settings.busyTimeoutMs,
    readBigInts: true,
    returnArrays: true,
  });
  // WAL with synchronous=FULL: a commit is one fsync of the log, and readers never wait for it.
  opened.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
  opened.exec(`PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 67108864;
    PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY`);
  if (settings.readOnly) opened.exec('PRAGMA query_only = ON');
  file.opened();
  return opened;
}

function prepare(text: string): Prepared {
  let prepared = statements.get(text);
  if (prepared === undefined) {
    database ??= open();
    const statement = database.prepare(text);
    prepared = { statement, columns: statement.columns().map((column) => column.name) };
    const oldest = statements.keys().next();
    if (statements.size >= preparedMax && !oldest.done) statements.delete(oldest.value);
  } else {
    statements.delete(text);
  }
  statements.set(text, prepared);
  return prepared;
}

/** Ends the transaction, if one is open: some faults have undone it already. */
function rollBack(): void {
  if (database?.isTransaction) database.exec('ROLLBACK');
}

function script({ begin, steps }: Extract<Request, { kind: 'script' }>): void {
  database ??= open();
  if (begin !== undefined) database.exec(begin);
  try {
    for (const { text, params } of steps) prepare(text).statement.run(...params);
    database.exec('COMMIT');
  } catch (error) {
    rollBack();
    throw error;
  }
}

/** What a script was to end is over also where its file is gone. */
function checkFile(request: Request): void {
  try {
    file.check(settings.readOnly ? 'read' : 'write');
  } catch (error) {
    if (request.kind === 'script') rollBack();
    throw error;
  }
}

function answer(request: Exclude<Request, { kind: 'close' }>): Answer {
  const { id } = request;
  // Whatever has become of the file.
  if (request.kind === 'control' && request.text === 'ROLLBACK') {
    rollBack();
    return { id, ok: true, columns: [], packed: packRows([]), affected: 0 };
  }
  checkFile(request);
  if (request.kind === 'open') {
    database ??= open();
    return { id, ok: true, columns: [], packed: packRows([]), affected: 0 };
  }
  if (request.kind === 'control') {
    database ??= open();
    database.exec(request.text);
    return { id, ok: true, columns: [], packed: packRows([]), affected: 0 };
  }
  if (request.kind === 'script') {
    script(request);
    return { id, ok: true, columns: [], packed: packRows([]), affected: 0 };
  }
  const { statement, columns } = prepare(request.text);
  if (columns.length === 0) {
    const { changes } = statement.run(...request.params);
    return { id, ok: true, columns, packed: packRows([]), affected: Number(changes) };
  }
  const rows = statement.iterate(...request.params) as unknown as Iterable<WireValue[]>;
  return { id, ok: true, columns, packed: packRows(rows), affected: 0 };
}

function fail(id: number, error: unknown): Answer {
  const { message } = error instanceof Error ? error : new Error(String(error));
  const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) : 0;
  const system = error instanceof Error && 'code' in error ? String(error.code) : '';
  return { id, ok: false, message, code, system };
}

port.on('message', (request: Request) => {
  if (request.kind === 'close') {
    database?.close();
    return port.close();
  }
  let reply: Answer;
  try {
    reply = answer(request);
  } catch (error) {
    reply = fail(request.id, error);
  }
  // The block changes hands: nothing of it is copied.
  return port.postMessage(reply, reply.ok ? [reply.packed.buffer] : []);
});
