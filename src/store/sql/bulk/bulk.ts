// A database as backup and restore use it. A backup is one read transaction: the rows of one snapshot, so neither writes nor compactions
// beside it matter. A restore writes rows of the log and of `current` with the counters they had, below a revision that the
// store is lifted to and compacted at, so that nobody may ask for what was there before. Used by store/open.ts.

import {
  SqlFault,
  type Dialect,
  type Driver,
  type DriverOptions,
  type SqlValue,
} from '../../../dialect/dialect.ts';
import { successor, type KeyRange } from '../../../etcd/range.ts';
import type { KeyValue, LeaseId, Revision } from '../../../etcd/types.ts';
import {
  namedError,
  NoteError,
  type BulkStore,
  type LeaseTime,
  type Note,
  type Snapshot,
} from '../../bulk.ts';
import type { Engine } from '../../store.ts';
import { bulkStatements, clearRows, pageRows, type BulkStatements } from './bulk-statements.ts';
import { updateCompactRevision } from '../compactor.ts';
import { toEtcdError } from '../faults.ts';
import { untilLookMs } from '../lease/lessor.ts';
import { revisionsOf } from '../watch/log-reader.ts';
import { selectRevisions } from '../watch/log-statements.ts';
import { metaStateOf } from '../write/meta-state.ts';
import { bytes, int64, keyValueOf } from '../row.ts';
import { ensureSchema, readIdentity } from '../schema/schema.ts';
import {
  currentColumns,
  logColumns,
  padded,
  queryOf,
  rowCounts,
  writeStatements,
  type Query,
  type WriteStatements,
} from '../statements.ts';

/** Bytes of the values of a page, about; one value may exceed it. */
const pageBytes = 1024 * 1024;
/**
 * The least that the revision is lifted by. Who knows the revision before may go on from the next one, unless that is compacted
 * too: a gateway would not read anew.
 */
const liftMin = 2n;
/** Rows and keys in one statement. */
const listMax = 256;

const noBytes = Buffer.alloc(0);

export interface SqlBulkOptions {
  readonly name: string;
  readonly dialect: Dialect;
  readonly driver: DriverOptions;
  /** What the keys of Kubernetes begin with, without a slash at the end. */
  readonly keyPrefix: string;
  /** Ends what is under way. */
  readonly signal: AbortSignal;
}

/** Connects when it is first used. */
export function openSqlBulk(options: SqlBulkOptions): BulkStore {
  return new SqlBulk(options);
}

class SqlBulk implements BulkStore {
  readonly name: string;
  readonly engine: Engine;
  readonly keyBytesMax: number;
  readonly keepsRevisions = true;
  readonly liftMax = undefined;
  readonly #options: SqlBulkOptions;
  readonly #driver: Driver;
  readonly #write: WriteStatements;
  readonly #bulk: BulkStatements;
  /** Of the rows written so far: their place within a revision, which need not be that of the writes long ago. */
  #sub = 0n;

  constructor(options: SqlBulkOptions) {
    const { dialect } = options;
    this.name = options.name;
    this.engine = dialect.name;
    this.keyBytesMax = dialect.can.keyBytesMax;
    this.#options = options;
    this.#driver = dialect.open(options.driver);
    this.#write = writeStatements(dialect);
    this.#bulk = bulkStatements(dialect.sql);
  }

  async snapshot<T>(body: (snapshot: Snapshot) => Promise<T>): Promise<T> {
    await this.#answer(() => this.#checkTables());
    return await this.#transaction('read', async (query) => {
      const { revision } = revisionsOf(await query(selectRevisions, []));
      const nowMs = nowOf((await query(this.#bulk.selectLease, [0n])).rows);
      return await body({
        revision,
        pairs: (range) => this.#pairs(query, range),
        lease: (id) => this.#lease(query, id, nowMs),
      });
    });
  }

  prepare(): Promise<void> {
    const { dialect, driver, signal, keyPrefix } = this.#options;
    return this.#answer(async () => {
      await dialect.createDatabase(driver);
      await ensureSchema(this.#driver, dialect, { signal, keyPrefix });
    });
  }

  async revision(): Promise<Revision> {
    return revisionsOf(await this.#query(selectRevisions, [])).revision;
  }

  async find(key: Buffer): Promise<KeyValue | undefined> {
    const { rows } = await this.#query(this.#write.selectCurrentValues(1), [key]);
    return rows[0] && keyValueOf(rows[0]);
  }

  async holds({ start, end }: KeyRange): Promise<boolean> {
    const one = this.#write.selectPage({ isFirst: true, toEnd: end === undefined, values: false, limit: 1 });
    return (await this.#query(one, end === undefined ? [start] : [start, end])).rows.length > 0;
  }

  /** More than any client could have written. */
  takes(): Promise<boolean> {
    return Promise.resolve(true);
  }

  lease(id: LeaseId): Promise<LeaseTime | undefined> {
    return this.#lease((statement, params) => this.#query(statement, params), id);
  }

  swap(key: Buffer, before: Buffer | undefined, after: Buffer | undefined): Promise<boolean> {
    return this.#transaction('write', async (query) => {
      const { revision, last } = metaStateOf(await query(this.#write.lockMeta, []));
      const found = (await query(this.#write.selectCurrentValues(1), [key])).rows.map(keyValueOf)[0];
      if (!isSame(found?.value, before)) return false;
      const at = revision + 1n;
      const prev = found?.modRevision ?? 0n;
      if (after === undefined) {
        const tombstone = [at, key, this.#sub++, 0n, 0n, 0n, 1n, prev, noBytes];
        await query(this.#write.insertLog(1), tombstone);
        await query(this.#write.deleteCurrent(1), [key]);
      } else {
        const [created, version] = [found?.createRevision ?? at, (found?.version ?? 0n) + 1n];
        const sub = this.#sub++;
        await query(this.#write.insertLog(1), [at, key, sub, created, version, 0n, 0n, prev, after]);
        await query(this.#write.upsertCurrent(1), [key, at, sub, created, version, 0n]);
      }
      await query(this.#write.updateMeta, [at, last.writer, last.batch]);
      return true;
    });
  }

  lift(atLeast: Revision): Promise<Revision> {
    return this.#transaction('write', async (query) => {
      const { revision, last } = metaStateOf(await query(this.#write.lockMeta, []));
      const least = revision + liftMin;
      const lifted = least < atLeast ? atLeast : least;
      await query(this.#write.updateMeta, [lifted, last.writer, last.batch]);
      await query(updateCompactRevision, [lifted]);
      return lifted;
    });
  }

  async clear({ start, end }: KeyRange, note: Note): Promise<void> {
    const bound = end === undefined ? [] : [end];
    await this.#noted(note, (query) => query(this.#bulk.detachRange(end === undefined), [start, ...bound]));
    // What was removed may be in an index for a while, so it is not looked at again.
    for (let from = start; ;) {
      const { rows } = await this.#query(this.#bulk.selectKeys(end === undefined), [from, ...bound]);
      const last = rows.at(-1);
      if (last === undefined) return;
      const next = successor(bytes(last, 'k'));
      const window = [from, next];
      await this.#noted(note, async (query) => {
        await query(this.#bulk.deleteLogRange, window);
        await query(this.#bulk.deleteCurrentRange, window);
      });
      if (rows.length < clearRows) return;
      from = next;
    }
  }

  grant(id: LeaseId, ttlSeconds: number): Promise<void> {
    return this.#grant(id, ttlSeconds, BigInt(ttlSeconds) * 1000n);
  }

  adopt(id: LeaseId, ttlSeconds: number): Promise<void> {
    return this.#grant(id, ttlSeconds, untilLookMs(ttlSeconds));
  }

  async put(pairs: readonly KeyValue[], note: Note): Promise<void> {
    if (pairs.length === 0) return;
    await this.#noted(note, async (query) => {
      for (let start = 0; start < pairs.length; start += listMax) {
        const part = pairs.slice(start, start + listMax);
        const keys = padded(part.map(({ key }) => key));
        await query(this.#bulk.deleteLogKeys(keys.length), keys);
        await this.#insert(query, part);
      }
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#driver.close();
  }

  // Reading

  async *#pairs(query: Query, { start, end }: KeyRange): AsyncGenerator<readonly KeyValue[]> {
    let from = start;
    for (;;) {
      const bound = end === undefined ? [] : [end];
      const sizes = await query(this.#bulk.selectSizes(end === undefined), [from, ...bound]);
      for (const through of pageEnds(sizes.rows)) {
        const next = successor(through);
        const page = this.#write.selectPage({ isFirst: true, toEnd: false, values: true, limit: pageRows });
        yield (await query(page, [from, next])).rows.map(keyValueOf);
        from = next;
      }
      if (sizes.rows.length < pageRows) return;
    }
  }

  /** What is left at `atMs` by the database's clock, or now. */
  async #lease(query: Query, id: LeaseId, atMs?: bigint): Promise<LeaseTime | undefined> {
    const { rows } = await query(this.#bulk.selectLease, [id]);
    const row = rows[0];
    if (row === undefined || row['ttl_seconds'] === null) return undefined;
    const passedMs = atMs === undefined ? 0n : nowOf(rows) - atMs;
    return {
      id,
      grantedTtlSeconds: Number(int64(row, 'ttl_seconds')),
      ttlSeconds: Math.max(0, Math.ceil(Number(int64(row, 'remaining') + passedMs) / 1000)),
    };
  }

  async #checkTables(): Promise<void> {
    const { dialect, signal } = this.#options;
    if ((await readIdentity(this.#driver, dialect, signal)) === undefined)
      throw new Error(`Expected the tables of switchyard in store ${this.name}, got none`);
  }

  // Writing

  /** Nobody else changes the note until what `work` does is committed. */
  #noted(note: Note, work: (query: Query) => Promise<unknown>): Promise<void> {
    return this.#transaction('write', async (query) => {
      await query(this.#write.lockMeta, []);
      const { rows } = await query(this.#write.selectCurrentValues(1), [note.key]);
      if (!isSame(rows.map(keyValueOf)[0]?.value, note.value)) throw new NoteError(this.name);
      await work(query);
    });
  }

  async #grant(id: LeaseId, ttlSeconds: number, remainingMs: bigint): Promise<void> {
    const params = [id, BigInt(ttlSeconds), remainingMs];
    await this.#transaction('write', (query) => query(this.#bulk.grant, params));
  }

  /** Rows for pairs that are in neither table, or in `current` alone. */
  async #insert(query: Query, pairs: readonly KeyValue[]): Promise<void> {
    const log = pairs.map(({ key, modRevision, createRevision, version, lease, value }) => {
      const sub = this.#sub++;
      return [modRevision, key, sub, createRevision, version, lease, 0n, 0n, value] as const;
    });
    const current = log.map(
      ([mod, key, sub, created, version, lease]) => [key, mod, sub, created, version, lease] as const,
    );
    const leased = pairs.filter(({ lease }) => lease !== 0n).map(({ lease, key }) => [lease, key] as const);
    await this.#rows(query, log, (n) => this.#write.insertLog(n));
    await this.#rows(query, current, (n) => this.#write.upsertCurrent(n));
    await this.#rows(query, leased, (n) => this.#write.insertLeaseKeys(n));
  }

  async #rows(
    query: Query,
    rows: readonly (readonly SqlValue[])[],
    statement: (n: number) => ReturnType<WriteStatements['insertLog']>,
  ): Promise<void> {
    const widest = Math.max(logColumns.length, currentColumns.length);
    const fitting = 2 ** Math.floor(Math.log2(this.#options.dialect.can.parametersMax / widest));
    for (const { start, count } of rowCounts(rows.length, Math.min(listMax, fitting)))
      await query(statement(count), rows.slice(start, start + count).flat());
  }

  #query(...[statement, params]: Parameters<Query>): ReturnType<Query> {
    return this.#answer(() => this.#driver.query(statement, params, this.#options.signal));
  }

  #transaction<T>(mode: 'read' | 'write', body: (query: Query) => Promise<T>): Promise<T> {
    const { signal } = this.#options;
    return this.#answer(() => this.#driver.transaction(mode, (session) => body(queryOf(session)), signal));
  }

  async #answer<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw namedError(this.name, toEtcdError(error));
    }
  }
}

/** The last key of each page that the rows (`k`, `size` of the value) make. */
function pageEnds(rows: BulkRows): readonly Buffer[] {
  const ends: Buffer[] = [];
  let size = 0;
  for (const [index, row] of rows.entries()) {
    size += Number(int64(row, 'size'));
    if (size < pageBytes && index < rows.length - 1) continue;
    ends.push(bytes(row, 'k'));
    size = 0;
  }
  return ends;
}

/** What the database's clock said, in milliseconds. */
function nowOf([row]: BulkRows): bigint {
  if (row === undefined) throw new SqlFault('other', 'Expected one row in switchyard_meta, got none');
  return int64(row, 'now');
}

function isSame(a: Buffer | undefined, b: Buffer | undefined): boolean {
  return a === undefined || b === undefined ? a === b : a.equals(b);
}

type BulkRows = Awaited<ReturnType<Query>>['rows'];
