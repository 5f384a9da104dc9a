// What routing reads of a request is what decoding it in full would find.

import test from 'ava';
import fc from 'fast-check';
import { EtcdError } from '../errors.ts';
import { keyRange, type KeyRange } from '../range.ts';
import { putRequest, rangeRequest } from '../requests.ts';
import type { Compare, RequestOp, TxnRequest } from '../types.ts';
import { encode, MalformedMessageError } from '../wire.ts';
import { putRangeOf, rangeOf, txnKeysOf } from './keys.ts';
import { encodeRangeRequest, writeDeleteRangeRequest, writePutRequest } from './kv.ts';
import { decodeTxnRequest, encodeTxnRequest } from './txn.ts';

const noBytes = Buffer.alloc(0);
const bytes = fc.uint8Array({ maxLength: 6 }).map((found) => Buffer.from(found));

const compare: fc.Arbitrary<Compare> = fc.oneof(
  fc.record({
    key: bytes,
    rangeEnd: bytes,
    result: fc.constantFrom('equal' as const, 'less' as const),
    target: fc.constantFrom('mod' as const, 'lease' as const),
    operand: fc.bigInt({ min: -3n, max: 1n << 60n }),
  }),
  fc.record({
    key: bytes,
    rangeEnd: bytes,
    result: fc.constant('equal' as const),
    target: fc.constant('value' as const),
    operand: bytes,
  }),
);

const { txn } = fc.letrec<{ op: RequestOp; txn: TxnRequest }>((tie) => ({
  op: fc.oneof(
    { maxDepth: 3 },
    fc.record({ key: bytes, rangeEnd: bytes, limit: fc.nat() }).map(({ key, ...more }): RequestOp => {
      return { type: 'range', request: rangeRequest(key, more) };
    }),
    fc
      .record({ key: bytes, value: bytes, lease: fc.bigInt({ min: 0n, max: 9n }) })
      .map(({ key, value, lease }): RequestOp => ({
        type: 'put',
        request: putRequest(key, value, { lease }),
      })),
    fc.record({ key: bytes, rangeEnd: bytes, prevKv: fc.boolean() }).map((request): RequestOp => {
      return { type: 'deleteRange', request };
    }),
    tie('txn').map((request): RequestOp => ({ type: 'txn', request })),
  ),
  txn: fc.record({
    compare: fc.array(compare, { maxLength: 3 }),
    success: fc.array(tie('op'), { maxLength: 3 }),
    failure: fc.array(tie('op'), { maxLength: 3 }),
  }),
}));

function* rangesOf(request: TxnRequest): Generator<KeyRange> {
  for (const { key, rangeEnd } of request.compare) yield keyRange(key, rangeEnd);
  for (const op of [...request.success, ...request.failure]) {
    if (op.type === 'txn') yield* rangesOf(op.request);
    else yield keyRange(op.request.key, op.type === 'put' ? noBytes : op.request.rangeEnd);
  }
}

test('keys: of a txn, as a full decoding finds them', (t) => {
  fc.assert(
    fc.property(txn, (request) => {
      const message = encodeTxnRequest(request);
      const { ranges, compared } = txnKeysOf(message);
      t.deepEqual(ranges, [...rangesOf(decodeTxnRequest(message))]);
      t.deepEqual(
        compared,
        request.compare.map(({ key }) => key),
      );
    }),
  );
});

test('keys: of reads, puts and deletes', (t) => {
  fc.assert(
    fc.property(bytes, bytes, bytes, (key, rangeEnd, value) => {
      const expected = keyRange(key, rangeEnd);
      t.deepEqual(rangeOf(encodeRangeRequest(rangeRequest(key, { rangeEnd, limit: 5 }))), expected);
      const deletion = { key, rangeEnd, prevKv: true };
      t.deepEqual(rangeOf(encode(deletion, writeDeleteRangeRequest)), expected);
      const put = putRequest(key, value, { lease: 7n });
      t.deepEqual(putRangeOf(encode(put, writePutRequest)), keyRange(key, noBytes));
    }),
  );
});

test('keys: what is no message, or nested without end, is refused', (t) => {
  t.throws(() => rangeOf(Buffer.from([0x0a, 9, 97])), { instanceOf: MalformedMessageError });
  t.throws(() => putRangeOf(Buffer.from([0x12, 9, 97])), { instanceOf: MalformedMessageError });
  let request: TxnRequest = { compare: [], success: [], failure: [] };
  for (let depth = 0; depth < 70; depth++)
    request = { compare: [], success: [{ type: 'txn', request }], failure: [] };
  const message = encodeTxnRequest(request);
  const error = t.throws(() => txnKeysOf(message), { instanceOf: EtcdError });
  t.is(error?.reason, 'tooManyOps');
});
