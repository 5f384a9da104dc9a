// How large requests, keys and answers may be.

import { encodeTxnRequest } from '../../src/etcd/codec/txn.ts';
import { encode } from '../../src/etcd/wire.ts';
import { writePutRequest } from '../../src/etcd/codec/kv.ts';
import { op, putRequest, txnRequest, when } from './requests.ts';
import { failure, type Cases, type Scene } from './scene.ts';

const tooLarge = '3 etcdserver: request is too large';
const requestBytesMax = 1.5 * 1024 * 1024;
/** etcd measures a request with what it wraps it in, of which one byte depends on the id of the member. */
const [wrapperBytesMin, wrapperBytesMax] = [17, 18];
/** Every engine takes keys of this size; Kubernetes has none above 1 KiB. */
const keyBytes = 2048;

/** A value that makes the encoded request as long as this. */
function valueFor(length: number, sizeWith: (value: Buffer) => number): Buffer {
  const guess = Buffer.alloc(length - 200);
  return Buffer.alloc(guess.length + length - sizeWith(guess), 'x');
}

const putOf = (on: Scene, length: number) =>
  valueFor(length, (value) => encode(putRequest(on.key('a'), value), writePutRequest).length);

const longKey = (on: Scene) => Buffer.concat([on.key('k'), Buffer.alloc(keyBytes - on.key('k').length, 'k')]);

export const requestSizeCases: Cases = {
  'a put is refused above 1.5 MiB, wrapper and all': async (t, on) => {
    const refused = putOf(on, requestBytesMax - wrapperBytesMin + 1);
    t.is(await failure(on.client.put(on.key('a'), refused)), tooLarge);
    t.deepEqual(await on.all(), []);
    const taken = putOf(on, requestBytesMax - wrapperBytesMax);
    t.is(on.since((await on.client.put(on.key('a'), taken)).header.revision), 1);
    t.true((await on.client.range(on.key('a'))).kvs[0]?.value.equals(taken));
  },
  'a txn that writes is refused above 1.5 MiB as a whole, whichever branch is taken': async (t, on) => {
    const request = (length: number) => {
      const make = (value: Buffer) =>
        txnRequest({
          compare: [when(on.key('a'), 'version', '=', 0n)],
          success: [op.put(on.key('a'), 'small')],
          failure: [op.put(on.key('b'), value)],
        });
      return make(valueFor(length, (value) => encodeTxnRequest(make(value)).length));
    };
    t.is(await failure(on.client.txn(request(requestBytesMax - wrapperBytesMin + 1))), tooLarge);
    t.is(on.since((await on.client.txn(request(requestBytesMax - wrapperBytesMax))).header.revision), 1);
    t.deepEqual(await on.all(), ['a=small c1 m1 v1']);
  },
  'what is wrong with a large request comes before its size': async (t, on) => {
    const value = Buffer.alloc(requestBytesMax);
    const put = op.put(on.key('a'), value);
    const emptyKey = '3 etcdserver: key is not provided';
    t.is(await failure(on.client.put('', value)), emptyKey);
    t.is(await failure(on.client.txn({ success: [put, op.range('')] })), emptyKey);
    const twice = [put, op.put(on.key('a'), '')];
    t.is(
      await failure(on.client.txn({ success: twice })),
      '3 etcdserver: duplicate key given in txn request',
    );
    const range = op.range(on.key('a'), { revision: on.at(9) });
    t.is(await failure(on.client.txn({ success: [put, range] })), tooLarge, 'the size before the state');
  },
  'a txn that only reads may be larger': async (t, on) => {
    const operand = Buffer.alloc(requestBytesMax + 1000, 'x');
    const compare = [when(on.key('a'), 'value', '=', operand)];
    t.false((await on.client.txn({ compare, failure: [op.range(on.key('a'))] })).succeeded);
    const deletes = on.client.txn({ compare, success: [op.delete(on.key('a'))] });
    t.is(await failure(deletes), tooLarge);
    const nested = on.client.txn({ compare, success: [op.txn({ success: [op.range(on.key('a'))] })] });
    t.is(await failure(nested), tooLarge, 'a txn in a txn counts as a write');
  },
  'keys of 2 KiB are keys like others': async (t, on) => {
    const key = longKey(on);
    const near = Buffer.concat([key.subarray(0, -1), Buffer.from('l')]);
    await on.client.put(near, 'near');
    await on.client.put(key, '1');
    await on.client.put(key, '2');
    t.is((await on.client.range(key)).kvs[0]?.version, 2n);
    const both = await on.client.range(on.prefix, { rangeEnd: on.end });
    t.deepEqual(
      both.kvs.map((kv) => kv.key),
      [key, near],
    );
    const next = Buffer.concat([key, Buffer.from([0])]);
    t.is((await on.client.range(next, { rangeEnd: on.end })).count, 1, 'a page goes on behind it');
    t.is((await on.client.range(key, { revision: on.at(2) })).kvs[0]?.value.toString(), '1');
    t.is((await on.client.delete(key, { prevKv: true })).prevKvs[0]?.value.toString(), '2');
    t.true((await on.client.txn({ compare: [when(near, 'value', '=', 'near')] })).succeeded);
  },
  'keys of any length can be asked for': async (t, on) => {
    await on.client.put(on.key('k'), '1');
    const key = Buffer.concat([on.key('k'), Buffer.alloc(100_000, 'k')]);
    t.is((await on.client.range(key)).count, 0);
    t.is((await on.client.range(on.key('k'), { rangeEnd: key })).count, 1);
    t.is((await on.client.range(key, { rangeEnd: on.end })).count, 0);
    t.is((await on.client.range(key, { revision: on.at(1) })).count, 0);
    t.is((await on.client.delete(key)).deleted, 0);
    t.is((await on.client.delete(key, { rangeEnd: on.end })).deleted, 0);
    const compare = [when(key, 'mod', '=', 0n), when(key, 'value', '!=', 'x')];
    t.deepEqual(on.txn(await on.client.txn({ compare, failure: [op.range(key)] })), {
      at: 1,
      succeeded: false,
      ops: [{ at: 1, kvs: [], more: false, count: 0 }],
    });
  },
  'answers have no limit': async (t, on) => {
    const value = Buffer.alloc(1_000_000, 'v');
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) await on.client.put(on.key(name), value);
    const { kvs } = await on.client.range(on.prefix, { rangeEnd: on.end });
    t.is(kvs.length, 6);
    t.true(kvs.every((kv) => kv.value.equals(value)));
    const answer = await on.client.delete(on.prefix, { rangeEnd: on.end, prevKv: true });
    t.is(
      answer.prevKvs.reduce((sum, kv) => sum + kv.value.length, 0),
      6_000_000,
    );
  },
};
