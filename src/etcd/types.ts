// The vocabulary: etcd's messages as plain types. Names and fields are those of etcd's rpc.proto and kv.proto in
// camelCase. Revisions, lease ids, watch ids, cluster and member ids are bigint (int64/uint64 on the wire); counts,
// limits and TTLs are number; keys and values are Buffer. Nothing here does anything.

export type Revision = bigint;
export type LeaseId = bigint;
export type WatchId = bigint;

export interface KeyValue {
  readonly key: Buffer;
  /** Revision at which the key (re)appeared. */
  readonly createRevision: Revision;
  /** Revision of the last put. In a delete event: revision of the deletion. */
  readonly modRevision: Revision;
  /** Puts since creation, from 1; 0 in the `kv` of a delete event. */
  readonly version: bigint;
  readonly value: Buffer;
  /** 0 = no lease. */
  readonly lease: LeaseId;
}

export interface Event {
  readonly type: 'put' | 'delete';
  /** For a delete only `key` and `modRevision` are set (the rest 0 or empty), as in etcd. */
  readonly kv: KeyValue;
  /** The pair before this event, where the watch asked for it and it existed and is not compacted away. */
  readonly prevKv?: KeyValue;
}

export interface ResponseHeader {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly revision: Revision;
  readonly raftTerm: bigint;
}

/** `unknown`: an order or a target that no release has, which is refused. */
export type SortOrder = 'none' | 'ascend' | 'descend' | 'unknown';
export type SortTarget = 'key' | 'version' | 'create' | 'mod' | 'value';

export interface RangeRequest {
  readonly key: Buffer;
  /** Empty: the single key. `\0`: every key from `key` on. Else half-open: [key, rangeEnd). */
  readonly rangeEnd: Buffer;
  /** 0 = no limit. */
  readonly limit: number;
  /** 0 or below = latest. */
  readonly revision: Revision;
  readonly sortOrder: SortOrder;
  readonly sortTarget: SortTarget;
  readonly serializable: boolean;
  readonly keysOnly: boolean;
  readonly countOnly: boolean;
  /** These four: 0 = no bound. Applied after counting. */
  readonly minModRevision: Revision;
  readonly maxModRevision: Revision;
  readonly minCreateRevision: Revision;
  readonly maxCreateRevision: Revision;
}

export interface RangeResponse {
  readonly header: ResponseHeader;
  readonly kvs: readonly KeyValue[];
  readonly more: boolean;
  /** Keys in the requested range at the requested revision, whatever the limit. */
  readonly count: number;
}

/** The `range_response` of one message of RangeStream: some of the pairs; the last one alone has the rest of the fields. */
export interface RangeChunk extends Omit<RangeResponse, 'header'> {
  /** With the last one. */
  readonly header?: ResponseHeader;
}

export interface PutRequest {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly lease: LeaseId;
  readonly prevKv: boolean;
  readonly ignoreValue: boolean;
  readonly ignoreLease: boolean;
}

export interface PutResponse {
  readonly header: ResponseHeader;
  readonly prevKv?: KeyValue;
}

export interface DeleteRangeRequest {
  readonly key: Buffer;
  readonly rangeEnd: Buffer;
  readonly prevKv: boolean;
}

export interface DeleteRangeResponse {
  readonly header: ResponseHeader;
  readonly deleted: number;
  /** Empty unless asked for. */
  readonly prevKvs: readonly KeyValue[];
}

export type CompareResult = 'equal' | 'greater' | 'less' | 'notEqual';

/** The operand's type follows the target: bigint for all but `value`. */
export type Compare = {
  readonly result: CompareResult;
  readonly key: Buffer;
  readonly rangeEnd: Buffer;
} & (
  | { readonly target: 'version' | 'create' | 'mod' | 'lease'; readonly operand: bigint }
  | { readonly target: 'value'; readonly operand: Buffer }
);

export type RequestOp =
  | { readonly type: 'range'; readonly request: RangeRequest }
  | { readonly type: 'put'; readonly request: PutRequest }
  | { readonly type: 'deleteRange'; readonly request: DeleteRangeRequest }
  | { readonly type: 'txn'; readonly request: TxnRequest };

export type ResponseOp =
  | { readonly type: 'range'; readonly response: RangeResponse }
  | { readonly type: 'put'; readonly response: PutResponse }
  | { readonly type: 'deleteRange'; readonly response: DeleteRangeResponse }
  | { readonly type: 'txn'; readonly response: TxnResponse };

export interface TxnRequest {
  readonly compare: readonly Compare[];
  readonly success: readonly RequestOp[];
  readonly failure: readonly RequestOp[];
}

export interface TxnResponse {
  readonly header: ResponseHeader;
  readonly succeeded: boolean;
  readonly responses: readonly ResponseOp[];
}

export interface CompactionRequest {
  readonly revision: Revision;
  /** Answer only when the deletion is done, not merely recorded. */
  readonly physical: boolean;
}

export interface CompactionResponse {
  readonly header: ResponseHeader;
}

export interface WatchCreateRequest {
  readonly key: Buffer;
  readonly rangeEnd: Buffer;
  /** 0 = events after now. */
  readonly startRevision: Revision;
  readonly progressNotify: boolean;
  readonly filters: readonly ('noput' | 'nodelete')[];
  readonly prevKv: boolean;
  /** 0 = the server chooses. */
  readonly watchId: WatchId;
  readonly fragment: boolean;
}

export interface LeaseGrantRequest {
  readonly ttl: number;
  /** Chosen above the stores; 0 only on the wire. */
  readonly id: LeaseId;
}

export interface LeaseGrantResponse {
  readonly header: ResponseHeader;
  readonly id: LeaseId;
  /** Seconds; may be above what was asked for. */
  readonly ttl: number;
}

export interface LeaseRevokeResponse {
  readonly header: ResponseHeader;
}

export interface LeaseKeepAliveResponse {
  readonly header: ResponseHeader;
  readonly id: LeaseId;
  /** Seconds; 0 = the lease is gone. */
  readonly ttl: number;
}

export interface LeaseTimeToLiveRequest {
  readonly id: LeaseId;
  readonly keys: boolean;
}

export interface LeaseTimeToLiveResponse {
  readonly header: ResponseHeader;
  readonly id: LeaseId;
  /** Remaining seconds; -1 = no such lease. */
  readonly ttl: number;
  readonly grantedTtl: number;
  /** Attached keys in key order, where asked for. */
  readonly keys: readonly Buffer[];
}

export interface LeaseLeasesResponse {
  readonly header: ResponseHeader;
  readonly leases: readonly LeaseId[];
}
