// What a txn weighs while it waits. Used by sql-store.ts.

import type { RequestOp, TxnRequest } from '../../../etcd/types.ts';

/** What a compare or an op weighs beside its keys and values, about. */
const opBytes = 256;

/** Bytes that a txn takes while it waits, about. */
export function sizeOf({ compare, success, failure }: TxnRequest): number {
  let total = opBytes * (1 + compare.length + success.length + failure.length);
  for (const { key, rangeEnd, target, operand } of compare)
    total += key.length + rangeEnd.length + (target === 'value' ? operand.length : 0);
  for (const op of success) total += sizeOfOp(op);
  for (const op of failure) total += sizeOfOp(op);
  return total;
}

function sizeOfOp(op: RequestOp): number {
  if (op.type === 'txn') return sizeOf(op.request);
  return op.request.key.length + (op.type === 'put' ? op.request.value : op.request.rangeEnd).length;
}
