// The seam between backup and restore, and what keeps the keys: a store read as a whole at one revision, and filled. Beside
// store.ts, which serves clients: nothing here serves, sweeps, expires or keeps an index.

import { EtcdError } from '../etcd/errors.ts';
import type { KeyRange } from '../etcd/range.ts';
import type { KeyValue, LeaseId, Revision } from '../etcd/types.ts';
import type { Engine } from './store.ts';

export interface LeaseTime {
  readonly id: LeaseId;
  readonly grantedTtlSeconds: number;
  /** What is left of it. */
  readonly ttlSeconds: number;
}

/** What a key says while somebody works on the store. */
export interface Note {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** The note says something else, or is gone: somebody else works on the store. */
export class NoteError extends Error {
  override readonly name = 'NoteError';

  constructor(store: string) {
    super(`Expected to be alone at store ${store}, got the note of another restore, or none any more`);
  }
}

/** A store as it is at one revision, while others write to it. */
export interface Snapshot {
  readonly revision: Revision;
  /**
   * The live pairs of `range` in key order, in pages of about a mebibyte; nothing is read ahead of who takes them.
   * @throws Error that says so when a compaction has passed the revision, which only an etcd's can.
   */
  pairs(range: KeyRange): AsyncIterable<readonly KeyValue[]>;
  /** Undefined: there is no such lease. Of an etcd it is read later than the pairs, from a database as it was with them. */
  lease(id: LeaseId): Promise<LeaseTime | undefined>;
}

/** A store for backup and restore. Every method may reject with EtcdError; `timeout`: it may be tried again as it is. */
export interface BulkStore extends AsyncDisposable {
  readonly name: string;
  readonly engine: Engine;
  /** Longest key in bytes; undefined: no bound. */
  readonly keyBytesMax: number | undefined;
  /** Whether `put` keeps the revisions and versions of pairs; else they get those of a new write. */
  readonly keepsRevisions: boolean;
  /** How far `lift` can lift; undefined: no bound. */
  readonly liftMax: bigint | undefined;

  /** Runs `body` on the store as it is now. @throws Error when there is no store of switchyard's yet. */
  snapshot<T>(body: (snapshot: Snapshot) => Promise<T>): Promise<T>;

  /** Creates what a gateway would create at its start. The rest of the methods needs it. */
  prepare(): Promise<void>;
  revision(): Promise<Revision>;
  find(key: Buffer): Promise<KeyValue | undefined>;
  /** Whether a pair of so many bytes can be written, as far as that can be told without doing it. */
  takes(pairBytes: number): Promise<boolean>;
  /** Whether a key of `range` is there. */
  holds(range: KeyRange): Promise<boolean>;
  /** As a client is told now; undefined: there is no such lease. */
  lease(id: LeaseId): Promise<LeaseTime | undefined>;
  /**
   * Gives a key that has the value `before` (undefined: is not there) the value `after` (undefined: deletes it), as a client would.
   * False: it is not so, and nothing is done.
   */
  swap(key: Buffer, before: Buffer | undefined, after: Buffer | undefined): Promise<boolean>;
  /**
   * Lifts the revision to `atLeast`, or where it is there already a little in a database, and compacts there: whoever goes on from a
   * revision before is told `compacted`. Gives the revision.
   */
  lift(atLeast: Revision): Promise<Revision>;
  /** Removes the keys of `range`, without an event where the store is a database. @throws NoteError, unless `note` holds. */
  clear(range: KeyRange, note: Note): Promise<void>;
  /** Grants a lease, unless there is one of this id. */
  grant(id: LeaseId, ttlSeconds: number): Promise<void>;
  /** The same in a store beside the one that clients renew leases in. */
  adopt(id: LeaseId, ttlSeconds: number): Promise<void>;
  /**
   * Writes pairs of distinct keys over what is there; again, it does the same. Their leases must be there. Where revisions are kept they must not be
   * above the store's, and `lift` must follow before anybody is served.
   * @throws NoteError, unless `note` holds; EtcdError leaseNotFound, where an etcd has let a lease expire meanwhile.
   */
  put(pairs: readonly KeyValue[], note: Note): Promise<void>;
}

/** `error` with the name of its store in front, where it is one that a store answers with. */
export function namedError(store: string, error: unknown): unknown {
  if (!(error instanceof EtcdError)) return error;
  const { reason, compactRevision, cause } = error;
  return new EtcdError(reason, {
    message: `store ${store}: ${error.message}`,
    cause,
    ...(compactRevision === undefined ? {} : { compactRevision }),
  });
}
