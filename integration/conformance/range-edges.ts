// Range: options in combination, pages of the past, and where etcd's own answer is not the obvious one.

import { compactionPoint } from './compaction-point.ts';
import { bytes } from './requests.ts';
import { failure, type Cases, type Scene, wholeServer } from './scene.ts';

const compacted = '11 etcdserver: mvcc: required revision has been compacted';
const future = '11 etcdserver: mvcc: required revision is a future revision';
const int64Max = 2n ** 63n - 1n;

type Options = NonNullable<Parameters<Scene['client']['range']>[1]>;

/** a to f at +1 to +6; c again at +7, a at +8 and +9; e deleted at +10; values fall as keys rise. */
async function fill(on: Scene): Promise<void> {
  for (const [name, value] of Object.entries({ a: '9', b: '8', c: '7', d: '6', e: '5', f: '4' }))
    await on.client.put(on.key(name), value);
  await on.client.put(on.key('c'), '7');
  await on.client.put(on.key('a'), '9');
  await on.client.put(on.key('a'), '1');
  await on.client.delete(on.key('e'));
}

/** Keys by name in the order of the answer, with the rest of it: `abd of 5, more`. */
async function ask(on: Scene, options: Options, from = ''): Promise<string> {
  const answer = await on.client.range(on.key(from), { rangeEnd: on.end, ...options });
  const names = answer.kvs.map((kv) => kv.key.toString().at(-1)).join('');
  return `${names} of ${answer.count}${answer.more ? ', more' : ''}`;
}

export const rangeEdgeCases: Cases = {
  'bounds on revisions, with a limit: cut after filtering, counted before': async (t, on) => {
    await fill(on);
    const table: readonly (readonly [Options, string])[] = [
      [{ minModRevision: on.at(4) }, 'acdf of 5'],
      [{ minModRevision: on.at(4), limit: 4 }, 'acdf of 5'],
      [{ minModRevision: on.at(4), limit: 3 }, 'acd of 5, more'],
      [{ maxModRevision: on.at(7) }, 'bcdf of 5'],
      [{ maxModRevision: on.at(7), limit: 2 }, 'bc of 5, more'],
      [{ minModRevision: on.at(4), maxModRevision: on.at(7) }, 'cdf of 5'],
      [{ minModRevision: on.at(4), maxModRevision: on.at(7), limit: 2 }, 'cd of 5, more'],
      [{ minModRevision: on.at(7), maxModRevision: on.at(4) }, ' of 5'],
      [{ minCreateRevision: on.at(2), maxCreateRevision: on.at(4) }, 'bcd of 5'],
      [{ minCreateRevision: on.at(2), maxModRevision: on.at(6), limit: 2 }, 'bd of 5, more'],
      [{ maxCreateRevision: on.at(3), minModRevision: on.at(3), limit: 1 }, 'a of 5, more'],
      [{ minModRevision: on.at(11) }, ' of 5'],
      [{ minModRevision: int64Max }, ' of 5'],
      [{ maxModRevision: int64Max }, 'abcdf of 5'],
      [{ minModRevision: -1n }, 'abcdf of 5'],
      [{ maxModRevision: -1n }, ' of 5'],
      [{ maxCreateRevision: -1n, limit: 1 }, ' of 5'],
    ];
    for (const [options, expected] of table) t.is(await ask(on, options), expected);
  },
  'bounds on revisions, sorted and cut': async (t, on) => {
    await fill(on);
    const byMod = { sortTarget: 'mod', sortOrder: 'descend' } as const;
    t.is(await ask(on, { ...byMod, minModRevision: on.at(4), limit: 2 }), 'ac of 5, more');
    t.is(await ask(on, { ...byMod, maxModRevision: on.at(7), limit: 9 }), 'cfdb of 5');
    t.is(await ask(on, { sortTarget: 'value', minModRevision: on.at(4), limit: 2 }), 'af of 5, more');
    t.is(await ask(on, { ...byMod, maxModRevision: on.at(7), limit: 1, keysOnly: true }), 'c of 5, more');
  },
  'bounds on revisions of one key, and with counts only': async (t, on) => {
    await fill(on);
    const one = async (options: Options) => {
      const { kvs, count } = await on.client.range(on.key('c'), options);
      return [kvs.length, count];
    };
    t.deepEqual(await one({ minModRevision: on.at(8) }), [0, 1]);
    t.deepEqual(await one({ minModRevision: on.at(7) }), [1, 1]);
    t.deepEqual(await one({ maxCreateRevision: on.at(2) }), [0, 1]);
    t.deepEqual(await one({ maxCreateRevision: on.at(2), countOnly: true }), [0, 1]);
    t.is(await ask(on, { minModRevision: on.at(8), countOnly: true, limit: 1 }), ' of 5');
  },
  'bounds on revisions in the past speak of what was then': async (t, on) => {
    await fill(on);
    t.is(await ask(on, { revision: on.at(7), minModRevision: on.at(5) }), 'cef of 6');
    t.is(await ask(on, { revision: on.at(7), maxModRevision: on.at(2), limit: 1 }), 'a of 6, more');
    t.is(await ask(on, { revision: on.at(7), minCreateRevision: on.at(6), limit: 1 }), 'f of 6');
  },
  'the past, cut, sorted, counted and without values': async (t, on) => {
    await fill(on);
    const revision = on.at(8);
    t.is(await ask(on, { revision, limit: 2 }), 'ab of 6, more');
    t.is(await ask(on, { revision, limit: 6 }), 'abcdef of 6');
    t.is(await ask(on, { revision, limit: 2 }, 'b\0'), 'cd of 4, more');
    t.is(await ask(on, { revision, sortOrder: 'descend', limit: 2 }), 'fe of 6, more');
    t.is(await ask(on, { revision, sortTarget: 'value', limit: 3 }), 'dcb of 6, more');
    t.is(await ask(on, { revision, sortTarget: 'value', sortOrder: 'ascend', limit: 3 }), 'fed of 6, more');
    t.is(await ask(on, { revision, sortTarget: 'version', sortOrder: 'descend', limit: 2 }), 'ac of 6, more');
    t.is(await ask(on, { revision, countOnly: true, limit: 2 }), ' of 6');
    t.is(await ask(on, { revision: on.at(3), countOnly: true }), ' of 3');
    t.is(await ask(on, { revision, keysOnly: true, limit: 1 }), 'a of 6, more');
    const { kvs } = await on.client.range(on.key('a'), { revision, keysOnly: true });
    t.deepEqual(
      kvs.map((kv) => on.kv(kv)),
      ['a= c1 m8 v2'],
    );
  },
  'equal sort keys stay in the order of keys, both ways': async (t, on) => {
    for (const name of ['c', 'a', 'd', 'b']) await on.client.put(on.key(name), name < 'c' ? 'x' : 'y');
    for (const sortOrder of ['ascend', 'descend', 'none'] as const)
      t.is(await ask(on, { sortTarget: 'version', sortOrder }), 'abcd of 4', sortOrder);
    t.is(await ask(on, { sortTarget: 'value', sortOrder: 'ascend' }), 'abcd of 4');
    t.is(await ask(on, { sortTarget: 'value', sortOrder: 'descend' }), 'cdab of 4');
    t.is(await ask(on, { sortTarget: 'value', sortOrder: 'descend', limit: 3 }), 'cda of 4, more');
    t.is(await ask(on, { sortTarget: 'create', sortOrder: 'ascend', limit: 2 }), 'ca of 4, more');
  },
  'a target without an order: cut by key, then sorted': async (t, on) => {
    await fill(on);
    // One more than the limit is read, sorted, and only then cut.
    t.is(await ask(on, { sortTarget: 'value', limit: 2 }), 'ac of 5, more');
    t.is(await ask(on, { sortTarget: 'mod', limit: 1 }), 'b of 5, more');
    t.is(await ask(on, { sortTarget: 'value' }), 'afdcb of 5');
    t.is(await ask(on, { sortTarget: 'value', minModRevision: 1n, limit: 2 }), 'af of 5, more');
  },
  'sorted by values that are not given': async (t, on) => {
    await fill(on);
    const options = { rangeEnd: on.end, keysOnly: true, sortTarget: 'value', sortOrder: 'descend' } as const;
    const { kvs } = await on.client.range(on.prefix, options);
    t.deepEqual(kvs.map((kv) => kv.key.toString().at(-1)).join(''), 'bcdfa');
    t.true(kvs.every(({ value }) => value.length === 0));
  },
  'values are compared to their last byte': async (t, on) => {
    const long = Buffer.alloc(5000, 'v');
    const values = [
      '2',
      '10',
      '1',
      '',
      long,
      Buffer.concat([long, bytes('a')]),
      Buffer.concat([long, Buffer.from([0])]),
    ];
    for (const [index, value] of values.entries()) await on.client.put(on.key(`${index}`), value);
    t.is(await ask(on, { sortTarget: 'value', sortOrder: 'ascend' }), '3210465 of 7');
  },
  'limits of any size': async (t, on) => {
    await fill(on);
    for (const limit of [2 ** 31, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER])
      t.is(await ask(on, { limit }), 'abcdf of 5');
    t.is(await ask(on, { limit: -5, sortOrder: 'descend' }), 'fdcba of 5');
    t.is(await ask(on, { limit: 0, revision: on.at(2) }), 'ab of 2');
  },
  'one key takes every option too': async (t, on) => {
    await fill(on);
    const read = async (options: Options) => on.range(await on.client.range(on.key('a'), options));
    const whole = { at: 10, kvs: ['a=1 c1 m9 v3'], more: false, count: 1 };
    t.deepEqual(await read({ limit: 1 }), whole);
    t.deepEqual(await read({ sortTarget: 'mod', sortOrder: 'descend', limit: 1 }), whole);
    t.deepEqual(await read({ serializable: true }), whole);
    t.deepEqual(await read({ keysOnly: true }), { ...whole, kvs: ['a= c1 m9 v3'] });
    t.deepEqual(await read({ countOnly: true, keysOnly: true }), { ...whole, kvs: [] });
    t.deepEqual(await read({ revision: on.at(8) }), { ...whole, kvs: ['a=9 c1 m8 v2'] });
    t.deepEqual((await on.client.range(on.key('e'), { revision: on.at(9) })).count, 1);
    t.deepEqual((await on.client.range(on.key('e'), { revision: on.at(10) })).count, 0);
  },
  'serializable reads refuse what linearizable ones refuse': async (t, on) => {
    await fill(on);
    const serializable = true;
    t.is(await ask(on, { serializable, revision: on.at(2) }), 'ab of 2');
    t.is(await failure(ask(on, { serializable, revision: on.at(11) })), future);
    t.is(await failure(on.client.range('', { serializable })), '3 etcdserver: key is not provided');
  },
  'a revision that is not there is refused for counts, empty ranges and absent keys': async (t, on) => {
    await fill(on);
    const compact = await compactionPoint(on);
    await on.client.put(on.key('z'), '');
    await compact();
    for (const [revision, text] of [
      [on.at(3), compacted],
      [on.at(100), future],
    ] as const) {
      t.is(await failure(ask(on, { revision, countOnly: true })), text);
      t.is(await failure(ask(on, { revision, limit: 1 })), text);
      t.is(await failure(on.client.range(on.key('never'), { revision })), text);
      t.is(await failure(on.client.range(on.key('b'), { revision, rangeEnd: on.key('a') })), text);
    }
  },
  'the end of a range is a key like any other': async (t, on) => {
    for (const name of ['a', 'a\0', 'a\0\0', 'aa', 'b']) await on.client.put(on.key(name), '');
    const count = async (from: string, to: string) =>
      (await on.client.range(on.key(from), { rangeEnd: on.key(to) })).count;
    t.is(await count('a', 'a\0'), 1);
    t.is(await count('a', 'a\0\0'), 2);
    t.is(await count('a\0', 'b'), 3);
    t.is(await count('a', 'b\0'), 5);
    t.is((await on.client.range(on.key('a'), { rangeEnd: on.key('a') })).count, 0);
  },
  'an end that is shorter than the key, and one of zeros that is not the special one': wholeServer(
    async (t, on) => {
      await on.client.put(on.key('a'), '');
      const range = async (rangeEnd: Buffer) => (await on.client.range(on.key('a'), { rangeEnd })).count;
      t.is(await range(Buffer.from([0, 0])), 0);
      t.is(await range(Buffer.from([1])), 0);
      t.is((await range(Buffer.from([0xff, 0xff, 0xff, 0xff]))) > 0, true);
      t.is((await on.client.delete(on.key('a'), { rangeEnd: Buffer.from([0, 0]) })).deleted, 0);
    },
  ),
};
