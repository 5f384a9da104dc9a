// Requests with every field in its place: what is not said is what etcd takes when a client leaves it out. Used wherever a
// request is made here rather than received, and by the codecs as the start of what they read. Also what several layers ask of a request.

import type { PutRequest, RangeRequest, RequestOp, WatchCreateRequest } from './types.ts';

const noBytes = Buffer.alloc(0);

/** A linearizable read of one key at the latest revision, unless `more` says otherwise. */
export function rangeRequest(key: Buffer, more: Partial<RangeRequest> = {}): RangeRequest {
  return {
    key,
    rangeEnd: noBytes,
    limit: 0,
    revision: 0n,
    sortOrder: 'none',
    sortTarget: 'key',
    serializable: false,
    keysOnly: false,
    countOnly: false,
    minModRevision: 0n,
    maxModRevision: 0n,
    minCreateRevision: 0n,
    maxCreateRevision: 0n,
    ...more,
  };
}

/** Whether `request` asks only for pairs of some revisions, created or changed. */
export function hasRevisionBounds(request: RangeRequest): boolean {
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
  return [minModRevision, maxModRevision, minCreateRevision, maxCreateRevision].some((bound) => bound !== 0n);
}

/** Stands for an op of a txn without anything in it, or of a kind that no release has. It is refused. */
export const opOfNoKind: RequestOp = { type: 'range', request: rangeRequest(noBytes) };

/** A put without a lease. */
export function putRequest(key: Buffer, value: Buffer, more: Partial<PutRequest> = {}): PutRequest {
  return { key, value, lease: 0n, prevKv: false, ignoreValue: false, ignoreLease: false, ...more };
}

/** A watch of one key from now on. */
export function watchRequest(key: Buffer, more: Partial<WatchCreateRequest> = {}): WatchCreateRequest {
  return {
    key,
    rangeEnd: noBytes,
    startRevision: 0n,
    progressNotify: false,
    filters: [],
    prevKv: false,
    watchId: 0n,
    fragment: false,
    ...more,
  };
}

/** A cheap linearizable read of a key nobody writes: the header of its answer is what is wanted. */
export const headerProbe: RangeRequest = rangeRequest(Buffer.from([0]), { limit: 1, keysOnly: true });
