// A range in chunks, for KV.RangeStream: pages of bounded size, all of the revision of the first one. Used by sql-store.ts.
// Invariants: nothing is read ahead of who takes the chunks; each page begins behind the last key of the one before, so
// that a whole stream looks at each row of the log once, and counts at most once, at its end.

import { isEmptyRange, keyRange, successor } from '../../../etcd/range.ts';
import type { KeyValue, RangeRequest, Revision } from '../../../etcd/types.ts';
import { changesToUndo, hasKey, readPast, scopeOf, snapshotOf, type PastStep } from './past.ts';
import { readRange, type RangeAnswer, type RangeOptions } from './range.ts';
import { selectLive } from './range-statements.ts';
import { keyValueOf } from '../row.ts';
import type { Query } from '../statements.ts';

/** Some of the pairs; with the last ones, what an answer has beside them. */
export interface StreamPage {
  readonly kvs: readonly KeyValue[];
  readonly end?: Omit<RangeAnswer, 'kvs'>;
}

/** Bytes of the values of a page, about; the last value may exceed it. */
const pageBytes = 1024 * 1024;
/** Keys of the first page: nothing is known of their sizes yet, and they are read without a look at them. */
const firstKeys = 16;
/**
 * Keys that a page looks at, and rows of the log for each of them; both follow what the page before has met. Some engines
 * read a value for its length, so where values are large a page looks at few keys.
 */
const pageKeysFirst = 64;
const pageKeysMin = 8;
const pageKeysMax = 4096;
const entriesPerKeyFirst = 4;
const entriesPerKeyMax = 8;

/** What one page says about the next: where it begins, and how much to ask for. */
interface Pace {
  readonly from: Buffer;
  readonly keysMax: number;
  readonly entriesPerKey: number;
  readonly changesMax: number;
}

/**
 * Answers `request` page by page; a request that is not for all pairs of a range in key order gets one page.
 * @throws EtcdError compacted, futureRevision; compacted also on the way, when a compaction passes the revision.
 */
export async function* streamRange(
  query: Query,
  request: RangeRequest,
  options: Pick<RangeOptions, 'counts' | 'newest'> = {},
): AsyncGenerator<StreamPage> {
  const { key, rangeEnd, countOnly, sortTarget, limit } = request;
  const isPaged = rangeEnd.length > 0 && !isEmptyRange(keyRange(key, rangeEnd)) && !countOnly;
  if (!isPaged || sortTarget !== 'key') {
    const { kvs, ...end } = await readRange(query, request, options);
    yield { kvs, end };
    return;
  }
  let left = limit > 0 ? limit : Number.POSITIVE_INFINITY;
  let sent = 0;
  const changesMax = changesToUndo(request.revision > 0n ? request.revision : 0n, options.newest);
  let pace: Pace = { from: key, keysMax: pageKeysFirst, entriesPerKey: entriesPerKeyFirst, changesMax };
  let step =
    request.revision > 0n ? await readNext(query, request, pace, left) : await readFirst(query, request);
  // As etcd: pairs of the revision asked for, under the header of now.
  const { revision } = step;
  const pinned = { ...request, revision: request.revision > 0n ? request.revision : revision };
  for (;;) {
    const kvs = step.kvs.slice(0, left);
    const more = kvs.length < step.kvs.length;
    left -= kvs.length;
    sent += kvs.length;
    if (more || step.next === undefined) {
      const count = more ? (await readRange(query, { ...pinned, countOnly: true }, options)).count : sent;
      yield { kvs, end: { revision, more, count } };
      return;
    }
    if (kvs.length > 0) yield { kvs };
    pace = paceAfter(step, step.next, pace, pinned.revision);
    step = await readNext(query, pinned, pace, left);
  }
}

/** The page at `pace`, at the revision of `request`; no longer than it takes to know that there is more than `left`. */
function readNext(query: Query, request: RangeRequest, pace: Pace, left: number): Promise<PastStep> {
  const { revision, rangeEnd } = request;
  // One for `more`, one because the last key of a walk is not always known whole.
  const enough = Math.max(pageKeysFirst, 2 ** Math.ceil(Math.log2(left + 2)));
  return readPast(query, {
    ...pace,
    revision,
    keys: scopeOf({ key: pace.from, rangeEnd }),
    keysMax: Math.min(pace.keysMax, enough),
    values: !request.keysOnly,
    ...(request.keysOnly ? {} : { bytesMax: pageBytes }),
  });
}

/** The first pairs as they are now. */
async function readFirst(query: Query, request: RangeRequest): Promise<PastStep> {
  const { scope, params } = scopeOf(request);
  const first = { order: { column: 'k', isDescending: false }, rows: firstKeys } as const;
  const result = await query(
    selectLive({ scope, values: !request.keysOnly, isFiltered: false, first }),
    params,
  );
  const { revision } = snapshotOf(result, 0n);
  const kvs = result.rows
    .filter(hasKey)
    .map(keyValueOf)
    .toSorted((a, b) => Buffer.compare(a.key, b.key));
  // Where a page is cut before its bound, pairs behind the bound make it short.
  const isFull = kvs.length === firstKeys;
  const next = isFull ? successor(kvs.at(-1)!.key) : undefined;
  return {
    kvs,
    next,
    entriesPerKey: entriesPerKeyFirst,
    changesMax: changesToUndo(revision, revision),
    revision,
  };
}

/** Powers of two, for few statements. Where nothing was there at the revision, the next page looks further. */
function paceAfter(step: PastStep, from: Buffer, before: Pace, pinned: Revision): Pace {
  const { kvs, entriesPerKey, changesMax, revision } = step;
  const bytes = kvs.reduce((sum, kv) => sum + kv.key.length + kv.value.length, 0);
  const fitting =
    kvs.length === 0 ? before.keysMax * 2 : 2 ** Math.round(Math.log2((pageBytes * kvs.length) / bytes));
  const entries = 2 ** Math.ceil(Math.log2(entriesPerKey));
  return {
    from,
    keysMax: Math.min(Math.max(fitting, pageKeysMin), pageKeysMax),
    entriesPerKey: Math.min(entries, entriesPerKeyMax),
    changesMax: changesMax && changesToUndo(pinned, revision),
  };
}
