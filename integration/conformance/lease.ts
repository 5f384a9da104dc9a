// Leases: granting, attaching, renewing, revoking, expiring.

import { waitFor } from '../servers/index.ts';
import { op, when } from './requests.ts';
import { failure, type Cases } from './scene.ts';

const notFound = '5 etcdserver: requested lease not found';

export const leaseCases: Cases = {
  'a grant counts no revision and chooses an id': async (t, on) => {
    const lease = await on.client.grant(600);
    t.true(lease.id > 0n);
    t.is(lease.ttl, 600);
    if (!on.isPart) t.is(on.since(lease.header.revision), 0);
    t.not(lease.header.clusterId, 0n);
    await on.client.revoke(lease.id);
  },
  'a grant of a chosen id, once': async (t, on) => {
    const id = 0x7000_0000_0000_0001n + on.base;
    t.is((await on.client.grant(600, id)).id, id);
    t.is(await failure(on.client.grant(600, id)), '9 etcdserver: lease already exists');
    await on.client.revoke(id);
    t.is((await on.client.grant(600, id)).id, id);
    await on.client.revoke(id);
  },
  'a TTL that is too large is refused': async (t, on) => {
    t.is(await failure(on.client.grant(9_000_000_001)), '11 etcdserver: too large lease TTL');
  },
  'revoking deletes the keys in one revision, in key order': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.prefix, { rangeEnd: on.end });
    const { id } = await on.client.grant(600);
    for (const name of ['c', 'a', 'b']) await on.client.put(on.key(name), name, { lease: id });
    await on.client.put(on.key('d'), 'd');
    t.deepEqual((await on.all())[0], `a=a c2 m2 v1 l${id}`);
    const { header } = await on.client.revoke(id);
    if (!on.isPart) t.is(on.since(header.revision), 5);
    const events = await stream.events(7);
    t.deepEqual(
      events.slice(4).map((event) => on.event(event)),
      ['delete a m5', 'delete b m5', 'delete c m5'],
    );
    t.deepEqual(await on.all(), ['d=d c4 m4 v1']);
    t.is(await failure(on.client.revoke(id)), notFound);
  },
  'revoking a lease without keys counts no revision': async (t, on) => {
    const { id } = await on.client.grant(600);
    const { header } = await on.client.revoke(id);
    if (on.isPart) t.pass();
    else t.is(on.since(header.revision), 0);
  },
  'a put moves a key to another lease, or to none': async (t, on) => {
    const [one, two] = [await on.client.grant(600), await on.client.grant(600)];
    await on.client.put(on.key('a'), '1', { lease: one.id });
    await on.client.put(on.key('b'), '1', { lease: one.id });
    await on.client.put(on.key('a'), '2', { lease: two.id });
    await on.client.put(on.key('b'), '2');
    t.deepEqual((await on.client.timeToLive(one.id)).keys, []);
    t.deepEqual((await on.client.timeToLive(two.id)).keys, [on.key('a')]);
    const revoked = [await on.client.revoke(one.id), await on.client.revoke(two.id)];
    const revisions = revoked.map(({ header }) => on.since(header.revision));
    if (!on.isPart) t.deepEqual(revisions, [4, 5]);
    t.deepEqual(await on.all(), ['b=2 c2 m4 v2']);
  },
  'a delete detaches': async (t, on) => {
    const { id } = await on.client.grant(600);
    await on.client.put(on.key('a'), '1', { lease: id });
    await on.client.delete(on.key('a'));
    await on.client.put(on.key('a'), '3');
    t.deepEqual((await on.client.timeToLive(id)).keys, []);
    await on.client.revoke(id);
    t.deepEqual(await on.all(), ['a=3 c3 m3 v1']);
  },
  'the time to live, with keys where asked': async (t, on) => {
    const { id } = await on.client.grant(600);
    await on.client.put(on.key('b'), '1', { lease: id });
    await on.client.put(on.key('a'), '1', { lease: id });
    const asked = await on.client.timeToLive(id);
    t.is(asked.id, id);
    t.is(asked.grantedTtl, 600);
    t.true(asked.ttl > 590 && asked.ttl <= 600);
    t.deepEqual(
      asked.keys.toSorted((x, y) => Buffer.compare(x, y)),
      [on.key('a'), on.key('b')],
    );
    t.deepEqual((await on.client.timeToLive(id, 'no keys')).keys, []);
    await on.client.revoke(id);
    const gone = await on.client.timeToLive(id);
    t.deepEqual([gone.id, gone.ttl, gone.grantedTtl, gone.keys], [id, -1, 0, []]);
  },
  'keepalive gives the TTL again, and 0 for a lease that is gone': async (t, on) => {
    const { id } = await on.client.grant(600);
    const beat = await on.client.keepAlive(id);
    t.deepEqual([beat.id, beat.ttl], [id, 600]);
    await on.client.revoke(id);
    const gone = await on.client.keepAlive(id);
    t.deepEqual([gone.id, gone.ttl], [id, 0]);
  },
  'the list of leases': async (t, on) => {
    const { id } = await on.client.grant(600);
    t.true((await on.client.leases()).leases.includes(id));
    await on.client.revoke(id);
    t.false((await on.client.leases()).leases.includes(id));
  },
  'a lease in a txn, compared and put': async (t, on) => {
    const { id } = await on.client.grant(600);
    await on.client.txn({
      success: [op.put(on.key('a'), '1', { lease: id }), op.put(on.key('b'), '1', { lease: id })],
    });
    const answer = await on.client.txn({
      compare: [when(on.key('a'), 'lease', '=', id, on.key('c'))],
      success: [op.delete(on.key('b'))],
    });
    t.true(answer.succeeded);
    t.deepEqual((await on.client.timeToLive(id)).keys, [on.key('a')]);
    await on.client.revoke(id);
    t.deepEqual(await on.all(), []);
  },
  'a grant of a negative id, and of TTLs below the shortest there is': async (t, on) => {
    const id = -0x7000_0000_0000_0001n - on.base;
    t.like(await on.client.grant(-(2 ** 62), id), { id, ttl: 2 });
    t.is(await failure(on.client.grant(-1, id)), '9 etcdserver: lease already exists');
    t.is(await failure(on.client.grant(9_000_000_001, id)), '11 etcdserver: too large lease TTL');
    await on.client.put(on.key('a'), '1', { lease: id });
    t.deepEqual(await on.all(), [`a=1 c1 m1 v1 l${id}`]);
    t.like(await on.client.keepAlive(id), { id, ttl: 2 });
    t.true((await on.client.leases()).leases.includes(id));
    t.like(await on.client.timeToLive(id), { id, grantedTtl: 2, keys: [on.key('a')] });
    await on.client.revoke(id);
    t.deepEqual(await on.all(), []);
    for (const ttl of [0, -1]) {
      const granted = await on.client.grant(ttl);
      t.is(granted.ttl, 2);
      await on.client.revoke(granted.id);
    }
  },
  'the longest TTL': async (t, on) => {
    const { id, ttl } = await on.client.grant(9_000_000_000);
    t.is(ttl, 9_000_000_000);
    await on.client.put(on.key('a'), '1', { lease: id });
    const asked = await on.client.timeToLive(id);
    t.is(asked.grantedTtl, 9_000_000_000);
    t.true(asked.ttl > 9_000_000_000 - 60);
    t.is((await on.client.keepAlive(id)).ttl, 9_000_000_000);
    await on.client.revoke(id);
  },
  'what is no lease': async (t, on) => {
    for (const id of [0n, 0x7000_0000_0000_0002n + on.base, -2n - on.base]) {
      t.is(await failure(on.client.revoke(id)), notFound);
      t.like(await on.client.keepAlive(id), { id, ttl: 0 });
      t.like(await on.client.timeToLive(id), { id, ttl: -1, grantedTtl: 0, keys: [] });
      t.false((await on.client.leases()).leases.includes(id));
      if (id === 0n) continue;
      t.is(await failure(on.client.put(on.key('a'), '', { lease: id })), notFound);
      const txn = on.client.txn({ success: [op.put(on.key('b')), op.put(on.key('a'), '', { lease: id })] });
      t.is(await failure(txn), notFound);
    }
    t.deepEqual(await on.all(), []);
  },
  'every answer has a whole header': async (t, on) => {
    const { id, header } = await on.client.grant(600);
    const answers = [
      await on.client.keepAlive(id),
      await on.client.timeToLive(id),
      await on.client.timeToLive(0n),
      await on.client.leases(),
      await on.client.revoke(id),
    ];
    for (const answer of answers) t.deepEqual(answer.header, header);
    t.true(header.revision > 0n && header.clusterId !== 0n && header.memberId !== 0n && header.raftTerm > 0n);
  },
  'one stream renews many leases, answers in the order of the beats, and ends after the last': async (
    t,
    on,
  ) => {
    const granted = await Promise.all([600, 700, 800].map((ttl) => on.client.grant(ttl)));
    const [a, b, c] = granted.map(({ id }) => id) as [bigint, bigint, bigint];
    const gone = 0x7000_0000_0000_0003n + on.base;
    await on.client.put(on.key('a'), '1', { lease: a });
    const beats = [a, gone, b, a, 0n, c, gone, c, b];
    const answers = await on.client.keepAlives(beats);
    t.deepEqual(
      answers.map(({ id, ttl }) => [id, ttl]),
      beats.map((id) => [id, granted.find((lease) => lease.id === id)?.ttl ?? 0]),
    );
    const many = Array.from({ length: 300 }, (_, index) => beats[index % beats.length]!);
    t.deepEqual(
      (await on.client.keepAlives(many)).map(({ id }) => id),
      many,
    );
    t.deepEqual(await on.client.keepAlives([]), []);
    for (const { id } of granted) await on.client.revoke(id);
  },
  'the list names the next to expire first': async (t, on) => {
    const granted: { readonly id: bigint }[] = [];
    for (const ttl of [800, 600, 700]) granted.push(await on.client.grant(ttl));
    const [first, second, third] = granted.map(({ id }) => id) as [bigint, bigint, bigint];
    const own = async () =>
      (await on.client.leases()).leases.filter((id) => granted.some((g) => g.id === id));
    t.deepEqual(await own(), [second, third, first]);
    await on.client.revoke(third);
    t.deepEqual(await own(), [second, first]);
    for (const id of [first, second]) await on.client.revoke(id);
  },
  'put again with its lease, put with ignore_lease, compared by its lease': async (t, on) => {
    const { id } = await on.client.grant(600);
    for (const value of ['1', '2']) await on.client.put(on.key('a'), value, { lease: id });
    await on.client.put(on.key('a'), '3', { ignoreLease: true });
    await on.client.put(on.key('b'), '1');
    await on.client.put(on.key('b'), '2', { ignoreLease: true });
    t.deepEqual(await on.all(), [`a=3 c1 m3 v3 l${id}`, 'b=2 c4 m5 v2']);
    t.deepEqual((await on.client.timeToLive(id)).keys, [on.key('a')]);
    const holds = async (...condition: Parameters<typeof when>) =>
      (await on.client.txn({ compare: [when(...condition)] })).succeeded;
    t.true(await holds(on.key('a'), 'lease', '=', id));
    t.false(await holds(on.key('a'), 'lease', '!=', id));
    t.true(await holds(on.key('a'), 'lease', '>', 0n));
    t.true(await holds(on.key('b'), 'lease', '=', 0n));
    t.true(await holds(on.key('absent'), 'lease', '<', 1n));
    await on.client.delete(on.key('a'), { rangeEnd: on.end });
    t.deepEqual((await on.client.timeToLive(id)).keys, []);
    await on.client.revoke(id);
  },
  'a txn moves keys between leases, and a failed one none': async (t, on) => {
    const [one, two] = [await on.client.grant(600), await on.client.grant(600)];
    const keys = async () => {
      const held = await Promise.all([one, two].map(({ id }) => on.client.timeToLive(id)));
      const names = held.map((answer) => answer.keys.map((key) => key.toString().slice(on.prefix.length)));
      return names.map((list) => list.toSorted().join(''));
    };
    await on.client.txn({
      success: [op.put(on.key('a'), '', { lease: one.id }), op.put(on.key('b'), '', { lease: two.id })],
    });
    t.deepEqual(await keys(), ['a', 'b']);
    await on.client.txn({
      success: [op.put(on.key('a'), '', { lease: two.id }), op.txn({ success: [op.put(on.key('b'))] })],
    });
    t.deepEqual(await keys(), ['', 'a']);
    const bad = on.client.txn({
      success: [op.put(on.key('a')), op.put(on.key('b'), '', { lease: 0x7000_0000_0000_0004n + on.base })],
    });
    t.is(await failure(bad), notFound);
    t.deepEqual(await keys(), ['', 'a']);
    for (const { id } of [one, two]) await on.client.revoke(id);
    t.deepEqual(await on.all(), ['b= c1 m2 v2']);
  },
  'no key outlives a lease that is revoked while keys are put': async (t, on) => {
    const { id } = await on.client.grant(600);
    const put = (index: number) => on.client.put(on.key(`k${index % 40}`), `${index}`, { lease: id });
    const puts = Array.from({ length: 120 }, async (_, index) => {
      if (index === 60) return on.client.revoke(id).then(() => 'revoked');
      return put(index).then(
        () => 'put',
        (error: Error) => error.message,
      );
    });
    const outcomes = new Set(await Promise.all(puts));
    outcomes.delete('put');
    outcomes.delete(notFound);
    t.deepEqual([...outcomes], ['revoked']);
    t.is(await failure(put(0)), notFound);
    t.deepEqual(await on.all(), []);
  },
  'leases that end together: one revision for each, keys in order, each once': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.prefix, { rangeEnd: on.end });
    const names = ['c', 'a', 'b', 'd'];
    const leases = await Promise.all(
      ['x', 'y', 'z'].map(async (name) => ({ name, ...(await on.client.grant(2)) })),
    );
    await Promise.all(
      leases.flatMap(({ name, id }) =>
        names.map((key) => on.client.put(on.key(`${name}/${key}`), '', { lease: id })),
      ),
    );
    const total = leases.length * names.length;
    const seen = [...(await stream.events(total)), ...(await stream.events(total, 20_000))].slice(total);
    const ends = new Map<string, string[]>();
    for (const { type, kv } of seen) {
      t.is(type, 'delete');
      const [name, key] = kv.key.toString().slice(on.prefix.length).split('/') as [string, string];
      const at = `${name} ${on.since(kv.modRevision)}`;
      ends.set(at, [...(ends.get(at) ?? []), key]);
    }
    t.is(ends.size, leases.length);
    for (const keys of ends.values()) t.deepEqual(keys, ['a', 'b', 'c', 'd']);
    t.deepEqual(new Set([...ends.keys()].map((at) => at.split(' ')[1])), new Set(['13', '14', '15']));
    t.deepEqual(await on.all(), []);
  },
  'a lease that is over is not renewed': async (t, on) => {
    const { id, ttl } = await on.client.grant(5);
    const until = performance.now() + ttl * 1000 + 20;
    const wait = () => until - performance.now();
    while (wait() > 0) await new Promise((resolve) => setTimeout(resolve, wait()));
    t.like(await on.client.keepAlive(id), { id, ttl: 0 });
    t.is((await on.client.timeToLive(id)).ttl, -1);
    t.is(await failure(on.client.put(on.key('a'), '', { lease: id })), notFound);
    t.false((await on.client.leases()).leases.includes(id));
    t.is(await failure(on.client.revoke(id)), notFound);
  },
  'expiry deletes the keys, and watches hear of it': async (t, on) => {
    const stream = on.stream();
    await stream.create(on.prefix, { rangeEnd: on.end, prevKv: true });
    const { id, ttl } = await on.client.grant(1);
    t.true(ttl >= 1);
    await on.client.put(on.key('b'), '1', { lease: id });
    await on.client.put(on.key('a'), '1', { lease: id });
    const events = [...(await stream.events(2)), ...(await stream.events(2, 20_000))];
    t.deepEqual(
      events.slice(2).map((event) => on.event(event)),
      [`delete a m3 (was a=1 c2 m2 v1 l${id})`, `delete b m3 (was b=1 c1 m1 v1 l${id})`],
    );
    t.deepEqual(await on.all(), []);
    // Where the lease was granted elsewhere, it may end there a little later.
    const gone = async () => (await on.client.timeToLive(id)).ttl === -1;
    await waitFor(gone, { what: 'the lease to be gone', deadlineMs: 5_000 });
    t.is(await failure(on.client.put(on.key('c'), '', { lease: id })), notFound);
  },
  'keepalive puts expiry off': async (t, on) => {
    const { id, ttl } = await on.client.grant(2);
    await on.client.put(on.key('a'), '1', { lease: id });
    const until = performance.now() + (ttl + 1.5) * 1000;
    // A beat now and then for longer than the TTL; each must find the lease alive.
    while (performance.now() < until) {
      t.is((await on.client.keepAlive(id)).ttl, ttl);
      t.is((await on.client.range(on.key('a'))).count, 1);
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    await on.client.revoke(id);
  },
};
