// Compact, and what it leaves.

import { compactionPoint } from './compaction-point.ts';
import { failure, type Cases, wholeServer } from './scene.ts';

const compacted = '11 etcdserver: mvcc: required revision has been compacted';
const future = '11 etcdserver: mvcc: required revision is a future revision';

export const compactCases: Cases = {
  'the past below is gone, the revision itself and later stay': async (t, on) => {
    for (const value of ['1', '2']) await on.client.put(on.key('a'), value);
    const compact = await compactionPoint(on);
    await on.client.put(on.key('a'), '3');
    await on.client.put(on.key('b'), '4');
    const answer = await compact();
    // Where the keys are on a timeline of their own, the answer is of the other one.
    if (!on.isPart) t.is(on.since(answer.header.revision), 4);
    const then = (offset: number) => on.client.range(on.key('a'), { revision: on.at(offset) });
    t.is(await failure(then(1)), compacted);
    t.deepEqual(on.range(await then(2)).kvs, ['a=2 c1 m2 v2']);
    t.deepEqual(on.range(await then(3)).kvs, ['a=3 c1 m3 v3']);
    t.deepEqual(await on.all(), ['a=3 c1 m3 v3', 'b=4 c4 m4 v1']);
  },
  'deletions: what was deleted at or below stays absent, what lived stays readable': async (t, on) => {
    await on.client.put(on.key('a'), '1');
    await on.client.put(on.key('b'), '2');
    await on.client.delete(on.key('a'));
    await on.client.put(on.key('c'), '4');
    const compactAt4 = await compactionPoint(on, 'physical');
    await on.client.delete(on.key('b'));
    const compactAt5 = await compactionPoint(on, 'physical');
    await compactAt4();
    const then = async (offset: number) =>
      on.range(await on.client.range(on.prefix, { rangeEnd: on.end, revision: on.at(offset) }));
    t.deepEqual(await then(4), { at: 5, kvs: ['b=2 c2 m2 v1', 'c=4 c4 m4 v1'], more: false, count: 2 });
    t.deepEqual((await then(5)).kvs, ['c=4 c4 m4 v1']);
    await compactAt5();
    t.is(await failure(then(4)), compacted);
    t.deepEqual((await then(5)).kvs, ['c=4 c4 m4 v1']);
    await on.client.put(on.key('a'), '6');
    t.deepEqual(await on.all(), ['a=6 c6 m6 v1', 'c=4 c4 m4 v1']);
  },
  'twice at one revision, below one, and in the future are refused': wholeServer(async (t, on) => {
    for (const value of ['1', '2', '3']) await on.client.put(on.key('a'), value);
    await on.client.compact(on.at(2));
    t.is(await failure(on.client.compact(on.at(2))), compacted);
    t.is(await failure(on.client.compact(on.at(1))), compacted);
    t.is(await failure(on.client.compact(0n)), compacted);
    t.is(await failure(on.client.compact(-5n)), compacted);
    t.is(await failure(on.client.compact(on.at(4))), future);
    await on.client.compact(on.at(3), 'physical');
    t.deepEqual(await on.all(), ['a=3 c1 m3 v3']);
  }),
  'compaction counts no revision': wholeServer(async (t, on) => {
    await on.client.put(on.key('a'), '1');
    await on.client.compact(on.at(1));
    t.is(on.since((await on.client.put(on.key('a'), '2')).header.revision), 2);
  }),
  'versions go on over a compaction': async (t, on) => {
    for (const value of ['1', '2', '3']) await on.client.put(on.key('a'), value);
    const compact = await compactionPoint(on, 'physical');
    await compact();
    const answer = await on.client.put(on.key('a'), '4', { prevKv: true });
    t.deepEqual(on.put(answer), { at: 4, was: 'a=3 c1 m3 v3' });
    t.deepEqual(await on.all(), ['a=4 c1 m4 v4']);
  },
  'the pair before a write is given though its revision is compacted': async (t, on) => {
    for (const name of ['a', 'b', 'c']) await on.client.put(on.key(name), name);
    const compact = await compactionPoint(on, 'physical');
    await compact();
    const { id } = await on.client.grant(600);
    const kept = await on.client.put(on.key('a'), '', { ignoreValue: true, lease: id, prevKv: true });
    t.deepEqual(on.put(kept), { at: 4, was: 'a=a c1 m1 v1' });
    const gone = await on.client.delete(on.key('b'), { rangeEnd: on.end, prevKv: true });
    t.deepEqual(on.delete(gone), { at: 5, deleted: 2, was: ['b=b c2 m2 v1', 'c=c c3 m3 v1'] });
    t.deepEqual(await on.all(), [`a=a c1 m4 v2 l${id}`]);
    await on.client.revoke(id);
  },
  'many keys and versions': async (t, on) => {
    for (let round = 0; round < 5; round++) {
      await Promise.all(
        Array.from({ length: 40 }, (_, index) => on.client.put(on.key(`k${index}`), `${round}`)),
      );
    }
    await on.client.delete(on.key('k1'), { rangeEnd: on.key('k2') });
    const { header } = await on.client.range(on.prefix);
    const compact = await compactionPoint(on, 'physical');
    await compact();
    const left = await on.client.range(on.prefix, { rangeEnd: on.end, revision: header.revision });
    t.is(left.count, 29);
    t.true(left.kvs.every((kv) => kv.version === 5n && kv.value.toString() === '4'));
    const before = on.client.range(on.prefix, { rangeEnd: on.end, revision: header.revision - 1n });
    t.is(await failure(before), compacted);
  },
};
