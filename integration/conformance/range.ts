// Range: every option, alone and together.

import { failure, type Cases, type Scene, wholeServer } from './scene.ts';
import { bytes, fromKey, op } from './requests.ts';

/** a, b, c and d at +1 to +4; b again at +5; e created and deleted at +6 and +7. */
async function fill(on: Scene): Promise<void> {
  for (const name of ['a', 'b', 'c', 'd']) await on.client.put(on.key(name), name.toUpperCase());
  await on.client.put(on.key('b'), 'B2');
  await on.client.put(on.key('e'), 'E');
  await on.client.delete(on.key('e'));
}

const a = 'a=A c1 m1 v1';
const b = 'b=B2 c2 m5 v2';
const c = 'c=C c3 m3 v1';
const d = 'd=D c4 m4 v1';
const future = '11 etcdserver: mvcc: required revision is a future revision';

export const rangeCases: Cases = {
  'one key, present and absent': async (t, on) => {
    await fill(on);
    const present = on.range(await on.client.range(on.key('b')));
    t.deepEqual(present, { at: 7, kvs: [b], more: false, count: 1 });
    const absent = on.range(await on.client.range(on.key('e')));
    t.deepEqual(absent, { at: 7, kvs: [], more: false, count: 0 });
  },
  'the header names cluster, member and term': async (t, on) => {
    const { header } = await on.client.range(on.key('a'));
    t.not(header.clusterId, 0n);
    t.not(header.memberId, 0n);
    t.true(header.raftTerm > 0n);
    const again = await on.client.put(on.key('a'), 'A');
    t.deepEqual({ ...again.header, revision: 0n }, { ...header, revision: 0n });
  },
  'half-open ranges, empty ranges, inverted ranges': async (t, on) => {
    await fill(on);
    const range = async (from: string, to: string) =>
      on.range(await on.client.range(on.key(from), { rangeEnd: on.key(to) })).kvs;
    t.deepEqual(await range('a', 'z'), [a, b, c, d]);
    t.deepEqual(await range('b', 'd'), [b, c]);
    t.deepEqual(await range('aa', 'bb'), [b]);
    t.deepEqual(await range('b', 'b'), []);
    t.deepEqual(await range('d', 'a'), []);
  },
  'all keys from one on': wholeServer(async (t, on) => {
    const high = Buffer.concat([Buffer.from([0xff, 0xfe]), bytes(on.prefix)]);
    await on.client.put(Buffer.concat([high, bytes('a')]), '1');
    await on.client.put(Buffer.concat([high, bytes('b')]), '2');
    const { kvs, count } = await on.client.range(Buffer.concat([high, bytes('a')]), { rangeEnd: fromKey });
    t.deepEqual(
      kvs.map((kv) => kv.value.toString()),
      ['1', '2'],
    );
    t.is(count, 2);
    t.is((await on.client.delete(high, { rangeEnd: fromKey })).deleted, 2);
  }),
  'keys are bytes, compared as bytes': async (t, on) => {
    const names = [[0], [0, 0], [0x41], [0x61], [0x7f], [0x80], [0xc3, 0xa4], [0xff], [0xff, 0xff]];
    const keys = names.map((name) => Buffer.concat([bytes(on.prefix), Buffer.from(name)]));
    for (const key of keys.toReversed()) await on.client.put(key, key);
    const { kvs } = await on.client.range(on.prefix, { rangeEnd: on.end });
    t.deepEqual(
      kvs.map((kv) => kv.key),
      keys,
    );
    t.deepEqual(
      kvs.map((kv) => kv.value),
      keys,
    );
    const one = await on.client.range(keys[5]!);
    t.deepEqual(one.kvs[0]?.key, keys[5]);
  },
  'trailing spaces and letter case distinguish keys': async (t, on) => {
    for (const name of ['k', 'k ', 'K', 'k\t']) await on.client.put(on.key(name), name);
    t.is((await on.client.range(on.prefix, { rangeEnd: on.end })).count, 4);
    t.is((await on.client.range(on.key('k '))).kvs[0]?.value.toString(), 'k ');
    t.is((await on.client.delete(on.key('K'))).deleted, 1);
    t.is((await on.client.range(on.key('k'))).count, 1);
  },
  'an empty value is a value': async (t, on) => {
    await on.client.put(on.key('a'));
    t.deepEqual(await on.all(), ['a= c1 m1 v1']);
  },
  'a limit cuts pages and says that there is more; the count is of the whole range': async (t, on) => {
    await fill(on);
    const rangeEnd = on.end;
    const page = async (from: string, limit: number) =>
      on.range(await on.client.range(on.key(from), { rangeEnd, limit }));
    t.deepEqual(await page('', 2), { at: 7, kvs: [a, b], more: true, count: 4 });
    t.deepEqual(await page('b\0', 2), { at: 7, kvs: [c, d], more: false, count: 2 });
    t.deepEqual(await page('', 4), { at: 7, kvs: [a, b, c, d], more: false, count: 4 });
    t.deepEqual(await page('', 5), { at: 7, kvs: [a, b, c, d], more: false, count: 4 });
    t.deepEqual(await page('', 1), { at: 7, kvs: [a], more: true, count: 4 });
  },
  'a negative limit is none': async (t, on) => {
    await fill(on);
    const { kvs, more } = await on.client.range(on.prefix, { rangeEnd: on.end, limit: -1 });
    t.deepEqual([kvs.length, more], [4, false]);
  },
  'count only ignores limit and gives no pairs': async (t, on) => {
    await fill(on);
    const counted = await on.client.range(on.prefix, { rangeEnd: on.end, countOnly: true, limit: 1 });
    t.deepEqual(on.range(counted), { at: 7, kvs: [], more: false, count: 4 });
    t.is((await on.client.range(on.key('a'), { countOnly: true })).count, 1);
    t.is((await on.client.range(on.key('e'), { countOnly: true })).count, 0);
  },
  'keys only leaves out values and nothing else': async (t, on) => {
    await fill(on);
    const { kvs } = on.range(await on.client.range(on.key('a'), { rangeEnd: on.key('c'), keysOnly: true }));
    t.deepEqual(kvs, ['a= c1 m1 v1', 'b= c2 m5 v2']);
  },
  'sorting by each target, both ways': async (t, on) => {
    await on.client.put(on.key('a'), '3');
    await on.client.put(on.key('b'), '1');
    await on.client.put(on.key('c'), '2');
    await on.client.put(on.key('a'), '3');
    await on.client.put(on.key('a'), '3');
    await on.client.put(on.key('b'), '1');
    const sorted = async (options: Parameters<typeof on.client.range>[1]) => {
      const { kvs } = await on.client.range(on.prefix, { rangeEnd: on.end, ...options });
      return kvs.map((kv) => kv.key.toString().at(-1)).join('');
    };
    t.is(await sorted({ sortTarget: 'key', sortOrder: 'descend' }), 'cba');
    t.is(await sorted({ sortTarget: 'version', sortOrder: 'ascend' }), 'cba');
    t.is(await sorted({ sortTarget: 'version', sortOrder: 'descend' }), 'abc');
    t.is(await sorted({ sortTarget: 'create', sortOrder: 'descend' }), 'cba');
    t.is(await sorted({ sortTarget: 'mod', sortOrder: 'ascend' }), 'cab');
    t.is(await sorted({ sortTarget: 'mod', sortOrder: 'descend' }), 'bac');
    t.is(await sorted({ sortTarget: 'value', sortOrder: 'ascend' }), 'bca');
    t.is(await sorted({ sortTarget: 'value', sortOrder: 'descend' }), 'acb');
    t.is(
      await sorted({ sortTarget: 'value', sortOrder: 'none' }),
      'bca',
      'no order: ascending by the target',
    );
  },
  'a limit applies after sorting': async (t, on) => {
    await fill(on);
    const options = { rangeEnd: on.end, limit: 2, sortTarget: 'mod', sortOrder: 'descend' } as const;
    const page = on.range(await on.client.range(on.prefix, options));
    t.deepEqual(page, { at: 7, kvs: [b, d], more: true, count: 4 });
  },
  'bounds on revisions filter after counting': async (t, on) => {
    await fill(on);
    const filtered = async (options: Parameters<typeof on.client.range>[1]) => {
      const { kvs, count, more } = await on.client.range(on.prefix, { rangeEnd: on.end, ...options });
      return { keys: kvs.map((kv) => kv.key.toString().at(-1)).join(''), count, more };
    };
    t.deepEqual(await filtered({ minModRevision: on.at(4) }), { keys: 'bd', count: 4, more: false });
    t.deepEqual(await filtered({ maxModRevision: on.at(3) }), { keys: 'ac', count: 4, more: false });
    t.deepEqual(await filtered({ minCreateRevision: on.at(3) }), { keys: 'cd', count: 4, more: false });
    t.deepEqual(await filtered({ maxCreateRevision: on.at(2) }), { keys: 'ab', count: 4, more: false });
    t.deepEqual(await filtered({ minModRevision: on.at(3), maxCreateRevision: on.at(3) }), {
      keys: 'bc',
      count: 4,
      more: false,
    });
    t.deepEqual(await filtered({ minModRevision: on.at(3), limit: 1 }), { keys: 'b', count: 4, more: true });
    t.deepEqual(await filtered({ minModRevision: on.at(3), limit: 3 }), {
      keys: 'bcd',
      count: 4,
      more: false,
    });
  },
  'the past stays readable': async (t, on) => {
    await fill(on);
    const then = async (offset: number) => {
      const revision = on.at(offset);
      return on.range(await on.client.range(on.prefix, { rangeEnd: on.end, revision }));
    };
    t.deepEqual(await then(4), { at: 7, kvs: [a, 'b=B c2 m2 v1', c, d], more: false, count: 4 });
    t.deepEqual((await then(5)).kvs, [a, b, c, d]);
    t.deepEqual((await then(6)).kvs, [a, b, c, d, 'e=E c6 m6 v1']);
    t.deepEqual((await then(7)).kvs, [a, b, c, d]);
  },
  'pages of the past, with its own count': async (t, on) => {
    await fill(on);
    await on.client.delete(on.prefix, { rangeEnd: on.end });
    const options = { rangeEnd: on.end, limit: 3, revision: on.at(6) };
    const first = on.range(await on.client.range(on.prefix, options));
    t.deepEqual(first, { at: 8, kvs: [a, b, c], more: true, count: 5 });
    const second = on.range(await on.client.range(on.key('c\0'), options));
    t.deepEqual(second, { at: 8, kvs: [d, 'e=E c6 m6 v1'], more: false, count: 2 });
    const counted = await on.client.range(on.prefix, { ...options, countOnly: true });
    t.is(counted.count, 5);
    t.is((await on.client.range(on.key('a'), { revision: on.at(7) })).count, 1);
    t.is((await on.client.range(on.key('a'))).count, 0);
  },
  'a key created again starts anew, its past does not change': async (t, on) => {
    await on.client.put(on.key('a'), '1');
    await on.client.put(on.key('a'), '2');
    await on.client.delete(on.key('a'));
    await on.client.put(on.key('a'), '4');
    t.deepEqual(await on.all(), ['a=4 c4 m4 v1']);
    const then = async (offset: number) =>
      on.range(await on.client.range(on.key('a'), { revision: on.at(offset) }));
    t.deepEqual((await then(2)).kvs, ['a=2 c1 m2 v2']);
    t.deepEqual((await then(3)).kvs, []);
  },
  'revisions 0 and below are the latest, above the newest an error': async (t, on) => {
    await fill(on);
    t.is((await on.client.range(on.key('a'), { revision: -1n })).count, 1);
    t.is(await failure(on.client.range(on.key('a'), { revision: on.at(8) })), future);
  },
  'serializable reads answer too': async (t, on) => {
    await fill(on);
    const answer = on.range(await on.client.range(on.key('b'), { serializable: true }));
    t.deepEqual(answer.kvs, [b]);
  },
  'an empty key is refused': async (t, on) => {
    t.is(await failure(on.client.range('')), '3 etcdserver: key is not provided');
    t.is(await failure(on.client.range('', { rangeEnd: 'z' })), '3 etcdserver: key is not provided');
  },
  'an unknown sort order is refused': async (t, on) => {
    // range_request { key: "k" sort_order: 7 } and sort_target: 9
    const order = Buffer.from([0x0a, 1, 0x6b, 0x28, 7]);
    const target = Buffer.from([0x0a, 1, 0x6b, 0x30, 9]);
    t.is(await failure(on.client.unary('KV/Range', order)), '3 etcdserver: invalid sort option');
    t.is(await failure(on.client.unary('KV/Range', target)), '3 etcdserver: invalid sort option');
  },
  'many keys in one answer': async (t, on) => {
    const count = 300;
    const success = Array.from({ length: 100 });
    for (let start = 0; start < count; start += success.length) {
      await on.client.txn({
        success: success.map((_, index) =>
          op.put(on.key(`k${String(start + index).padStart(4, '0')}`), Buffer.alloc(1000, start + index)),
        ),
      });
    }
    const answer = await on.client.range(on.prefix, { rangeEnd: on.end });
    t.is(answer.count, count);
    t.true(answer.kvs.every((kv, index) => kv.value.equals(Buffer.alloc(1000, index))));
    t.is(on.since(answer.header.revision), 3);
  },
};
