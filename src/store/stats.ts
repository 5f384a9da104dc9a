// What a store on a database has counted since it was opened, and how it is now, for the metrics (server/metrics/). Types only. The
// parts of the store count in plain fields; nobody asks for them on the way of a request.

import type { DriverStats } from '../dialect/dialect.ts';
import type { Histogram } from '../lib/histogram.ts';

/** Of committer.ts. */
export interface WriteStats {
  /** Waiting now, and the bytes of their requests. */
  readonly queued: number;
  readonly queuedBytes: number;
  /** Txns in each batch that was committed. */
  readonly batchTxns: Histogram;
  /** How long txns waited for their batch. */
  readonly waitSeconds: Histogram;
  /** How long batches took, with what was tried again. */
  readonly commitSeconds: Histogram;
  /** Batches that were committed: over the key index, or under the lock of the meta row. */
  readonly committed: Readonly<Record<'index' | 'lock', number>>;
  /** Batches that failed. */
  readonly failed: number;
  /** Txns that were refused since too many waited, and that waited for too long. */
  readonly refused: number;
  readonly late: number;
}

/** Of point-reads.ts: gets of single keys. */
export interface GetStats {
  readonly queued: number;
  /** Keys in each statement. */
  readonly batchKeys: Histogram;
  readonly refused: number;
}

/** Of change-feed.ts and watch-hub.ts. */
export interface WatchStats {
  readonly feedRunning: boolean;
  /** Events that were published: of commits of this gateway, and read from the log. */
  readonly events: Readonly<Record<'own' | 'log', number>>;
  readonly watchers: Readonly<Record<'synced' | 'behind', number>>;
  /** Revisions by which the watcher that is furthest behind is behind. */
  readonly behindRevisions: number;
  /** Events that streams have taken. */
  readonly delivered: number;
  /** From when this gateway knew of a commit until a stream took its events, of watchers that were up to date. */
  readonly lagSeconds: Histogram;
  /** Watches that ended since what they needed was compacted. */
  readonly compacted: number;
  /** Recent events in memory. */
  readonly ringEvents: number;
  readonly ringBytes: number;
}

/** Of compactor.ts. */
export interface CompactionStats {
  readonly rowsSwept: number;
  readonly sweepsFailed: number;
  readonly refused: number;
}

/** Of lessor.ts: by this gateway. */
export interface LeaseStats {
  readonly granted: number;
  readonly renewed: number;
  readonly expired: number;
}

export interface StoreStats {
  /** The highest revision that this gateway knows of. */
  readonly revision: bigint;
  /** What watchers may have been given; below `revision` while the feed is behind. Of no meaning while the feed rests. */
  readonly feedRevision: bigint;
  /** Keys in memory, and what they take; undefined while the index is being built. */
  readonly keys: { readonly count: number; readonly bytes: number } | undefined;
  /** Values in memory. */
  readonly valueBytes: number;
  readonly writes: WriteStats;
  readonly gets: GetStats;
  readonly watches: WatchStats;
  readonly compaction: CompactionStats;
  readonly leases: LeaseStats;
  readonly driver: DriverStats;
}
