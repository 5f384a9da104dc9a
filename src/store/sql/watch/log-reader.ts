// Reads the store's log as events, in bounded chunks. Used by the change feed (all keys, up to now) and by watchers
// that catch up (their range, up to where the feed is). Invariants: a chunk holds whole revisions only, is complete up
// to its `through`, and comes from one snapshot, so that what a compaction took away is never mistaken for nothing.

import {
  SqlFault,
  type Driver,
  type QueryResult,
  type Row,
  type SqlValue,
} from '../../../dialect/dialect.ts';
import { EtcdError } from '../../../etcd/errors.ts';
import { successor, type KeyRange } from '../../../etcd/range.ts';
import type { Event, KeyValue, Revision } from '../../../etcd/types.ts';
import { selectLog, selectRevisions, type LogScope } from './log-statements.ts';
import { bytes, int64 } from '../row.ts';

/** Values read in one chunk, about: the number of rows asked for follows the size of the rows seen lately. */
const chunkBytesMax = 4 * 1024 * 1024;
/** Rows of a chunk however large they are. */
const chunkRowsMin = 4;
/** What a row of a range is taken to weigh before any was seen: few rows at first, more once they are known to be small. */
const initialRowBytes = 128 * 1024;
/** Ranges whose rows' weight is remembered; the one asked for longest ago goes first. */
const weightsMax = 1_000;
/** Revisions that one statement looks through for the keys of a range, when it has to look at other keys too. */
const windowRevisions = 20_000n;
/** For a single revision that is read wholly, whatever its size. */
export const unlimitedRows = 2_147_483_647;
const maxRevision = 2n ** 63n - 1n;

/** The counters of the meta row, of one moment. */
export interface Revisions {
  readonly revision: Revision;
  readonly compactRevision: Revision;
}

export interface LogQuery {
  /** Absent = every key. */
  readonly range?: KeyRange;
  /** Exclusive. */
  readonly after: Revision;
  /** Inclusive; absent = the store's revision. */
  readonly through?: Revision;
  /** Roughly how many events to return; one revision is never split, so it may be more. */
  readonly eventsMax: number;
}

/** Events in (revision, sub) order, whole revisions, each with `prevKv` where the log still has that pair. */
export interface LogChunk {
  readonly events: readonly Event[];
  /** Every event of the query at or below this revision is in the answer; may be below what was asked for. */
  readonly through: Revision;
  /** The store's revision in the snapshot that was read. */
  readonly revision: Revision;
}

export interface LogReader {
  /** The counters as they are in the database now. */
  revisions(signal?: AbortSignal): Promise<Revisions>;
  /**
   * Reads on from `after`. History from the compact revision itself on is there to read.
   * @throws EtcdError compacted, with compactRevision, when after < compactRevision - 1.
   */
  read(query: LogQuery, signal?: AbortSignal): Promise<LogChunk>;
}

const noBytes = Buffer.alloc(0);

/** The event of a row of `selectLog`. */
function eventOf(row: Row): Event {
  const key = bytes(row, 'k');
  const modRevision = int64(row, 'mod_revision');
  const isDelete = int64(row, 'tombstone') !== 0n;
  const kv: KeyValue = isDelete
    ? { key, createRevision: 0n, modRevision, version: 0n, value: noBytes, lease: 0n }
    : {
        key,
        createRevision: int64(row, 'create_revision'),
        modRevision,
        version: int64(row, 'version'),
        value: bytes(row, 'value'),
        lease: int64(row, 'lease'),
      };
  const type = isDelete ? 'delete' : 'put';
  if (row['prev_mod_revision'] === null || row['prev_mod_revision'] === undefined) return { type, kv };
  const prevKv: KeyValue = {
    key,
    createRevision: int64(row, 'prev_create_revision'),
    modRevision: int64(row, 'prev_mod_revision'),
    version: int64(row, 'prev_version'),
    value: bytes(row, 'prev_value'),
    lease: int64(row, 'prev_lease'),
  };
  return { type, kv, prevKv };
}

function compareRows(a: Row, b: Row): number {
  const difference = int64(a, 'mod_revision') - int64(b, 'mod_revision') || int64(a, 'sub') - int64(b, 'sub');
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** The largest power of two at or below `n`, so that few distinct statements exist. */
function powerOfTwoBelow(n: number): number {
  return 2 ** Math.floor(Math.log2(Math.max(1, n)));
}

function scopeOf(range: KeyRange | undefined): { scope: LogScope; params: SqlValue[] } {
  if (range === undefined) return { scope: 'all', params: [] };
  if (range.end === undefined) return { scope: 'fromKey', params: [range.start] };
  if (range.end.equals(successor(range.start))) return { scope: 'key', params: [range.start] };
  return { scope: 'range', params: [range.start, range.end] };
}

/** Reads the log of the store behind `driver`. Rejects with what the driver rejects with, or EtcdError compacted. */
export function createLogReader(driver: Driver): LogReader {
  return new SqlLogReader(driver);
}

const smaller = (a: bigint, b: bigint) => (a < b ? a : b);

class SqlLogReader implements LogReader {
  readonly #driver: Driver;
  /** By range: moving average of the bytes of a row, previous value included. One type's rows are no measure for another's. */
  readonly #rowBytes = new Map<string, number>();

  constructor(driver: Driver) {
    this.#driver = driver;
  }

  async revisions(signal?: AbortSignal): Promise<Revisions> {
    return revisionsOf(await this.#driver.query(selectRevisions, [], signal));
  }

  async read(query: LogQuery, signal?: AbortSignal): Promise<LogChunk> {
    const { scope, params } = scopeOf(query.range);
    const wanted = query.through ?? maxRevision;
    // Only these look at rows they do not return; without a bound, one statement might read through the whole log.
    const isWindowed = scope === 'range' || scope === 'fromKey';
    const windowEnd = isWindowed ? smaller(wanted, query.after + windowRevisions) : wanted;
    const name = query.range?.start.toString('latin1') ?? '';
    const limit = this.#limit(query.eventsMax, name);
    const statement = selectLog(scope, limit + 1);
    const result = await this.#driver.query(
      statement,
      [windowEnd, query.after, windowEnd, ...params],
      signal,
    );
    const { revision, compactRevision } = revisionsOf(result);
    if (query.after < compactRevision - 1n) throw new EtcdError('compacted', { compactRevision });

    const last = smaller(wanted, revision);
    const rows = rowsInOrder(result);
    if (rows.length > limit) {
      const cut = int64(rows.at(-1)!, 'mod_revision');
      const whole = rows.filter((row) => int64(row, 'mod_revision') < cut);
      if (whole.length === 0) return this.#readRevision(cut, { scope, params, name, signal });
      return { events: this.#events(whole, name), through: cut - 1n, revision };
    }
    let through = last;
    if (windowEnd < last) {
      const next = result.rows[0]?.['next_revision'];
      through =
        next === null || next === undefined
          ? last
          : smaller(last, int64(result.rows[0]!, 'next_revision') - 1n);
    }
    return { events: this.#events(rows, name), through, revision };
  }

  /** All events of one revision, for a revision with more of them than a chunk should have. */
  async #readRevision(
    revision: Revision,
    {
      scope,
      params,
      name,
      signal,
    }: { scope: LogScope; params: SqlValue[]; name: string; signal: AbortSignal | undefined },
  ): Promise<LogChunk> {
    const statement = selectLog(scope, unlimitedRows);
    const result = await this.#driver.query(
      statement,
      [revision, revision - 1n, revision, ...params],
      signal,
    );
    const current = revisionsOf(result);
    if (revision < current.compactRevision) {
      throw new EtcdError('compacted', { compactRevision: current.compactRevision });
    }
    const rows = rowsInOrder(result);
    return { events: this.#events(rows, name), through: revision, revision: current.revision };
  }

  #limit(eventsMax: number, name: string): number {
    const rowBytes = this.#rowBytes.get(name) ?? initialRowBytes;
    const fitting = Math.max(chunkRowsMin, Math.floor(chunkBytesMax / rowBytes));
    return powerOfTwoBelow(Math.min(eventsMax, fitting));
  }

  #events(rows: readonly Row[], name: string): Event[] {
    const events = rows.map(eventOf);
    if (events.length === 0) return events;
    let total = 0;
    for (const { kv, prevKv } of events)
      total += kv.key.length + kv.value.length + (prevKv?.value.length ?? 0);
    const before = this.#rowBytes.get(name) ?? initialRowBytes;
    this.#rowBytes.delete(name);
    this.#rowBytes.set(name, Math.max(64, (before + total / events.length) / 2));
    const [oldest] = this.#rowBytes.keys();
    if (this.#rowBytes.size > weightsMax && oldest !== undefined) this.#rowBytes.delete(oldest);
    return events;
  }
}

/** The rows of the log in an answer of `selectLog` or `selectHistory`, in (revision, sub) order. */
export function rowsInOrder(result: QueryResult): readonly Row[] {
  return result.rows.filter((row) => row['mod_revision'] !== null).toSorted(compareRows);
}

/** The counters in an answer of any statement of log-statements.ts. */
export function revisionsOf(result: QueryResult): Revisions {
  const row = result.rows[0];
  if (row === undefined) throw new SqlFault('other', 'Expected one row in switchyard_meta, got none');
  return { revision: int64(row, 'revision'), compactRevision: int64(row, 'compact_revision') };
}
