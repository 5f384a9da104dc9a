// The checks of requests, as far as they cost something. What they refuse is kv.test.ts's and the conformance suite's.

import test from 'ava';
import { putRequest } from '../etcd/requests.ts';
import type { RequestOp } from '../etcd/types.ts';
import { checkTxn } from './validate.ts';

const noBytes = Buffer.alloc(0);

const txnOf = (success: readonly RequestOp[]): RequestOp => ({
  type: 'txn',
  request: { compare: [], success, failure: [] },
});

/** 20 * 20 * 20 ops, all of which a request of 80 KB can name. */
function nested(op: (n: number) => RequestOp): RequestOp[] {
  const each = <T>(make: (index: number) => T) => Array.from({ length: 20 }, (_, index) => make(index));
  return each((a) => txnOf(each((b) => txnOf(each((c) => op((a * 20 + b) * 20 + c))))));
}

const keyOf = (n: number) => Buffer.from(String(n).padStart(5, '0'));
const put = (n: number): RequestOp => ({ type: 'put', request: putRequest(keyOf(n), noBytes) });
const remove = (n: number): RequestOp => ({
  type: 'deleteRange',
  request: { key: keyOf(n), rangeEnd: noBytes, prevKv: false },
});

test.serial('validate: thousands of deletions and puts in nested txns take few comparisons each', (t) => {
  const compare = Buffer.compare.bind(Buffer);
  t.teardown(() => (Buffer.compare = compare));
  let comparisons = 0;
  Buffer.compare = (a, b) => {
    comparisons++;
    return compare(a, b);
  };
  const ops = nested((n) => (n % 2 === 0 ? remove(n) : put(n)));
  checkTxn({ compare: [], success: ops, failure: [] });
  t.true(comparisons < 8_000 * 150, `${comparisons} comparisons`);
});
