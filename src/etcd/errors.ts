// The errors of the etcd API. clientv3 recognises an error by its exact message text, so the texts below are part of
// the protocol; they and their codes are those of etcd 3.6 `api/v3rpc/rpctypes/error.go`.

import { grpcCode, type GrpcCode } from '../grpc/codes.ts';

/** reason → [gRPC code, exact message]. */
export const etcdErrors = {
  emptyKey: [grpcCode.invalidArgument, 'etcdserver: key is not provided'],
  keyNotFound: [grpcCode.invalidArgument, 'etcdserver: key not found'],
  valueProvided: [grpcCode.invalidArgument, 'etcdserver: value is provided'],
  leaseProvided: [grpcCode.invalidArgument, 'etcdserver: lease is provided'],
  tooManyOps: [grpcCode.invalidArgument, 'etcdserver: too many operations in txn request'],
  duplicateKey: [grpcCode.invalidArgument, 'etcdserver: duplicate key given in txn request'],
  invalidSortOption: [grpcCode.invalidArgument, 'etcdserver: invalid sort option'],
  requestTooLarge: [grpcCode.invalidArgument, 'etcdserver: request is too large'],
  compacted: [grpcCode.outOfRange, 'etcdserver: mvcc: required revision has been compacted'],
  futureRevision: [grpcCode.outOfRange, 'etcdserver: mvcc: required revision is a future revision'],
  noSpace: [grpcCode.resourceExhausted, 'etcdserver: mvcc: database space exceeded'],
  tooManyRequests: [grpcCode.resourceExhausted, 'etcdserver: too many requests'],
  leaseNotFound: [grpcCode.notFound, 'etcdserver: requested lease not found'],
  leaseExists: [grpcCode.failedPrecondition, 'etcdserver: lease already exists'],
  leaseTtlTooLarge: [grpcCode.outOfRange, 'etcdserver: too large lease TTL'],
  watchCanceled: [grpcCode.canceled, 'etcdserver: watch canceled'],
  stopped: [grpcCode.unavailable, 'etcdserver: server stopped'],
  timeout: [grpcCode.unavailable, 'etcdserver: request timed out'],
  noLeader: [grpcCode.unavailable, 'etcdserver: no leader'],
  unhealthy: [grpcCode.unavailable, 'etcdserver: unhealthy cluster'],
  corrupt: [grpcCode.dataLoss, 'etcdserver: corrupt cluster'],
  authNotEnabled: [grpcCode.failedPrecondition, 'etcdserver: authentication is not enabled'],
  /** Not an etcd text: grpc.health.v1 asks for the code alone. */
  healthServiceUnknown: [grpcCode.notFound, 'unknown service'],
  /** Not an etcd text: a range, watch or txn that would need several stores. Always given a message of its own. */
  crossStore: [grpcCode.invalidArgument, 'switchyard: the request spans more than one store'],
  /** Not an etcd text: an RPC that switchyard does not offer. Given a message of its own. */
  unimplemented: [grpcCode.unimplemented, 'switchyard: not implemented'],
} as const satisfies Record<string, readonly [GrpcCode, string]>;

export type EtcdErrorReason = keyof typeof etcdErrors;

const reasons = new Map<string, EtcdErrorReason>(
  Object.entries(etcdErrors).map(([reason, [, text]]) => [text, reason as EtcdErrorReason]),
);

/** The reason whose message an etcd has sent; undefined: it is none of these. */
export function reasonOfText(text: string): EtcdErrorReason | undefined {
  return reasons.get(text);
}

export interface EtcdErrorOptions extends ErrorOptions {
  /** With `compacted`: the store's compact revision, for the watch answer. */
  readonly compactRevision?: bigint;
  /** Replaces the table's text; only where no client matches on it. */
  readonly message?: string;
}

/** An error that travels to the client as the code and text of its reason. */
export class EtcdError extends Error {
  override readonly name = 'EtcdError';
  readonly reason: EtcdErrorReason;
  readonly code: GrpcCode;
  readonly compactRevision: bigint | undefined;

  constructor(reason: EtcdErrorReason, options: EtcdErrorOptions = {}) {
    super(
      options.message ?? etcdErrors[reason][1],
      'cause' in options ? { cause: options.cause } : undefined,
    );
    this.reason = reason;
    this.code = etcdErrors[reason][0];
    this.compactRevision = options.compactRevision;
  }
}
