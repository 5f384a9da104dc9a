// Pairs as they were at a revision: those that are there now with the few changes since undone, or a walk over the log in
// key order; both in steps that look at a bounded number of rows whatever lies in the way. Used by range.ts and range-stream.ts. Each
// statement is refused when the revision is below the compact revision of its own snapshot: keys that a compaction took away
// never look absent.

import { SqlFault, type QueryResult, type Row } from '../../../dialect/dialect.ts';
import { EtcdError } from '../../../etcd/errors.ts';
import { isFromKey, successor } from '../../../etcd/range.ts';
import type { KeyValue, RangeRequest, Revision } from '../../../etcd/types.ts';
import { selectPast, selectPastKey, type KeyScope } from './range-statements.ts';
import { bytes, int64, keyValueOf, lostValue } from '../row.ts';
import type { Query } from '../statements.ts';

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
  /** Undo so many rows of the log since the revision, rather than walk; as few values. 0 = walk. */
  readonly changesMax: number;
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
  /** For the next step: 0 when there were too many changes to undo. */
  readonly changesMax: number;
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

/** Changes since a revision that are undone, when few are expected and when more may be. */
const changesFew = 64;
const changesMany = 1_024;

/** For `changesMax`, of a revision that was asked for when `newest` (undefined = it is not known) was about the latest one. */
export function changesToUndo(asked: Revision, newest: Revision | undefined): number {
  if (newest === undefined) return changesMany;
  const behind = newest - asked;
  // A revision changes one key, mostly.
  if (behind > changesMany) return 0;
  return behind > changesFew / 4 ? changesMany : changesFew;
}

/** One step. @throws EtcdError compacted, futureRevision */
export async function readPast(query: Query, walk: PastWalk): Promise<PastStep> {
  if (walk.keys.scope === 'key') return await readPastKey(query, walk, walk.from);
  // Inside a write transaction, its own changes have no revision yet.
  if (walk.changesMax === 0 || walk.pending !== undefined) return await readPastKeys(query, walk);
  return (await readUndone(query, walk)) ?? (await readPastKeys(query, walk));
}

/** Undefined when there were too many changes. */
async function readUndone(query: Query, walk: PastWalk): Promise<PastStep | undefined> {
  const { revision: asked, from, keysMax, changesMax, values, bytesMax } = walk;
  const [, end] = walk.keys.params;
  const toEnd = end === undefined;
  const source = { type: 'undo', changes: changesMax } as const;
  const statement = selectPast({ source, toEnd, values, keys: keysMax, bytesMax });
  const bounds = toEnd ? [] : bytesMax === undefined ? [end, end] : [end, end, end];
  const result = await query(statement, [asked, from, asked, asked, asked, from, ...bounds]);
  const { revision } = snapshotOf(result, asked);
  if (int64(result.rows[0]!, 'changes') >= changesMax) return undefined;
  const rows = result.rows.filter(hasKey).toSorted(byKey);
  const lost = rows.find((row) => row['mod_revision'] === null);
  if (lost !== undefined) throw lostValue({ key: bytes(lost, 'k'), modRevision: asked });
  const last = rows.at(-1);
  const seen = last === undefined || bytesMax === undefined ? rows.length : Number(int64(last, 'keys_seen'));
  const isLast = last === undefined || (rows.length === seen && seen < keysMax);
  const next = isLast ? undefined : successor(bytes(last, 'k'));
  return { kvs: rows.map(keyValueOf), next, entriesPerKey: walk.entriesPerKey, changesMax, revision };
}

async function readPastKey(query: Query, walk: PastWalk, key: Buffer): Promise<PastStep> {
  const result = await query(selectPastKey({ values: walk.values }), [key, walk.revision]);
  const { revision } = snapshotOf(result, walk.revision, walk.pending);
  return { kvs: livePairs(result.rows), next: undefined, entriesPerKey: 1, changesMax: 0, revision };
}

async function readPastKeys(query: Query, walk: PastWalk): Promise<PastStep> {
  const { from, keysMax, values, bytesMax } = walk;
  const entriesMax = keysMax * walk.entriesPerKey;
  const [, end] = walk.keys.params;
  const toEnd = end === undefined;
  const source = { type: 'walk', entries: entriesMax } as const;
  const statement = selectPast({ source, toEnd, values, keys: keysMax, bytesMax });
  const bound = toEnd ? [] : [end];
  const bounds = bytesMax === undefined ? bound : [...bound, ...bound];
  const result = await query(statement, [walk.revision, from, ...bounds]);
  const { revision } = snapshotOf(result, walk.revision, walk.pending);
  const rows = result.rows.filter(hasKey).toSorted(byKey);
  const last = rows.at(-1);
  if (last === undefined) return { kvs: [], next: undefined, entriesPerKey: 1, changesMax: 0, revision };
  const lastKey = bytes(last, 'k');
  const isPastEnd = !toEnd && Buffer.compare(lastKey, end) >= 0;
  const isCut = bytesMax !== undefined && rows.length < Number(int64(last, 'keys_seen'));
  const entries = Number(rows.reduce((sum, row) => sum + int64(row, 'entries'), 0n));
  const seen = { revision, entriesPerKey: entries / rows.length, changesMax: 0 };
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
const byKey = (a: Row, b: Row) => Buffer.compare(bytes(a, 'k'), bytes(b, 'k'));
/** True for a row of the log that is not a tombstone. */
const isAlive = (row: Row) => int64(row, 'mod_revision') !== 0n && int64(row, 'tombstone') === 0n;
const livePairs = (rows: readonly Row[]) => rows.filter(isAlive).map(keyValueOf);
