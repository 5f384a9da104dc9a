// What an etcd's gRPC status means to the callers of Store.

import { EtcdError, etcdErrors, type EtcdErrorReason } from '../../etcd/errors.ts';
import { StatusError } from '../../grpc/status.ts';
import { grpcCode } from '../../grpc/codes.ts';

const reasons = new Map(
  Object.entries(etcdErrors).map(([reason, [, message]]) => [message as string, reason as EtcdErrorReason]),
);

/** The error of etcd that has this text, undefined for a text we do not know. */
export function etcdErrorOf(message: string): EtcdError | undefined {
  const reason = reasons.get(message);
  return reason === undefined ? undefined : new EtcdError(reason);
}

/**
 * StatusError → EtcdError by its text. Unavailable of any other text is `timeout`: whether etcd said it or the
 * transport, the outcome is not known. What is neither stays as it is.
 */
export function translateStatus(error: unknown): unknown {
  if (!(error instanceof StatusError)) return error;
  const reason = reasons.get(error.message);
  if (reason !== undefined) return new EtcdError(reason, { cause: error });
  if (error.code !== grpcCode.unavailable) return error;
  return error.message.startsWith('etcdserver: ')
    ? new EtcdError('timeout', { cause: error, message: error.message })
    : new EtcdError('timeout', { cause: error });
}
