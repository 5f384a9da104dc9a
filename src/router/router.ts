// Which store answers a request. The server asks here before every call that names keys.

import type { KeyRange } from '../etcd/range.ts';
import type { CompactionRequest, CompactionResponse, Revision, TxnRequest } from '../etcd/types.ts';
import type { Store } from '../store/store.ts';

/** A type that lives elsewhere than the topology wishes. */
export interface PlacementMismatch {
  /** Root of its keys below the key prefix: `events`, `data.example.com/largedata`. */
  readonly root: string;
  /** The store that its placement record names. */
  readonly recorded: string;
  /** The store that the topology names. */
  readonly wished: string;
}

export interface Router {
  /** The store that holds every key of the range. @throws EtcdError crossStore naming the stores; timeout when that cannot be known now. */
  storeFor(range: KeyRange, signal: AbortSignal): Promise<Store>;
  /** Same, for every key of a txn, nested ones and compares included; the default store for a txn without keys. */
  storeForTxn(request: TxnRequest, signal: AbortSignal): Promise<Store>;
  readonly defaultStore: Store;
  /** Every store, the default first. */
  stores(): readonly Store[];
  /** Compacts the default store, and the others at the point that was noted for this revision. */
  compact(request: CompactionRequest, signal: AbortSignal): Promise<CompactionResponse>;
  /** To be called after a txn on `compact_rev_key`, with its header's revision. */
  noteCompactTxn(revision: Revision, signal: AbortSignal): Promise<void>;
  mismatches(): readonly PlacementMismatch[];
  close(): Promise<void>;
}
