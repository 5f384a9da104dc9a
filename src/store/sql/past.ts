// Pairs as they were at a revision: a walk over the log in key order, in steps that look at a bounded number of rows
// whatever lies in the way. Used by range.ts and range-stream.ts. Each step is one statement, and is refused when the
// revision is below the compact revision of its own snapshot: keys that a compaction took away never look absent.

import { SqlFault, type QueryResult, type Row } from '../../dialect/dialect.ts';
import { EtcdError } from '../../etcd/errors.ts';
import { isFromKey, successor } from '../../etcd/range.ts';
import type { KeyValue, RangeRequest, Revision } from '../../etcd/types.ts';
import { selectPast, selectPastKey, type KeyScope } from './range-statements.ts';
import { bytes, int64, keyValueOf } from './row.ts';
import type { Query } from './statements.ts';

/** The keys of a request, and what the conditions of statements take for them. */
export interface Scope {
  readonly scope: KeyScope;
  readonly params: readonly Buffer[];
}

/** The counters of the snapshot that an answer came from. */
export interface Snapshot {
  readonly revision: Revision;
  readonly compactRevision: Revision;
}

/** Where to walk on, and how far at most. */
export interface PastWalk {
  readonly revision: Revision;
  readonly keys: Scope;
  /** The first key to look at. */
  readonly from: Buffer;
  /** Keys to look at; from few values, for it stands in the statement. */
  readonly keysMax: number;
  /** Rows of the log to look at for each of those keys, on average; as few values. */
  readonly entriesPerKey: number;
  readonly values: boolean;
  /** Ends the step with the pair that brings its values to so many bytes; absent = whatever they weigh. */
  readonly bytesMax?: number;
  /** As in RangeOptions. */
  readonly pending?: Revision | undefined;
}

/** Pairs that were there at a revision, in key order, and where to go on; without `next` those were the last. */
export interface PastStep {
  readonly kvs: readonly KeyValue[];
  readonly next: Buffer | undefined;
  /** Rows of the log that were seen for each key, on average. */
  readonly entriesPerKey: number;
  /** The store's revision now. */
  readonly revision: Revision;
}

export function scopeOf({ key, rangeEnd }: Pick<RangeRequest, 'key' | 'rangeEnd'>): Scope {
  if (rangeEnd.length === 0) return { scope: 'key', params: [key] };
  if (isFromKey(rangeEnd)) return { scope: 'fromKey', params: [key] };
  return { scope: 'range', params: [key, rangeEnd] };
}

/**
 * The counters of `result`, checked against the revision `asked` for (0 or below: none); `pending` as in RangeOptions.
 * @throws EtcdError compacted, futureRevision
 */
export function snapshotOf({ rows }: QueryResult, asked: Revision, pending?: Revision): Snapshot {
  const row = rows[0];
  if (row === undefined) throw new SqlFault('other', 'Expected one row in switchyard_meta, got none');
  const revision = pending ?? int64(row, 'revision');
  return checked({ revision, compactRevision: int64(row, 'compact_revision') }, asked);
}

/** `snapshot`, where the revision `asked` for (0 or below: none) is there. @throws EtcdError compacted, futureRevision */
export function checked(snapshot: Snapshot, asked: Revision): Snapshot {
  const { revision, compactRevision } = snapshot;
  if (asked > revision) throw new EtcdError('futureRevision');
  if (asked > 0n && asked < compactRevision) throw new EtcdError('compacted', { compactRevision });
  return snapshot;
}

/** One step of a walk. @throws EtcdError compacted, futureRevision */
export function readPast(query: Query, walk: PastWalk): Promise<PastStep> {
  return walk.keys.scope === 'key' ? readPastKey(query, walk, walk.from) : readPastKeys(query, walk);
}

async function readPastKey(query: Query, walk: PastWalk, key: Buffer): Promise<PastStep> {
  const result = await query(selectPastKey({ values: walk.values }), [key, walk.revision]);
  const { revision } = snapshotOf(result, walk.revision, walk.pending);
  return { kvs: livePairs(result.rows), next: undefined, entriesPerKey: 1, revision };
}

async function readPastKeys(query: Query, walk: PastWalk): Promise<PastStep> {
  const { from, keysMax, values, bytesMax } = walk;
  const entriesMax = keysMax * walk.entriesPerKey;
  const [, end] = walk.keys.params;
  const toEnd = end === undefined;
  const statement = selectPast({ toEnd, values, keys: keysMax, entries: entriesMax, bytesMax });
  const bound = toEnd ? [] : [end];
  const bounds = bytesMax === undefined ? bound : [...bound, ...bound];
  const result = await query(statement, [walk.revision, from, ...bounds]);
  const { revision } = snapshotOf(result, walk.revision, walk.pending);
  const rows = result.rows.filter(hasKey).toSorted((a, b) => Buffer.compare(bytes(a, 'k'), bytes(b, 'k')));
  const last = rows.at(-1);
  if (last === undefined) return { kvs: [], next: undefined, entriesPerKey: 1, revision };
  const lastKey = bytes(last, 'k');
  const isPastEnd = !toEnd && Buffer.compare(lastKey, end) >= 0;
  const isCut = bytesMax !== undefined && rows.length < Number(int64(last, 'keys_seen'));
  const entries = Number(rows.reduce((sum, row) => sum + int64(row, 'entries'), 0n));
  const seen = { revision, entriesPerKey: entries / rows.length };
  // What follows the last key has been seen, so that one is whole.
  if (isCut) return { kvs: livePairs(rows), next: isPastEnd ? undefined : successor(lastKey), ...seen };
  const isWhole = rows.length < keysMax && entries < entriesMax;
  if (isWhole) return { kvs: livePairs(rows), next: undefined, ...seen };
  if (rows.length === 1 && !isPastEnd) {
    // More rows of one key than a walk takes.
    return { ...(await readPastKey(query, walk, lastKey)), next: successor(lastKey), ...seen };
  }
  return { kvs: livePairs(rows.slice(0, -1)), next: isPastEnd ? undefined : lastKey, ...seen };
}

/** False for the row that stands alone when there is no pair. */
export const hasKey = (row: Row): boolean => Buffer.isBuffer(row['k']);
/** True for a row of the log that is not a tombstone. */
const isAlive = (row: Row) => int64(row, 'mod_revision') !== 0n && int64(row, 'tombstone') === 0n;
const livePairs = (rows: readonly Row[]) => rows.filter(isAlive).map(keyValueOf);
