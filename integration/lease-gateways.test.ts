// Leases while gateways on one database are killed and started again: each lease ends once, in one revision with its
// keys in order, and when it ends is no matter of who has just started.

import test, { type ExecutionContext } from 'ava';
import type { Revision } from '../src/etcd/types.ts';
import { EtcdClient } from './conformance/client.ts';
import { startSwitchyard, testDatabase, waitFor, type SqlEngine } from './servers/index.ts';
import { dialects, pool } from './stores.ts';

const engines: readonly SqlEngine[] = ['sqlite', 'postgres', 'mysql'];

async function gatewayOn(t: ExecutionContext, url: string) {
  const gateway = await startSwitchyard({ defaultEndpoint: url });
  t.teardown(() => gateway.dispose());
  const client = new EtcdClient(gateway.endpoint);
  t.teardown(() => client.close());
  return { gateway, client };
}

type Gateway = Awaited<ReturnType<typeof gatewayOn>>;

for (const engine of engines) {
  test.serial(`${engine}: a gateway killed while leases end: each ends once, in one revision`, async (t) => {
    t.timeout(120_000);
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    t.teardown(() => database.dispose());
    const dialect = dialects[engine];
    const driver = dialect.open({ url: database.url, pool });
    t.teardown(() => driver.close());
    const run = (text: string) => driver.query({ name: 'test', text }, []);
    const { nowMs } = dialect.sql;
    const gateways = await Promise.all(Array.from({ length: 3 }, () => gatewayOn(t, database.url)));
    const [first, second, third] = gateways as [Gateway, Gateway, Gateway];
    const names = ['c', 'a', 'b'];
    // The shortest TTL there is, and a later end until all keys are there.
    const leases = Array.from({ length: 300 }, (_, index) => BigInt(index + 1));
    const rows = leases.map((id) => `(${id}, 2, ${nowMs} + 600000)`).join(', ');
    await run(`INSERT INTO switchyard_lease (id, ttl_seconds, expires_at) VALUES ${rows}`);
    const put = (lease: bigint, name: string) => first.client.put(`${lease}/${name}`, '', { lease });
    await Promise.all(leases.flatMap((lease) => names.map((name) => put(lease, name))));
    const before = (await first.client.range('none')).header.revision;
    const stream = second.client.watchStream();
    t.teardown(() => stream.close());
    await stream.create('0', { rangeEnd: '~', startRevision: before + 1n });
    await run(`UPDATE switchyard_lease SET expires_at = ${nowMs} - 1`);
    const total = leases.length * names.length;
    const events = await stream.events(1, 30_000);
    await third.gateway.kill();
    while (events.length < total) events.push(...(await stream.events(1, 30_000)));
    t.is(events.length, total);
    const ends = new Map<Revision, string[]>();
    for (const { type, kv } of events) {
      t.is(type, 'delete');
      ends.set(kv.modRevision, [...(ends.get(kv.modRevision) ?? []), kv.key.toString()]);
    }
    // One revision for each lease, without a gap, and in it all keys of that lease in their order.
    const revisions = [...ends.keys()];
    t.deepEqual(
      revisions,
      leases.map((_, index) => before + 1n + BigInt(index)),
    );
    const ended = [...ends.values()].map((keys) => keys[0]!.split('/')[0]!);
    t.is(new Set(ended).size, leases.length);
    for (const [index, keys] of [...ends.values()].entries()) {
      t.deepEqual(
        keys,
        ['a', 'b', 'c'].map((name) => `${ended[index]}/${name}`),
      );
    }
    const none = async () => (await first.client.leases()).leases.length === 0;
    await waitFor(none, { what: 'the last lease to be gone', deadlineMs: 10_000 });
    t.is((await first.client.range('none')).header.revision, before + BigInt(leases.length));
  });
}

test.serial(
  'a gateway that starts again and again neither ends leases nor keeps another from it',
  async (t) => {
    t.timeout(120_000);
    const database = await testDatabase('postgres');
    if (database === undefined) return void t.pass();
    t.teardown(() => database.dispose());
    const steady = await gatewayOn(t, database.url);
    const restless = await gatewayOn(t, database.url);
    const long = await steady.client.grant(600);
    await steady.client.put('kept', '', { lease: long.id });
    const remaining = async (client: EtcdClient) => (await client.timeToLive(long.id)).ttl;
    const before = await remaining(steady.client);
    const { id } = await steady.client.grant(6);
    await steady.client.put('short', '', { lease: id });
    let restarts = 0;
    while ((await steady.client.range('short')).count > 0) {
      await restless.gateway.kill();
      await restless.gateway.restart();
      restarts++;
      t.true(restarts < 60, 'the lease should have ended by now');
    }
    t.true(restarts > 0);
    // A restart gives a lease no new time.
    const again = new EtcdClient(restless.gateway.endpoint);
    t.teardown(() => again.close());
    t.true((await remaining(again)) < before);
    t.deepEqual((await again.timeToLive(long.id)).keys, [Buffer.from('kept')]);
  },
);
