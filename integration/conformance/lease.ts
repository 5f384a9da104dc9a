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
