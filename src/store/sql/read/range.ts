// Reads of pairs and counts, with the semantics of etcd's Range. Used by sql-store.ts for requests, by txn.ts inside
// transactions and by range-stream.ts. Invariants: the rows and the revision of an answer are of one state; a count is of the same revision as
// its rows; a revision below the compact revision of the snapshot it is read from is never answered.

import type { QueryResult } from '../../../dialect/dialect.ts';
import { EtcdError } from '../../../etcd/errors.ts';
import { isEmptyRange, keyRange } from '../../../etcd/range.ts';
import { hasRevisionBounds } from '../../../etcd/requests.ts';
import type { KeyValue, RangeRequest, Revision, SortTarget } from '../../../etcd/types.ts';
import type { KeyCounts } from '../keys/key-counts.ts';
import { selectRevisions } from '../watch/log-statements.ts';
import {
  changesToUndo,
  checked,
  hasKey,
  readPast,
  scopeOf,
  snapshotOf,
  type PastStep,
  type Scope,
  type Snapshot,
} from './past.ts';
import {
  isCutBeforeBound,
  selectCount,
  selectLive,
  type PageOrder,
  type SortColumn,
} from './range-statements.ts';
import { int64, keyValueOf } from '../row.ts';
import type { Query } from '../statements.ts';

export interface RangeOptions {
  /**
   * Inside a write transaction: the revision that its writes carry. Rows of it count as current; the meta row does not
   * show it yet.
   */
  readonly pending?: Revision;
  /** Where counts need not be scanned for; not with `pending`. */
  readonly counts?: KeyCounts;
  /** The latest revision, about; a guess for what a read at an older one is best made from. */
  readonly newest?: Revision | undefined;
}

export interface RangeAnswer {
  /** The store's revision in the snapshot that was read, whatever revision was asked for. */
  readonly revision: Revision;
  readonly kvs: KeyValue[];
  readonly more: boolean;
  readonly count: number;
}

/** Keys looked at by one statement while walking through history. */
const walkKeysMin = 64;
const walkKeysMax = 1_024;
/** Rows of the log for each of them, on average, that a walk is prepared for. */
const walkEntriesPerKey = 4;
const walkEntriesPerKeyMax = 16;
/** Above, a limit is left to us: nobody has so many keys, and engines differ in the largest they take. */
const sqlLimitMax = 1_000_000_000;
/** A latest read starts again when a compaction overtook it; a second time in a row is as good as impossible. */
const attemptsMax = 3;
const maxRevision = 2n ** 63n - 1n;
const noBytes = Buffer.alloc(0);

/** Answers `request` from what `query` sees. @throws EtcdError compacted, futureRevision */
export async function readRange(
  query: Query,
  request: RangeRequest,
  options: RangeOptions = {},
): Promise<RangeAnswer> {
  const reader = new RangeReader(query, request, options);
  for (let attempt = 1; ; attempt++) {
    try {
      return await reader.read();
    } catch (error) {
      const isOvertaken =
        error instanceof EtcdError && error.reason === 'compacted' && request.revision <= 0n;
      if (!isOvertaken) throw error;
      if (attempt === attemptsMax) throw new EtcdError('timeout', { cause: error });
    }
  }
}

/** One request. */
class RangeReader {
  readonly #query: Query;
  readonly #request: RangeRequest;
  readonly #pending: Revision | undefined;
  readonly #counts: KeyCounts | undefined;
  readonly #newest: Revision | undefined;
  readonly #keys: Scope;
  readonly #isFiltered: boolean;
  readonly #values: boolean;
  /** What is read: this order, and with `limit` only the first ones of it. */
  readonly #order: { readonly target: SortTarget; readonly isDescending: boolean };
  /** 0 = none. */
  readonly #limit: number;

  constructor(query: Query, request: RangeRequest, { pending, counts, newest }: RangeOptions) {
    this.#newest = newest;
    this.#query = query;
    this.#request = request;
    this.#pending = pending;
    this.#counts = pending === undefined ? counts : undefined;
    this.#keys = scopeOf(request);
    this.#isFiltered = hasRevisionBounds(request);
    this.#values = !request.keysOnly || request.sortTarget === 'value';
    this.#limit = Math.max(0, request.limit);
    // As etcd does it: without an order but with a target, the page is cut in key order and then sorted.
    const isSortedAfterCut = request.sortOrder === 'none' && this.#limit > 0 && !this.#isFiltered;
    this.#order = {
      target: isSortedAfterCut ? 'key' : request.sortTarget,
      isDescending: request.sortOrder === 'descend',
    };
  }

  async read(): Promise<RangeAnswer> {
    const request = this.#request;
    if (isEmptyRange(keyRange(request.key, request.rangeEnd))) {
      const { revision } = this.#snapshot(await this.#query(selectRevisions, []));
      return { revision, kvs: [], more: false, count: 0 };
    }
    if (request.countOnly) {
      const { count, revision } =
        (await this.#known(request.revision)) ?? (await this.#count(request.revision));
      return { revision, kvs: [], more: false, count };
    }
    return request.revision > 0n ? await this.#readPast() : await this.#readLive();
  }

  async #readLive(): Promise<RangeAnswer> {
    const { scope, params } = this.#keys;
    const column = columns[this.#order.target];
    const isCut = scope !== 'key' && this.#limit > 0 && this.#limit < sqlLimitMax && column !== undefined;
    const order: PageOrder | undefined = column && { column, isDescending: this.#order.isDescending };
    const first = isCut && order ? { order, rows: roundUp(this.#limit + 1) } : undefined;
    const page = { scope, values: this.#values, isFiltered: this.#isFiltered, first };
    const isReversed = isCutBeforeBound(scope, page) && order?.isDescending;
    const filter = this.#isFiltered ? filterParams(this.#request) : [];
    const result = await this.#query(selectLive(page), [
      ...(isReversed ? params.toReversed() : params),
      ...filter,
    ]);
    const { revision } = this.#snapshot(result);
    return await this.#answer(revision, revision, result.rows.filter(hasKey).map(keyValueOf));
  }

  async #readPast(): Promise<RangeAnswer> {
    const asked = this.#request.revision;
    const isCut = this.#limit > 0 && this.#order.target === 'key' && !this.#order.isDescending;
    const wanted = isCut ? this.#limit + 1 : Number.POSITIVE_INFINITY;
    const found: KeyValue[] = [];
    let revision = asked;
    let from: Buffer | undefined = this.#request.key;
    let entriesPerKey = walkEntriesPerKey;
    let changesMax = changesToUndo(asked, this.#newest);
    while (from !== undefined && found.length < wanted) {
      // One more, for the last key of a walk is not always known whole.
      const keys = roundUp(Math.min(Math.max(wanted - found.length, walkKeysMin), walkKeysMax) + 1);
      const step = await readPast(this.#query, {
        revision: asked,
        keys: this.#keys,
        from,
        keysMax: keys,
        entriesPerKey,
        changesMax,
        values: this.#values,
        pending: this.#pending,
      });
      found.push(...(this.#isFiltered ? step.kvs.filter((kv) => passes(kv, this.#request)) : step.kvs));
      ({ revision, next: from } = step);
      if (changesMax > 0) changesMax = step.changesMax && changesToUndo(asked, revision);
      entriesPerKey = entriesAfter(step);
    }
    return await this.#answer(revision, asked, found);
  }

  /** From what was read of `at`, in any order, and at least one more than the limit where there is more. */
  async #answer(revision: Revision, at: Revision, found: KeyValue[]): Promise<RangeAnswer> {
    const { sortTarget, keysOnly } = this.#request;
    const { target, isDescending } = this.#order;
    let kvs = found.toSorted(comparator(target, isDescending));
    if (this.#limit > 0) kvs = kvs.slice(0, this.#limit + 1);
    if (target !== sortTarget) kvs.sort(comparator(sortTarget, false));
    const more = this.#limit > 0 && kvs.length > this.#limit;
    if (more) kvs.pop();
    if (keysOnly) kvs = kvs.map((kv) => ({ ...kv, value: noBytes }));
    const count = more || this.#isFiltered ? await this.#countAt(at, revision) : found.length;
    return { revision, kvs, more, count };
  }

  /** Keys in the range at a revision that the database has been seen to have, when it was at `seen`. */
  async #countAt(at: Revision, seen: Revision): Promise<number> {
    const { key, rangeEnd } = this.#request;
    return (await this.#counts?.count(keyRange(key, rangeEnd), at, seen)) ?? (await this.#count(at)).count;
  }

  /** Keys in the range at a revision (0 or below: now) as the index knows them; undefined when it does not. */
  async #known(
    asked: Revision,
  ): Promise<{ readonly count: number; readonly revision: Revision } | undefined> {
    if (!this.#counts?.isReady) return undefined;
    const { key, rangeEnd } = this.#request;
    const { revision } = checked(await this.#counts.revisions(), asked);
    const count = await this.#counts.count(keyRange(key, rangeEnd), asked > 0n ? asked : revision, revision);
    return count === undefined ? undefined : { count, revision };
  }

  /**
   * Keys in the range at a revision (0 or below: now), in one snapshot: what is there now less what has come since. The
   * log above a revision that is not compacted is complete, so that is exact. Costs a pass over the keys of the range.
   */
  async #count(at: Revision): Promise<{ readonly count: number; readonly revision: Revision }> {
    const { scope, params } = this.#keys;
    const since = at > 0n;
    // In a write transaction, what meta says is not all that there is.
    const isAllIn = this.#pending === undefined ? at : -1n;
    const result = await this.#query(
      selectCount(scope, { since }),
      since ? [...params, isAllIn, at, ...params] : params,
    );
    const { revision } = this.#snapshot(result, at);
    const row = result.rows[0]!;
    return { count: Number(int64(row, 'live') - int64(row, 'gained')), revision };
  }

  #snapshot(result: QueryResult, asked: Revision = this.#request.revision): Snapshot {
    return snapshotOf(result, asked, this.#pending);
  }
}

// Limits

/** At least `n`, by an eighth more at most; eight values for each power of two. */
function roundUp(n: number): number {
  const step = 2 ** Math.max(0, Math.floor(Math.log2(n)) - 3);
  return Math.ceil(n / step) * step;
}

/** As many rows for each key as the step before has met; powers of two. */
function entriesAfter({ entriesPerKey }: PastStep): number {
  const entries = 2 ** Math.ceil(Math.log2(entriesPerKey));
  return Math.min(Math.max(entries, walkEntriesPerKey), walkEntriesPerKeyMax);
}

// Filters

function bounds(request: RangeRequest): readonly [bigint, bigint, bigint, bigint] {
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
  return [minModRevision, maxModRevision, minCreateRevision, maxCreateRevision];
}

/** The four bounds with those that are not set wide open. */
function filterParams(request: RangeRequest): readonly [bigint, bigint, bigint, bigint] {
  const [minMod, maxMod, minCreate, maxCreate] = bounds(request);
  const upper = (bound: bigint) => (bound === 0n ? maxRevision : bound);
  return [minMod, upper(maxMod), minCreate, upper(maxCreate)];
}

function passes({ modRevision, createRevision }: KeyValue, request: RangeRequest): boolean {
  const [minMod, maxMod, minCreate, maxCreate] = filterParams(request);
  return (
    modRevision >= minMod &&
    modRevision <= maxMod &&
    createRevision >= minCreate &&
    createRevision <= maxCreate
  );
}

// Order

/** Values are compared here: MySQL compares only the first bytes of large ones. */
const columns: Record<SortTarget, SortColumn | undefined> = {
  key: 'k',
  version: 'version',
  create: 'create_revision',
  mod: 'mod_revision',
  value: undefined,
};

const byKey = (a: KeyValue, b: KeyValue) => Buffer.compare(a.key, b.key);
const bySize = (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0);

const ascending: Record<SortTarget, (a: KeyValue, b: KeyValue) => number> = {
  key: byKey,
  version: (a, b) => bySize(a.version, b.version),
  create: (a, b) => bySize(a.createRevision, b.createRevision),
  mod: (a, b) => bySize(a.modRevision, b.modRevision),
  value: (a, b) => Buffer.compare(a.value, b.value),
};

/** Pairs that are equal in `target` are in key order, whatever the direction. */
function comparator(target: SortTarget, isDescending: boolean): (a: KeyValue, b: KeyValue) => number {
  const compare = ascending[target];
  return (a, b) => (isDescending ? compare(b, a) : compare(a, b)) || byKey(a, b);
}
