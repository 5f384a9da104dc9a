// Requests in a short notation for tests: strings where etcd has bytes, everything that is not said is etcd's default.

import * as plain from '../../src/etcd/requests.ts';
import type {
  Compare,
  CompareResult,
  DeleteRangeRequest,
  PutRequest,
  RangeRequest,
  RequestOp,
  TxnRequest,
  WatchCreateRequest,
} from '../../src/etcd/types.ts';

export type Bytes = string | Buffer;

/** Strings become their UTF-8 bytes. */
export const bytes = (value: Bytes): Buffer => (typeof value === 'string' ? Buffer.from(value) : value);

type Loose<T> = { readonly [Name in keyof T]?: T[Name] extends Buffer ? Bytes : T[Name] };

const none = Buffer.alloc(0);
/** `range_end` of "all keys from this one on". */
export const fromKey = Buffer.from([0]);

/** `range_end` of "all keys that begin with this"; the last byte must be below 0xff. */
export function endOf(prefix: Bytes): Buffer {
  const end = Buffer.from(bytes(prefix));
  end[end.length - 1] = (end.at(-1) ?? 0) + 1;
  return end;
}

export function rangeRequest(key: Bytes, options: Loose<Omit<RangeRequest, 'key'>> = {}): RangeRequest {
  return plain.rangeRequest(bytes(key), { ...options, rangeEnd: bytes(options.rangeEnd ?? none) });
}

export function putRequest(key: Bytes, value: Bytes = none, options: Partial<PutRequest> = {}): PutRequest {
  return plain.putRequest(bytes(key), bytes(value), options);
}

export function deleteRequest(key: Bytes, options: Loose<DeleteRangeRequest> = {}): DeleteRangeRequest {
  return { prevKv: false, ...options, key: bytes(key), rangeEnd: bytes(options.rangeEnd ?? none) };
}

export function watchRequest(
  key: Bytes,
  options: Loose<Omit<WatchCreateRequest, 'key'>> = {},
): WatchCreateRequest {
  return plain.watchRequest(bytes(key), { ...options, rangeEnd: bytes(options.rangeEnd ?? none) });
}

/** The ops of a txn. */
export const op = {
  put: (...request: Parameters<typeof putRequest>): RequestOp => ({
    type: 'put',
    request: putRequest(...request),
  }),
  range: (...request: Parameters<typeof rangeRequest>): RequestOp => ({
    type: 'range',
    request: rangeRequest(...request),
  }),
  delete: (...request: Parameters<typeof deleteRequest>): RequestOp => ({
    type: 'deleteRange',
    request: deleteRequest(...request),
  }),
  txn: (request: Partial<TxnRequest>): RequestOp => ({ type: 'txn', request: txnRequest(request) }),
};

export function txnRequest(request: Partial<TxnRequest>): TxnRequest {
  return { compare: [], success: [], failure: [], ...request };
}

const results = { '=': 'equal', '>': 'greater', '<': 'less', '!=': 'notEqual' } as const satisfies Record<
  string,
  CompareResult
>;

/** A condition of a txn: `when('a', 'mod', '=', 3n)`; `value` takes bytes, the rest revisions and numbers. */
export function when(
  key: Bytes,
  target: Compare['target'],
  result: keyof typeof results,
  operand: bigint | Bytes,
  rangeEnd: Bytes = none,
): Compare {
  const common = { key: bytes(key), rangeEnd: bytes(rangeEnd), result: results[result] };
  if (target === 'value') {
    if (typeof operand === 'bigint')
      throw new Error(`Expected bytes to compare a value with, got ${operand}`);
    return { ...common, target, operand: bytes(operand) };
  }
  if (typeof operand !== 'bigint') throw new Error(`Expected a bigint for ${target}, got bytes`);
  return { ...common, target, operand };
}
