// Txn: what is refused and when, and what operations of one txn see of each other.

import { encode, type WireWriter } from '../../src/etcd/wire.ts';
import type { RequestOp, TxnRequest } from '../../src/etcd/types.ts';
import { compactionPoint } from './compaction-point.ts';
import { bytes, fromKey, op, when } from './requests.ts';
import { failure, type Cases, type Scene, wholeServer } from './scene.ts';

const compacted = '11 etcdserver: mvcc: required revision has been compacted';
const future = '11 etcdserver: mvcc: required revision is a future revision';
const keyNotFound = '3 etcdserver: key not found';
const leaseNotFound = '5 etcdserver: requested lease not found';
const tooManyOps = '3 etcdserver: too many operations in txn request';
const duplicateKey = '3 etcdserver: duplicate key given in txn request';
const emptyKey = '3 etcdserver: key is not provided';

const many = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

/** An op in a txn of its own, in a txn of its own. */
const nested = (inner: RequestOp) => op.txn({ success: [op.txn({ success: [inner] })] });
/** The op where it is never done. */
const untaken = (inner: RequestOp) => op.txn({ failure: [inner] });

/** A txn that puts and then does `ops`: how it fails, and that nothing has been applied. */
async function refused(on: Scene, ...ops: readonly RequestOp[]): Promise<string> {
  const text = await failure(on.client.txn({ success: [op.put(on.key('applied'), ''), ...ops] }));
  const left = await on.client.range(on.key('applied'), { countOnly: true });
  return left.count === 0 ? text : `${text}, but applied`;
}

async function twice(on: Scene): Promise<void> {
  await on.client.put(on.key('a'), '1');
  await on.client.put(on.key('a'), '2');
}

export const txnEdgeCases: Cases = {
  'a range at a future revision fails before anything is applied, however deep': async (t, on) => {
    await twice(on);
    // The revision that the txn itself would take is one of the future too.
    const bad = op.range(on.key('a'), { revision: on.at(3) });
    t.is(await refused(on, bad), future);
    t.is(await refused(on, nested(bad)), future);
    t.is(await refused(on, op.put(on.key('b'), ''), bad), future);
    t.is(await failure(on.client.txn({ success: [bad] })), future);
    t.is(
      await failure(on.client.txn({ compare: [when(on.key('x'), 'mod', '>', 0n)], failure: [bad] })),
      future,
    );
    t.is(await refused(on, untaken(bad)), 'no error, but applied');
  },
  'a range at a compacted revision fails before anything is applied, however deep': async (t, on) => {
    await twice(on);
    const compact = await compactionPoint(on);
    await on.client.put(on.key('a'), '3');
    await compact();
    const bad = op.range(on.key('a'), { revision: on.at(1) });
    t.is(await refused(on, bad), compacted);
    t.is(await refused(on, nested(bad)), compacted);
    t.is(await failure(on.client.txn({ success: [bad] })), compacted);
    const inRange = op.range(on.prefix, { rangeEnd: on.end, revision: on.at(1) });
    t.is(await refused(on, inRange), compacted);
    t.is(await refused(on, untaken(bad)), 'no error, but applied');
  },
  'a range below revision 0 is compacted in a txn, though it is the latest elsewhere': async (t, on) => {
    await twice(on);
    const compact = await compactionPoint(on);
    await on.client.put(on.key('a'), '3');
    await compact();
    t.is((await on.client.range(on.key('a'), { revision: -7n })).count, 1);
    t.is(await refused(on, op.range(on.key('a'), { revision: -7n })), compacted);
    t.is(await failure(on.client.txn({ success: [op.range(on.key('a'), { revision: -1n })] })), compacted);
  },
  'what a put needs is checked in nested branches that are taken, and only there': async (t, on) => {
    const bad = [
      [op.put(on.key('x'), '', { ignoreValue: true }), keyNotFound],
      [op.put(on.key('x'), 'v', { ignoreLease: true }), keyNotFound],
      [op.put(on.key('x'), 'v', { lease: 0x7000_0001n }), leaseNotFound],
      [op.put(on.key('x'), '', { lease: 0x7000_0001n, ignoreValue: true }), keyNotFound],
    ] as const;
    for (const [one, text] of bad) {
      t.is(await refused(on, one), text);
      t.is(await refused(on, nested(one)), text);
      t.is(await refused(on, untaken(one)), 'no error, but applied');
      await on.client.delete(on.key('applied'));
    }
  },
  'the first bad op decides': async (t, on) => {
    const range = op.range(on.key('a'), { revision: on.at(100) });
    const put = op.put(on.key('x'), '', { ignoreValue: true });
    t.is(await refused(on, range, put), future);
    t.is(await refused(on, put, range), keyNotFound);
  },
  'a put in the same txn does not make a key present for one that keeps its value': async (t, on) => {
    const inner = op.txn({ success: [op.put(on.key('b'), '', { ignoreValue: true })] });
    t.is(await failure(on.client.txn({ success: [op.put(on.key('a'), '1'), inner] })), keyNotFound);
    t.deepEqual(await on.all(), []);
  },
  'puts that keep value or lease, and give the pair before, side by side': async (t, on) => {
    const { id } = await on.client.grant(600);
    const { id: other } = await on.client.grant(600);
    for (const name of ['a', 'b', 'c']) await on.client.put(on.key(name), name, { lease: id });
    const answer = await on.client.txn({
      success: [
        op.put(on.key('a'), '', { ignoreValue: true, prevKv: true }),
        op.put(on.key('b'), 'B', { ignoreLease: true, prevKv: true }),
        op.put(on.key('c'), '', { ignoreValue: true, lease: other, prevKv: true }),
        op.put(on.key('d'), 'D', { prevKv: true }),
        op.range(on.prefix, { rangeEnd: on.end }),
      ],
    });
    const after = ['a=a c1 m4 v2', `b=B c2 m4 v2 l${id}`, `c=c c3 m4 v2 l${other}`, 'd=D c4 m4 v1'];
    t.deepEqual(on.txn(answer).ops, [
      { at: 4, was: `a=a c1 m1 v1 l${id}` },
      { at: 4, was: `b=b c2 m2 v1 l${id}` },
      { at: 4, was: `c=c c3 m3 v1 l${id}` },
      { at: 4, was: undefined },
      { at: 4, kvs: after, more: false, count: 4 },
    ]);
    await on.client.revoke(id);
    t.deepEqual(await on.all(), [after[0], after[2], after[3]]);
    await on.client.revoke(other);
  },
  'both kept at once is a touch': async (t, on) => {
    const { id } = await on.client.grant(600);
    await on.client.put(on.key('a'), '1', { lease: id });
    const answer = await on.client.put(on.key('a'), '', {
      ignoreValue: true,
      ignoreLease: true,
      prevKv: true,
    });
    t.deepEqual(on.put(answer), { at: 2, was: `a=1 c1 m1 v1 l${id}` });
    t.deepEqual(await on.all(), [`a=1 c1 m2 v2 l${id}`]);
    await on.client.revoke(id);
  },
  'each op sees what the ones before it did': async (t, on) => {
    for (const name of ['a', 'b', 'c']) await on.client.put(on.key(name), name);
    const all = { rangeEnd: on.end };
    const answer = await on.client.txn({
      success: [
        op.range(on.prefix, { ...all, countOnly: true }),
        op.delete(on.key('a'), { rangeEnd: on.key('c'), prevKv: true }),
        op.range(on.prefix, all),
        op.put(on.key('d'), 'd'),
        op.range(on.prefix, { ...all, limit: 1, sortTarget: 'mod', sortOrder: 'descend' }),
        op.range(on.prefix, { ...all, minModRevision: on.at(4) }),
        op.range(on.prefix, { ...all, revision: on.at(2) }),
        op.range(on.key('a')),
        op.range(on.key('d'), { keysOnly: true }),
        op.range(on.key('d'), { countOnly: true }),
        op.delete(on.key('a')),
        op.delete(on.key('c')),
        op.range(on.prefix, { ...all, countOnly: true }),
      ],
    });
    t.deepEqual(on.txn(answer).ops, [
      { at: 3, kvs: [], more: false, count: 3 },
      { at: 4, deleted: 2, was: ['a=a c1 m1 v1', 'b=b c2 m2 v1'] },
      { at: 4, kvs: ['c=c c3 m3 v1'], more: false, count: 1 },
      { at: 4, was: undefined },
      { at: 4, kvs: ['d=d c4 m4 v1'], more: true, count: 2 },
      { at: 4, kvs: ['d=d c4 m4 v1'], more: false, count: 2 },
      { at: 4, kvs: ['a=a c1 m1 v1', 'b=b c2 m2 v1'], more: false, count: 2 },
      { at: 4, kvs: [], more: false, count: 0 },
      { at: 4, kvs: ['d= c4 m4 v1'], more: false, count: 1 },
      { at: 4, kvs: [], more: false, count: 1 },
      { at: 4, deleted: 0, was: [] },
      { at: 4, deleted: 1, was: [] },
      { at: 4, kvs: [], more: false, count: 1 },
    ]);
    t.deepEqual(await on.all(), ['d=d c4 m4 v1']);
  },
  'reads before the first write of a txn are of the revision before': async (t, on) => {
    await twice(on);
    const answer = await on.client.txn({
      success: [
        op.range(on.key('a')),
        op.delete(on.key('x')),
        op.put(on.key('b'), ''),
        op.delete(on.key('x')),
      ],
    });
    t.deepEqual(
      on.txn(answer).ops.map((one) => (one as { at: number }).at),
      [2, 2, 3, 3],
    );
  },
  'nested branches are chosen before anything is done, level by level': async (t, on) => {
    await on.client.put(on.key('a'), '1');
    const when1 = when(on.key('a'), 'value', '=', '1');
    const never = when(on.key('a'), 'value', '=', '2');
    const answer = await on.client.txn({
      compare: [when1],
      success: [
        op.delete(on.key('a')),
        op.txn({
          compare: [never],
          failure: [op.txn({ compare: [when1], success: [op.put(on.key('b'), 'deep')] })],
        }),
        op.txn({ compare: [when(on.key('b'), 'mod', '=', 0n)], success: [op.range(on.key('b'))] }),
      ],
    });
    t.deepEqual(on.txn(answer).ops.slice(1), [
      { succeeded: false, ops: [{ succeeded: true, ops: [{ at: 2, was: undefined }] }] },
      { succeeded: true, ops: [{ at: 2, kvs: ['b=deep c2 m2 v1'], more: false, count: 1 }] },
    ]);
    t.deepEqual(await on.all(), ['b=deep c2 m2 v1']);
  },
  'the limit on operations counts compares and each branch, and levels together': async (t, on) => {
    const reads = (count: number) => many(count, () => op.range(on.key('a')));
    const compares = (count: number) => many(count, () => when(on.key('a'), 'version', '=', 0n));
    const of = async (request: Partial<TxnRequest>) => await failure(on.client.txn(request));
    t.is(await of({ compare: compares(128), success: reads(128), failure: reads(128) }), 'no error');
    for (const over of [{ compare: compares(129) }, { success: reads(129) }, { failure: reads(129) }])
      t.is(await of(over), tooManyOps);
    // What the outer level has used, in its largest part, is not there for the inner one.
    const inner = (count: number) => op.txn({ success: reads(count) });
    t.is(await of({ success: [inner(127)] }), 'no error');
    t.is(await of({ success: [inner(128)] }), tooManyOps);
    t.is(await of({ compare: compares(100), success: [inner(28)] }), 'no error');
    t.is(await of({ compare: compares(100), success: [inner(29)] }), tooManyOps);
    t.is(await of({ success: [inner(126), inner(126)] }), 'no error');
    t.is(await of({ failure: [op.txn({ success: [inner(126)] })] }), 'no error');
    t.is(await of({ failure: [op.txn({ success: [inner(127)] })] }), tooManyOps);
  },
  'the limit comes before what the ops hold, and every key before duplicates': async (t, on) => {
    const puts = many(129, () => op.put('', ''));
    t.is(await failure(on.client.txn({ success: puts })), tooManyOps);
    const same = op.put(on.key('a'), '');
    t.is(await failure(on.client.txn({ success: [same, same], failure: [op.range('')] })), emptyKey);
    t.is(await failure(on.client.txn({ compare: [when('', 'mod', '=', 0n)], success: puts })), tooManyOps);
  },
  'an op of no kind is refused': async (t, on) => {
    const empty = (txn: WireWriter) => txn.message(2, undefined, () => undefined);
    const request = encode(undefined, empty);
    t.is(await failure(on.client.unary('KV/Txn', request)), keyNotFound);
    const afterPut = (txn: WireWriter) => {
      txn.message(2, undefined, (one) => one.message(2, undefined, (put) => put.bytes(1, on.key('a'))));
      empty(txn);
    };
    t.is(await failure(on.client.unary('KV/Txn', encode(undefined, afterPut))), keyNotFound);
    t.deepEqual(await on.all(), []);
  },
  'duplicates are looked for in the order of the txns inside': async (t, on) => {
    await on.client.put(on.key('a'), '0');
    const put = op.txn({ success: [op.put(on.key('a'), '1')] });
    const del = op.txn({ success: [op.delete(on.key('a'))] });
    const otherwise = op.txn({ failure: [op.put(on.key('a'), '1')] });
    t.is(await failure(on.client.txn({ success: [del, put] })), duplicateKey);
    t.is(await failure(on.client.txn({ success: [put, otherwise] })), duplicateKey);
    t.is(await failure(on.client.txn({ success: [otherwise, otherwise] })), duplicateKey);
    t.is(await failure(on.client.txn({ success: [del, op.put(on.key('a'), '1')] })), duplicateKey);
    // Deletions are looked at only when the txn that puts comes after: what excludes each other may be written so.
    const isThere = when(on.key('a'), 'mod', '>', 0n);
    const putUnless = op.txn({ compare: [isThere], failure: [op.put(on.key('a'), '1')] });
    const deleteIf = op.txn({ compare: [isThere], success: [op.delete(on.key('a'))] });
    t.is(await failure(on.client.txn({ success: [deleteIf, putUnless] })), duplicateKey);
    t.is(on.txn(await on.client.txn({ success: [putUnless, deleteIf] })).at, 2);
    t.deepEqual(await on.all(), []);
    t.is(on.txn(await on.client.txn({ success: [putUnless, deleteIf] })).at, 3);
    t.deepEqual(await on.all(), ['a=1 c3 m3 v1']);
    t.is(on.txn(await on.client.txn({ success: [del, del] })).at, 4);
  },
  'a key put and deleted in the branches that exclude each other is fine': async (t, on) => {
    const inner = op.txn({
      compare: [when(on.key('a'), 'mod', '=', 0n)],
      success: [op.put(on.key('a'), '1')],
      failure: [op.delete(on.key('a'))],
    });
    t.is(on.txn(await on.client.txn({ success: [inner] })).at, 1);
    t.is(on.txn(await on.client.txn({ success: [inner] })).at, 2);
    t.deepEqual(await on.all(), []);
  },
  'a delete of an inverted range overlaps no put': async (t, on) => {
    const inverted = op.delete(on.key('z'), { rangeEnd: on.key('a') });
    const answer = await on.client.txn({
      success: [inverted, op.put(on.key('m'), '1'), op.put(on.key('z'), '2')],
    });
    t.is(on.since(answer.header.revision), 1);
    t.is((await on.all()).length, 2);
  },
  'a delete from a key on overlaps no put in etcd’s eyes': wholeServer(async (t, on) => {
    const high = (name: string) => Buffer.concat([Buffer.from([0xff, 0xfb]), bytes(on.prefix + name)]);
    await on.client.put(high('a'), '1');
    const success = [op.delete(high('a'), { rangeEnd: fromKey, prevKv: true }), op.put(high('b'), '2')];
    const answer = on.txn(await on.client.txn({ success }));
    t.is(answer.at, 2);
    const left = await on.client.range(high(''), { rangeEnd: fromKey });
    t.deepEqual(
      left.kvs.map((kv) => kv.value.toString()),
      ['2'],
    );
    await on.client.delete(high(''), { rangeEnd: fromKey });
  }),
};
