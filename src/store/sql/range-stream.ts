// A range in chunks, for KV.RangeStream: pages of bounded size, all of the revision of the first one. Used by sql-store.ts.
// Invariants: nothing is read ahead of who takes the chunks; each page begins behind the last key of the one before, so
// that a whole stream looks at each row of the log once, and counts at most once, at its end.

import { isEmptyRange, keyRange, successor } from '../../etcd/range.ts';
import type { KeyValue, RangeRequest, Revision } from '../../etcd/types.ts';
import { hasKey, readPast, scopeOf, snapshotOf, type PastStep } from './past.ts';
import { readRange, type RangeAnswer } from './range.ts';
import { selectLive } from './range-statements.ts';
import { keyValueOf } from './row.ts';
import type { Query } from './statements.ts';

/** Some of the pairs; with the last ones, what an answer has beside them. */
export interface StreamPage {
  readonly kvs: readonly KeyValue[];
  readonly end?: Omit<RangeAnswer, 'kvs'>;
}

/** Bytes of the values of a page, about; the last value may exceed it. */
const pageBytes = 1024 * 1024;
/** Keys of the first page: nothing is known of their sizes yet, and they are read without a look at them. */
const firstKeys = 16;
/** Keys that a page looks at. */
const pageKeysMin = 64;
const pageKeysMax = 4096;

/**
 * Answers `request` page by page; a request that is not for all pairs of a range in key order gets one page.
 * @throws EtcdError compacted, futureRevision; compacted also on the way, when a compaction passes the revision.
 */
export async function* streamRange(query: Query, request: RangeRequest): AsyncGenerator<StreamPage> {
  const { key, rangeEnd, countOnly, sortTarget, limit } = request;
  const isPaged = rangeEnd.length > 0 && !isEmptyRange(keyRange(key, rangeEnd)) && !countOnly;
  if (!isPaged || sortTarget !== 'key') {
    const { kvs, ...end } = await readRange(query, request);
    yield { kvs, end };
    return;
  }
  const wanted = limit > 0 ? limit : Number.POSITIVE_INFINITY;
  let pinned = request.revision;
  let revision: Revision | undefined;
  let from = key;
  let keysMax = pageKeysMin;
  let sent = 0;
  for (;;) {
    const walk = { revision: pinned, keys: scopeOf({ key: from, rangeEnd }), from, keysMax };
    const values = !request.keysOnly;
    const page =
      pinned > 0n
        ? await readPast(query, { ...walk, values, ...(values ? { bytesMax: pageBytes } : {}) })
        : await readFirst(query, request);
    revision ??= page.revision;
    if (pinned <= 0n) pinned = page.revision;
    const kvs = page.kvs.slice(0, wanted - sent);
    const more = kvs.length < page.kvs.length;
    sent += kvs.length;
    if (more || page.next === undefined) {
      const count = more ? await countAt(query, request, pinned) : sent;
      yield { kvs, end: { revision, more, count } };
      return;
    }
    if (kvs.length > 0) yield { kvs };
    from = page.next;
    keysMax = keysFor(page.kvs) ?? keysMax;
  }
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
  return { kvs, next: isFull ? successor(kvs.at(-1)!.key) : undefined, revision };
}

/** How many pairs like these make a page: a power of two, for few statements. */
function keysFor(kvs: readonly KeyValue[]): number | undefined {
  if (kvs.length === 0) return undefined;
  const bytes = kvs.reduce((sum, kv) => sum + kv.key.length + kv.value.length, 0);
  const fitting = 2 ** Math.floor(Math.log2((pageBytes * kvs.length) / bytes));
  return Math.min(Math.max(fitting, pageKeysMin), pageKeysMax);
}

async function countAt(query: Query, request: RangeRequest, revision: Revision): Promise<number> {
  return (await readRange(query, { ...request, revision, countOnly: true })).count;
}
