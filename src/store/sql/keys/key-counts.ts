// Counts of keys at a revision from the key index, for range.ts: what is counted is what a statement at that revision would
// count. Used by sql-store.ts. The index may be behind the database, which others write to; it then reads on first.

import type { KeyRange } from '../../../etcd/range.ts';
import type { Revision } from '../../../etcd/types.ts';
import { orAborted } from '../../../lib/abort.ts';
import type { KeyIndex } from './key-index.ts';
import { createShared } from '../limits.ts';
import type { LogReader, Revisions } from '../watch/log-reader.ts';

/** Counts for the requests of one caller. */
export interface KeyCounts {
  /** False while the index is being built: it is of no use then. */
  readonly isReady: boolean;
  /** The counters of the database, not older than the call. Requests that wait share a read. */
  revisions(): Promise<Revisions>;
  /**
   * Keys in `range` at a revision that the database has reached and has not compacted; undefined when the index cannot
   * tell. `seen`: the store's revision in the snapshot that the answer is of.
   */
  count(range: KeyRange, at: Revision, seen: Revision): Promise<number | undefined>;
}

/** Counts for one request, asked for before it reads anything; waits end with the signal. */
export function createKeyCounts(options: {
  readonly index: KeyIndex;
  readonly reader: Pick<LogReader, 'revisions'>;
}): (signal: AbortSignal) => KeyCounts {
  const { index, reader } = options;
  const revisions = createShared(() => reader.revisions());
  return (signal) => {
    const known = index.revision ?? 0n;
    return {
      get isReady() {
        return index.revision !== undefined;
      },
      revisions: () => orAborted(revisions(), signal),
      async count(range, at, seen) {
        if (seen < known) index.distrust('the database has lost commits');
        if (index.revision !== undefined && index.revision < at) await index.catchUp(signal);
        return index.count(range, at);
      },
    };
  };
}
