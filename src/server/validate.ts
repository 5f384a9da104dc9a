// Pure checks of requests, in etcd's order of checking (etcd 3.6 `api/v3rpc/key.go`): the first fault found decides the
// answer. Used by server/kv.ts for stores that are not an etcd themselves; conditions that need a store's state are
// checked by the store.

import { EtcdError } from '../etcd/errors.ts';
import { hasRevisionBounds, opOfNoKind } from '../etcd/requests.ts';
import { isFromKey, keyRange } from '../etcd/range.ts';
import { KeyRangeSet } from '../etcd/range-set.ts';
import type { DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest } from '../etcd/types.ts';

/** Most bytes of a request that writes; etcd's `--max-request-bytes` default. */
export const requestBytesMax = 1.5 * 1024 * 1024;
/** What etcd puts around a request before it measures it: an id and the kind of the request, 17 or 18 bytes. */
const envelopeBytes = 18;
/** Most compares, or operations of one branch, nested levels together; etcd's `--max-txn-ops` default. */
export const txnOpsMax = 128;

/** @throws EtcdError requestTooLarge for a write request above the limit. */
export function checkRequestSize(request: Buffer): void {
  if (request.length > requestBytesMax - envelopeBytes) throw new EtcdError('requestTooLarge');
}

/** Same for a txn, unless both branches only read: etcd keeps that out of its log. @throws EtcdError requestTooLarge. */
export function checkTxnSize(request: Buffer, { success, failure }: TxnRequest): void {
  const reads = (op: RequestOp) => op.type === 'range';
  if (!success.every(reads) || !failure.every(reads)) checkRequestSize(request);
}

/** @throws EtcdError emptyKey, invalidSortOption. */
export function checkRange(request: RangeRequest): void {
  if (request.key.length === 0) throw new EtcdError('emptyKey');
  if (request.sortOrder === 'unknown') throw new EtcdError('invalidSortOption');
}

/**
 * For a range in chunks, as etcd 3.7 checks it. An order that is the one of the keys anyway is none.
 * @throws EtcdError emptyKey, unimplemented.
 */
export function checkRangeStream(request: RangeRequest): void {
  checkRange(request);
  const { sortOrder, sortTarget } = request;
  if (sortOrder === 'descend' || (sortOrder === 'ascend' && sortTarget !== 'key'))
    throw new EtcdError('unimplemented', { message: 'RangeStream does not support custom sort orders' });
  if (hasRevisionBounds(request))
    throw new EtcdError('unimplemented', { message: 'RangeStream does not support revision filters' });
}

/** @throws EtcdError emptyKey, valueProvided, leaseProvided. */
export function checkPut(request: PutRequest): void {
  if (request.key.length === 0) throw new EtcdError('emptyKey');
  if (request.ignoreValue && request.value.length > 0) throw new EtcdError('valueProvided');
  if (request.ignoreLease && request.lease !== 0n) throw new EtcdError('leaseProvided');
}

/** @throws EtcdError emptyKey. */
export function checkDeleteRange(request: DeleteRangeRequest): void {
  if (request.key.length === 0) throw new EtcdError('emptyKey');
}

/** @throws EtcdError tooManyOps, emptyKey, invalidSortOption, keyNotFound (an op of no kind), valueProvided, leaseProvided, duplicateKey. */
export function checkTxn(request: TxnRequest): void {
  checkTxnShape(request, txnOpsMax);
  collectWrites(request.success);
  collectWrites(request.failure);
}

function checkTxnShape(request: TxnRequest, opsLeft: number): void {
  const ops = Math.max(request.compare.length, request.success.length, request.failure.length);
  if (ops > opsLeft) throw new EtcdError('tooManyOps');
  for (const compare of request.compare) {
    if (compare.key.length === 0) throw new EtcdError('emptyKey');
  }
  for (const op of request.success) checkOp(op, opsLeft - ops);
  for (const op of request.failure) checkOp(op, opsLeft - ops);
}

function checkOp(op: RequestOp, opsLeft: number): void {
  // What etcd's checkRequestOp says of it (server/etcdserver/api/v3rpc/key.go, 3.6).
  if (op === opOfNoKind) throw new EtcdError('keyNotFound');
  switch (op.type) {
    case 'range':
      return checkRange(op.request);
    case 'put':
      return checkPut(op.request);
    case 'deleteRange':
      return checkDeleteRange(op.request);
    case 'txn':
      return checkTxnShape(op.request, opsLeft);
  }
}

/** What one branch may write: put keys (latin1, which keeps every byte) and deleted keys. */
interface Writes {
  readonly puts: Set<string>;
  readonly deletes: KeyRangeSet;
}

/**
 * No key may be put twice, or put and deleted, in one branch, whatever nested txns do; the two branches of one nested
 * txn exclude each other and may put the same key. Deletes may overlap each other.
 */
function collectWrites(ops: readonly RequestOp[]): Writes {
  const puts = new Set<string>();
  const deletes = new KeyRangeSet();
  const add = (key: string, allowed?: ReadonlySet<string>) => {
    if (puts.has(key) && !allowed?.has(key)) throw new EtcdError('duplicateKey');
    if (deletes.has(Buffer.from(key, 'latin1'))) throw new EtcdError('duplicateKey');
    puts.add(key);
  };
  for (const op of ops) {
    // etcd takes the end of "from this key on" for an ordinary one here, below every key, so that nothing overlaps. A store that
    // would have to change a key twice says so itself.
    const isChecked = op.type === 'deleteRange' && !isFromKey(op.request.rangeEnd);
    if (isChecked) deletes.add(keyRange(op.request.key, op.request.rangeEnd));
  }
  for (const op of ops) {
    if (op.type !== 'txn') continue;
    const success = collectWrites(op.request.success);
    const failure = collectWrites(op.request.failure);
    for (const key of success.puts) add(key);
    for (const key of failure.puts) add(key, success.puts);
    deletes.addAll(success.deletes);
    deletes.addAll(failure.deletes);
  }
  for (const op of ops) {
    if (op.type === 'put') add(op.request.key.toString('latin1'));
  }
  return { puts, deletes };
}
