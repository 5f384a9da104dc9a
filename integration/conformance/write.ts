// Put and DeleteRange: what they answer, what they count, what they refuse.

import { fromKey } from './requests.ts';
import { failure, type Cases, wholeServer } from './scene.ts';

export const writeCases: Cases = {
  'a put creates, then counts versions; the same value counts too': async (t, on) => {
    t.deepEqual(on.put(await on.client.put(on.key('a'), '1')), { at: 1, was: undefined });
    t.deepEqual(on.put(await on.client.put(on.key('a'), '1')), { at: 2, was: undefined });
    t.deepEqual(await on.all(), ['a=1 c1 m2 v2']);
  },
  'a put gives the pair before where asked': async (t, on) => {
    t.deepEqual(on.put(await on.client.put(on.key('a'), '1', { prevKv: true })), { at: 1, was: undefined });
    const second = on.put(await on.client.put(on.key('a'), '2', { prevKv: true }));
    t.deepEqual(second, { at: 2, was: 'a=1 c1 m1 v1' });
  },
  'a put may keep the value': async (t, on) => {
    await on.client.put(on.key('a'), '1');
    await on.client.put(on.key('a'), '', { ignoreValue: true });
    t.deepEqual(await on.all(), ['a=1 c1 m2 v2']);
    t.is(await failure(on.client.put(on.key('b'), '', { ignoreValue: true })), '3 etcdserver: key not found');
    t.is(
      await failure(on.client.put(on.key('a'), 'x', { ignoreValue: true })),
      '3 etcdserver: value is provided',
    );
    t.deepEqual(await on.all(), ['a=1 c1 m2 v2']);
  },
  'a put may keep the lease': async (t, on) => {
    const { id } = await on.client.grant(600);
    await on.client.put(on.key('a'), '1', { lease: id });
    await on.client.put(on.key('a'), '2', { ignoreLease: true });
    t.deepEqual(await on.all(), [`a=2 c1 m2 v2 l${id}`]);
    t.is(await failure(on.client.put(on.key('b'), '', { ignoreLease: true })), '3 etcdserver: key not found');
    t.is(
      await failure(on.client.put(on.key('a'), 'x', { ignoreLease: true, lease: id })),
      '3 etcdserver: lease is provided',
    );
    await on.client.revoke(id);
  },
  'a put with a lease that nobody granted is refused': async (t, on) => {
    t.is(
      await failure(on.client.put(on.key('a'), 'x', { lease: 0x7654_3210n })),
      '5 etcdserver: requested lease not found',
    );
    t.deepEqual(await on.all(), []);
    t.is(on.since((await on.client.range(on.key('a'))).header.revision), 0);
  },
  'an empty key is refused': async (t, on) => {
    t.is(await failure(on.client.put('', 'x')), '3 etcdserver: key is not provided');
    t.is(await failure(on.client.delete('')), '3 etcdserver: key is not provided');
  },
  'binary and large values come back as they were': async (t, on) => {
    const value = Buffer.from(Array.from({ length: 1_000_000 }, (_, index) => (index * 7) % 256));
    await on.client.put(on.key('a'), value);
    t.true((await on.client.range(on.key('a'))).kvs[0]?.value.equals(value));
  },
  'a request above the limit is refused': async (t, on) => {
    const value = Buffer.alloc(1.5 * 1024 * 1024 + 1);
    t.is(await failure(on.client.put(on.key('a'), value)), '3 etcdserver: request is too large');
    t.deepEqual(await on.all(), []);
  },
  'a delete removes one key, and says so': async (t, on) => {
    await on.client.put(on.key('a'), '1');
    await on.client.put(on.key('aa'), '2');
    t.deepEqual(on.delete(await on.client.delete(on.key('a'))), { at: 3, deleted: 1, was: [] });
    t.deepEqual(await on.all(), ['aa=2 c2 m2 v1']);
  },
  'a delete of nothing counts nothing': async (t, on) => {
    t.deepEqual(on.delete(await on.client.delete(on.key('a'))), { at: 0, deleted: 0, was: [] });
    const range = { rangeEnd: on.key('z'), prevKv: true };
    t.deepEqual(on.delete(await on.client.delete(on.key('a'), range)), { at: 0, deleted: 0, was: [] });
  },
  'a delete of a range is one revision and gives the pairs before': async (t, on) => {
    for (const name of ['c', 'a', 'b', 'd']) await on.client.put(on.key(name), name);
    const answer = on.delete(await on.client.delete(on.key('a'), { rangeEnd: on.key('d'), prevKv: true }));
    t.deepEqual(answer, { at: 5, deleted: 3, was: ['a=a c2 m2 v1', 'b=b c3 m3 v1', 'c=c c1 m1 v1'] });
    t.deepEqual(await on.all(), ['d=d c4 m4 v1']);
    t.is((await on.client.delete(on.key('a'), { rangeEnd: on.key('d') })).deleted, 0);
  },
  'a delete of an inverted range deletes nothing': async (t, on) => {
    await on.client.put(on.key('b'), '1');
    t.is((await on.client.delete(on.key('c'), { rangeEnd: on.key('a') })).deleted, 0);
    t.deepEqual(await on.all(), ['b=1 c1 m1 v1']);
  },
  'a delete from a key on': wholeServer(async (t, on) => {
    const high = Buffer.concat([Buffer.from([0xff, 0xfd]), Buffer.from(on.prefix)]);
    await on.client.put(high, '1');
    t.is((await on.client.delete(high, { rangeEnd: fromKey })).deleted, 1);
  }),
  'concurrent puts of one key get a revision each': async (t, on) => {
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) => on.client.put(on.key('a'), `${n}`)),
    );
    const revisions = answers.map(({ header }) => on.since(header.revision)).toSorted((x, y) => x - y);
    t.deepEqual(
      revisions,
      Array.from({ length: 50 }, (_, n) => n + 1),
    );
    const [kv] = (await on.client.range(on.key('a'))).kvs;
    t.is(kv?.version, 50n);
  },
};
