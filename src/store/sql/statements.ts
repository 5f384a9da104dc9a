// The SQL of the write path: one text for all engines, made from a dialect's fragments. Used by state.ts, live-reader.ts and
// batch-writer.ts; reads have range-statements.ts and log-statements.ts. Lists of keys are padded to a power of two by repeating the last one, so
// that few distinct texts exist and prepared statements stay few.

import type {
  Dialect,
  DialectSql,
  QueryResult,
  Session,
  SqlValue,
  Statement,
} from '../../dialect/dialect.ts';

/** Runs one statement: a session's `query`, or a driver's with a signal bound. */
export type Query = (statement: Statement, params: readonly SqlValue[]) => Promise<QueryResult>;

/** The `query` of a session as a function. */
export function queryOf(session: Session): Query {
  return (statement, params) => session.query(statement, params);
}

/** Columns of a log row in the order of `insertLog`'s parameters. */
export const logColumns = [
  'mod_revision',
  'k',
  'sub',
  'create_revision',
  'version',
  'lease',
  'tombstone',
  'prev_revision',
  'value',
] as const;

/** Columns of a current row in the order of `upsertCurrent`'s parameters. */
export const currentColumns = ['k', 'mod_revision', 'sub', 'create_revision', 'version', 'lease'] as const;

/** Rows of the log that go in one statement with the guard. */
export const rowsWithGuardMax = 256;

/** Rows named by pairs of columns in one statement; SQLite nests no more than 1000 conditions. */
export const pairsMax = 128;

function logTypes({ types: { key, value, int64, flag } }: DialectSql): readonly string[] {
  return [int64, key, int64, int64, int64, int64, flag, int64, value];
}

const leaseKeyColumns = ['lease', 'k'] as const;

/** The statements of one dialect. Those that take a number are for that many rows or keys. */
export interface WriteStatements {
  /** → format, revision, compact_revision, writer, batch. Holds off every other writer until the transaction ends. */
  readonly lockMeta: Statement;
  /** revision, writer, batch. Wakes other processes' feeds, where the engine can; so does the guard. */
  readonly updateMeta: Statement;
  /** → as `lockMeta`, and holds off nobody. */
  readonly selectMeta: Statement;
  /**
   * revision, writer and batch that are expected; revisions to add; writer, batch. Fails with `not-null-violation` when
   * others are found.
   */
  readonly guardMeta: Statement;
  /** n ids (padded), how many distinct. Fails with `not-null-violation` when one of them is not there. */
  guardLeases(n: number): Statement;
  /**
   * The guard's parameters, then n rows (see `paddedRows`) of `logColumns`: puts of distinct keys, or changes of any, each with 1
   * behind it where it is the last one of its key, else 0. Undefined: the engine does not write in one statement with the guard.
   */
  readonly withGuard:
    | { readonly puts: (n: number) => Statement; readonly changes: (n: number) => Statement }
    | undefined;
  /** n keys (padded) → k, mod_revision, create_revision, version, lease. */
  selectCurrent(n: number): Statement;
  /** The same with value. */
  selectCurrentValues(n: number): Statement;
  /** mod_revision, k → value. */
  readonly selectValue: Statement;
  /** mod_revision and k of each of n pairs (padded), `pairsMax` at most → mod_revision, k, value. */
  selectValues(n: number): Statement;
  /** after (exclusive), end (exclusive; not with `toEnd`) → live keys in order, at most `limit`; with values or without. */
  selectPage(options: {
    readonly isFirst: boolean;
    readonly toEnd: boolean;
    readonly values: boolean;
    readonly limit: number;
  }): Statement;
  insertLog(n: number): Statement;
  upsertCurrent(n: number): Statement;
  /** n keys (padded). */
  deleteCurrent(n: number): Statement;
  /** n ids (padded) → id. */
  selectLeases(n: number): Statement;
  /** id → ttl_seconds, expires_at, now. Keeps renewals of the lease out until the transaction ends. */
  readonly lockLease: Statement;
  /** id → k, in key order. */
  readonly selectLeaseKeys: Statement;
  readonly deleteLease: Statement;
  readonly deleteLeaseKeys: Statement;
  insertLeaseKeys(n: number): Statement;
  /** lease and k of each of n pairs (padded), `pairsMax` at most. */
  deleteLeasePairs(n: number): Statement;
}

const marks = (n: number) => Array.from({ length: n }, () => '?').join(', ');

function rows(n: number, width: number): string {
  const row = `(${marks(width)})`;
  return Array.from({ length: n }, () => row).join(', ');
}

/** `values` repeated at the end up to the next power of two; not empty. */
export function padded<T>(values: readonly T[]): readonly T[] {
  const length = 2 ** Math.ceil(Math.log2(values.length));
  const last = values.at(-1)!;
  return length === values.length
    ? values
    : [...values, ...Array.from({ length: length - values.length }, () => last)];
}

/** Of each power of two, this many numbers of rows have a text. */
const countsPerPower = 8;

/**
 * `length` rows in slices of at most `most` (a power of two), of few distinct lengths, so that prepared statements stay
 * few: up to 16 there is one slice, above seldom more than two.
 */
export function rowCounts(
  length: number,
  most: number,
): readonly { readonly start: number; readonly count: number }[] {
  const parts = [];
  for (let start = 0; start < length;) {
    const left = Math.min(length - start, most);
    const step = 2 ** Math.max(0, Math.floor(Math.log2(left)) - Math.log2(countsPerPower));
    const count = left - (left % step);
    parts.push({ start, count });
    start += count;
  }
  return parts;
}

/** `rows` and as many rows of NULL as bring them to one of few lengths. */
export function paddedRows(rows: readonly (readonly SqlValue[])[]): readonly (readonly SqlValue[])[] {
  const step = 2 ** Math.max(0, Math.ceil(Math.log2(rows.length)) - Math.log2(countsPerPower) - 1);
  const missing = Math.ceil(rows.length / step) * step - rows.length;
  const empty = Array.from({ length: rows[0]?.length ?? 0 }, () => null);
  return [...rows, ...Array.from({ length: missing }, () => empty)];
}

/** A statement by number of rows, built once. */
function byCount(name: string, text: (n: number) => string): (n: number) => Statement {
  const built = new Map<number, Statement>();
  return (n) => {
    let statement = built.get(n);
    if (statement === undefined) built.set(n, (statement = { name, text: text(n) }));
    return statement;
  };
}

const meta = 'SELECT format, revision, compact_revision, writer, batch FROM switchyard_meta WHERE id = 1';
const pair = 'c.k AS k, c.mod_revision AS mod_revision, c.create_revision AS create_revision';
const withValue = `SELECT ${pair}, c.version AS version, c.lease AS lease, l.value AS value FROM switchyard_current c
  LEFT JOIN switchyard_log l ON l.mod_revision = c.mod_revision AND l.k = c.k`;
const withoutValue = `SELECT ${pair}, c.version AS version, c.lease AS lease FROM switchyard_current c`;

const guard =
  'UPDATE switchyard_meta SET revision = CASE WHEN revision = ? AND writer = ? AND batch = ? THEN revision + ? END' +
  ', writer = ?, batch = ? WHERE id = 1';

/** `v`, n rows of these columns, all of NULL in those that only fill up; its types are those of the first row. */
function given(columns: readonly string[], types: readonly string[], n: number): string {
  const first = types.map((type) => `CAST(? AS ${type})`).join(', ');
  const others = n === 1 ? '' : `, ${rows(n - 1, columns.length)}`;
  return `v (${columns.join(', ')}) AS (VALUES (${first})${others})`;
}

/** The guard as `g`, and the rows that go with it; joined with it, they come after it. */
const guarded = 'FROM v, g WHERE v.mod_revision IS NOT NULL';
const ofRows = (columns: readonly string[]) => columns.map((column) => `v.${column}`).join(', ');

function guardAs(notify: string): string {
  return `g AS (${guard} RETURNING id${notify === '' ? '' : `, ${notify}`})`;
}

function insertGiven(): string {
  return `INSERT INTO switchyard_log (${logColumns.join(', ')}) SELECT ${ofRows(logColumns)} ${guarded}`;
}

function upsertGiven(sql: DialectSql, condition: string): string {
  const source = `SELECT ${ofRows(currentColumns)} ${guarded}${condition}`;
  return sql.upsert('switchyard_current', currentColumns, ['k'], source);
}

/** Guard and puts of distinct keys in one. */
function putsText(sql: DialectSql, notify: string, n: number): string {
  return `WITH ${guardAs(notify)},
    ${given(logColumns, logTypes(sql), n)},
    l AS (${insertGiven()})
    ${upsertGiven(sql, '')}`;
}

/** Guard and changes of any keys in one; only the last one of a key tells what is there afterwards. */
function changesText(sql: DialectSql, notify: string, n: number): string {
  return `WITH ${guardAs(notify)},
    ${given([...logColumns, 'is_last'], [...logTypes(sql), sql.types.flag], n)},
    l AS (${insertGiven()}),
    d AS (DELETE FROM switchyard_current
      WHERE k IN (SELECT v.k ${guarded} AND v.tombstone = 1 AND v.is_last = 1)),
    u AS (${upsertGiven(sql, ' AND v.tombstone = 0 AND v.is_last = 1')})
    SELECT id FROM g`;
}

/** The statements for a dialect, cached. */
export function writeStatements({ sql, can }: Pick<Dialect, 'sql' | 'can'>): WriteStatements {
  const pages = new Map<string, Statement>();
  const notify = sql.notify ?? '';
  const returning = notify === '' ? '' : ` RETURNING ${notify}`;
  return {
    lockMeta: { name: 'meta.lock', text: `${meta} ${sql.forUpdate}` },
    selectMeta: { name: 'meta.select', text: meta },
    updateMeta: {
      name: 'meta.update',
      text: `UPDATE switchyard_meta SET revision = ?, writer = ?, batch = ? WHERE id = 1${returning}`,
    },
    guardMeta: { name: 'meta.guard', text: `${guard}${returning}` },
    withGuard: can.writesInWith
      ? {
          puts: byCount('batch.puts', (n) => putsText(sql, notify, n)),
          changes: byCount('batch.changes', (n) => changesText(sql, notify, n)),
        }
      : undefined,
    selectCurrent: byCount('current.keys', (n) => `${withoutValue} WHERE c.k IN (${marks(n)})`),
    selectCurrentValues: byCount('current.pairs', (n) => `${withValue} WHERE c.k IN (${marks(n)})`),
    selectValue: {
      name: 'log.value',
      text: 'SELECT value FROM switchyard_log WHERE mod_revision = ? AND k = ?',
    },
    selectValues: byCount('log.values', (n) => {
      const pairs = Array.from({ length: n }, () => '(mod_revision = ? AND k = ?)').join(' OR ');
      return `SELECT mod_revision, k, value FROM switchyard_log WHERE ${pairs}`;
    }),
    selectPage({ isFirst, toEnd, values, limit }) {
      const text =
        `${values ? withValue : withoutValue} WHERE c.k ${isFirst ? '>=' : '>'} ?` +
        `${toEnd ? '' : ' AND c.k < ?'} ORDER BY c.k LIMIT ${limit}`;
      let statement = pages.get(text);
      if (statement === undefined) pages.set(text, (statement = { name: 'current.page', text }));
      return statement;
    },
    insertLog: byCount(
      'log.insert',
      (n) => `INSERT INTO switchyard_log (${logColumns.join(', ')}) VALUES ${rows(n, logColumns.length)}`,
    ),
    upsertCurrent: byCount('current.upsert', (n) =>
      sql.upsert('switchyard_current', currentColumns, ['k'], `VALUES ${rows(n, currentColumns.length)}`),
    ),
    deleteCurrent: byCount(
      'current.delete',
      (n) => `DELETE FROM switchyard_current WHERE k IN (${marks(n)})`,
    ),
    ...leaseStatements(sql),
  };
}

/** Those that only txns and jobs with leases need. */
function leaseStatements(
  sql: DialectSql,
): Pick<
  WriteStatements,
  | 'guardLeases'
  | 'selectLeases'
  | 'lockLease'
  | 'selectLeaseKeys'
  | 'deleteLease'
  | 'deleteLeaseKeys'
  | 'insertLeaseKeys'
  | 'deleteLeasePairs'
> {
  return {
    guardLeases: byCount(
      'lease.guard',
      (n) =>
        'UPDATE switchyard_meta SET writer =' +
        ` CASE WHEN (SELECT count(*) FROM switchyard_lease WHERE id IN (${marks(n)})) = ? THEN writer END WHERE id = 1`,
    ),
    selectLeases: byCount('lease.known', (n) => `SELECT id FROM switchyard_lease WHERE id IN (${marks(n)})`),
    lockLease: {
      name: 'lease.lock',
      text: `SELECT ttl_seconds, expires_at, ${sql.nowMs} AS now FROM switchyard_lease WHERE id = ? ${sql.forUpdate}`,
    },
    selectLeaseKeys: {
      name: 'lease.keys',
      text: 'SELECT k FROM switchyard_lease_key WHERE lease = ? ORDER BY k',
    },
    deleteLease: { name: 'lease.delete', text: 'DELETE FROM switchyard_lease WHERE id = ?' },
    deleteLeaseKeys: {
      name: 'lease.detach_all',
      text: 'DELETE FROM switchyard_lease_key WHERE lease = ?',
    },
    insertLeaseKeys: byCount('lease.attach', (n) =>
      sql.insertIgnore('switchyard_lease_key', leaseKeyColumns, rows(n, leaseKeyColumns.length)),
    ),
    deleteLeasePairs: byCount('lease.detach', (n) => {
      const pairs = Array.from({ length: n }, () => '(lease = ? AND k = ?)').join(' OR ');
      return `DELETE FROM switchyard_lease_key WHERE ${pairs}`;
    }),
  };
}
