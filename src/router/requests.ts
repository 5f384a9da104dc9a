// The few requests that the router itself makes, as plain functions on a Store.

import { EtcdError } from '../etcd/errors.ts';
import type { KeyRange } from '../etcd/range.ts';
import { putRequest, rangeRequest } from '../etcd/requests.ts';
import type { Compare, RangeRequest, RequestOp, Revision, TxnResponse } from '../etcd/types.ts';
import type { Store } from '../store/store.ts';

const noBytes = Buffer.alloc(0);
const zeroByte = Buffer.from([0]);

/** A range as the wire says it. */
export function wireRange({ start, end }: KeyRange): { readonly key: Buffer; readonly rangeEnd: Buffer } {
  return { key: start, rangeEnd: end ?? zeroByte };
}

/** A linearizable read of `range`, at the latest revision unless told. */
export function readOf(range: KeyRange, options: Partial<RangeRequest> = {}): RangeRequest {
  const { key, rangeEnd } = wireRange(range);
  return rangeRequest(key, { rangeEnd, ...options });
}

/** A read of one key. */
export function readKey(key: Buffer): RangeRequest {
  return rangeRequest(key, { limit: 1 });
}

/** Holds when there is no key in the range. */
export function absent(range: KeyRange): Compare {
  return { ...wireRange(range), target: 'create', result: 'equal', operand: 0n };
}

/** Holds when the key was last written at `revision`; 0: when it does not exist. */
export function writtenAt(key: Buffer, revision: Revision): Compare {
  return { key, rangeEnd: noBytes, target: 'mod', result: 'equal', operand: revision };
}

export function putOp(key: Buffer, value: Buffer): RequestOp {
  return { type: 'put', request: putRequest(key, value) };
}

export function readOp(request: RangeRequest): RequestOp {
  return { type: 'range', request };
}

/** The first range response of a txn. */
export function firstRange(response: TxnResponse) {
  return response.responses.flatMap((op) => (op.type === 'range' ? [op.response] : []))[0];
}

/** True when a key of `ranges` is in the store. */
export async function holdsAny(
  store: Store,
  ranges: readonly KeyRange[],
  signal: AbortSignal,
): Promise<boolean> {
  for (const range of ranges) {
    const { kvs } = await store.range(readOf(range, { limit: 1, keysOnly: true }), signal);
    if (kvs.length > 0) return true;
  }
  return false;
}

/** Unavailable, with the reason for people: clients ask again. */
export function unavailable(message: string, cause?: unknown): EtcdError {
  return new EtcdError('timeout', {
    message: `switchyard: ${message}`,
    ...(cause === undefined ? {} : { cause }),
  });
}
