// The seam between what clients ask for (server, router) and what keeps the keys. A Store is one revision timeline.
// Every method takes etcd's request, answers with etcd's response and throws EtcdError. Types only.

import type { HashKvResponse } from '../etcd/codec/maintenance.ts';
import type {
  CompactionRequest,
  CompactionResponse,
  Event,
  LeaseGrantRequest,
  LeaseGrantResponse,
  LeaseId,
  LeaseKeepAliveResponse,
  LeaseLeasesResponse,
  LeaseRevokeResponse,
  LeaseTimeToLiveRequest,
  LeaseTimeToLiveResponse,
  RangeChunk,
  RangeRequest,
  RangeResponse,
  Revision,
  TxnRequest,
  TxnResponse,
  WatchCreateRequest,
} from '../etcd/types.ts';
import type { StoreStats } from './stats.ts';

export type { StoreStats } from './stats.ts';

export type Engine = 'etcd' | 'postgres' | 'mysql' | 'sqlite';

/** TLS material as file paths; read each time a connection is opened. */
export interface BackendTls {
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly skipVerify: boolean;
}

/** Absent = the engine's default. Times in milliseconds. */
export interface ConnectionPool {
  readonly maxOpen?: number;
  readonly maxIdle?: number;
  readonly maxLifeTimeMs?: number;
  readonly maxIdleLifeTimeMs?: number;
}

/** One store to open, as the topology names it: what router/topology.ts produces and store/open.ts takes. */
export interface Backend {
  /** Unique in the topology; `default` for the default store. Goes into placement records, logs and metrics. */
  readonly name: string;
  readonly engine: Engine;
  /**
   * Normalised URL, credentials included: never log it. etcd: comma-separated http(s) URLs, a login in the first. sqlite:
   * `sqlite://PATH`.
   */
  readonly url: string;
  /** The URL with its password replaced by `***`, for people. */
  readonly displayUrl: string;
  readonly tls?: BackendTls;
  /** Read each time a connection is opened; the URL has no password then. */
  readonly passwordFile?: string;
  readonly pool: ConnectionPool;
}

/** Events in revision order. A batch never splits a revision; every event at or below `revision` has been delivered. */
export interface WatchBatch {
  /** Empty = a progress mark: nothing else is due at or below `revision`. */
  readonly events: readonly Event[];
  readonly revision: Revision;
}

/**
 * Turns to take what a watch has for its consumer: several watches with one consumer hold no more between them than it can be
 * given. What is taken from memory and what is read from history wait apart, so that a slow read holds nobody else up.
 */
export interface WatchPace {
  /** Gives what gives the turn back: at once, where nobody else has it. */
  turn(from: 'memory' | 'history'): (() => void) | Promise<() => void>;
}

/**
 * One watch on one store. Iterating yields batches for ever; it ends (without error) when the signal given to
 * `Store.watch` is aborted or the iterator is returned, and throws EtcdError `compacted` with its `compactRevision`
 * when history the watch needs is gone. A store that cannot be reached for a while makes the iteration wait, not end.
 * What is not consumed is not buffered without bound: a slow consumer falls behind and catches up from history.
 */
export interface Watch extends AsyncIterable<WatchBatch> {
  /** The store's revision when the watch was created: the header revision of the `created` answer. */
  readonly createdRevision: Revision;
  /** The store's revision as far as this gateway knows it: never below what it has acknowledged or yielded. */
  readonly revision: Revision;
  /**
   * Asks for a progress mark. It arrives through the iteration once everything at or below the store's revision at
   * the time of the request (read from the database, not from memory) has been yielded. Several requests may share one mark.
   */
  requestProgress(): void;
}

export interface StoreStatus {
  readonly revision: Revision;
  readonly compactRevision: Revision;
  /** What of the compacted revisions has been swept away; undefined where the store does not tell. */
  readonly sweptRevision?: Revision;
  /** How many there are; undefined where the store does not tell. */
  readonly leases?: number;
  /** Bytes on disk, and bytes of it in use; equal where the engine does not tell. */
  readonly dbSize: number;
  readonly dbSizeInUse: number;
  /** The etcd version the store answers as, as semver. */
  readonly version: string;
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly raftTerm: bigint;
}

/** A message stream in protobuf bytes, both ways. */
export interface RawStream extends AsyncIterable<Buffer> {
  /** Resolves when the transport takes more; rejects when the stream has failed. */
  write(message: Buffer): Promise<void>;
  /** No more writes; the other side may still answer. */
  end(): void;
  cancel(): void;
}

/** Metadata passed along with a raw call: only what clients of etcd send (`hasleader`, `token`, `client-api-version`, trace headers). */
export type RawMetadata = Readonly<Record<string, string>>;

export interface RawCallOptions {
  readonly metadata: RawMetadata;
  readonly signal: AbortSignal;
}

/** What a store that is itself an etcd offers beside Store: requests and answers as bytes, unknown fields included. */
export interface Passthrough {
  /**
   * `method` is the gRPC path, e.g. `/etcdserverpb.KV/Range`. Rejects with StatusError (code, details and trailing
   * metadata as etcd gave them).
   */
  unary(method: string, request: Buffer, options: RawCallOptions): Promise<Buffer>;
  /** Client, server or bidirectional streaming. Iteration throws StatusError at a bad end. */
  stream(method: string, options: RawCallOptions): RawStream;
}

/** One revision timeline. Writes arrive as txns only: Put and DeleteRange are txns of one op. */
export interface Store extends AsyncDisposable {
  readonly name: string;
  readonly engine: Engine;
  /** Present when the store speaks etcd's protocol itself. */
  readonly passthrough?: Passthrough;

  /** @throws EtcdError compacted, futureRevision; timeout when the store cannot be reached. */
  range(request: RangeRequest, signal: AbortSignal): Promise<RangeResponse>;
  /**
   * The same in chunks of bounded size, all of the revision of the first one, each read when it is asked for. Absent
   * where requests pass as bytes. @throws as `range`; compacted also after some chunks.
   */
  rangeStream?(request: RangeRequest, signal: AbortSignal): AsyncIterable<RangeChunk>;
  /**
   * Acknowledges only what is durable. Requests are validated above (server/validate.ts); conditions that need the
   * state are checked here, before anything is applied.
   * @throws EtcdError compacted, futureRevision, keyNotFound, leaseNotFound; timeout when the outcome is not known.
   */
  txn(request: TxnRequest, signal: AbortSignal): Promise<TxnResponse>;
  /** Resolves when the watch is registered: no event above `createdRevision` is missed. */
  watch(request: WatchCreateRequest, signal: AbortSignal, pace?: WatchPace): Promise<Watch>;
  /** @throws EtcdError compacted (at or below the compact revision), futureRevision. */
  compact(request: CompactionRequest, signal: AbortSignal): Promise<CompactionResponse>;
  /** @throws EtcdError leaseExists. */
  leaseGrant(request: LeaseGrantRequest, signal: AbortSignal): Promise<LeaseGrantResponse>;
  /** Deletes the attached keys in one revision, in key order. @throws EtcdError leaseNotFound. */
  leaseRevoke(id: LeaseId, signal: AbortSignal): Promise<LeaseRevokeResponse>;
  leaseKeepAlive(id: LeaseId, signal: AbortSignal): Promise<LeaseKeepAliveResponse>;
  leaseTimeToLive(request: LeaseTimeToLiveRequest, signal: AbortSignal): Promise<LeaseTimeToLiveResponse>;
  leaseLeases(signal: AbortSignal): Promise<LeaseLeasesResponse>;
  /** Also the health probe: rejects when the store cannot be reached. */
  status(signal: AbortSignal): Promise<StoreStatus>;
  /** What it has counted. Absent where requests pass as bytes. */
  stats?(): StoreStats;
  /**
   * The checksum of all history up to and with `revision` (0 = now): equal in all stores with the same history and the same
   * compact revision, etcd's own included. Absent where requests pass as bytes.
   * @throws EtcdError compacted, futureRevision.
   */
  hashKv?(revision: Revision, signal: AbortSignal): Promise<HashKvResponse>;
  /**
   * Lifts the revision counter to at least `revision`, so that a type placed here never shows a lower revision than
   * before. A gap in the numbers, not an event. Absent where the counter cannot be lifted (etcd).
   */
  raiseRevision?(revision: Revision, signal: AbortSignal): Promise<void>;
}
