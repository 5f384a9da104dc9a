// Leases while a database is killed and started again: none ends because its owner could not reach anybody, and all others
// end after it.

import test, { type ExecutionContext } from 'ava';
import type { LeaseId } from '../src/etcd/types.ts';
import { systemClock } from '../src/lib/clock.ts';
import { EtcdClient } from './conformance/client.ts';
import { privateDatabaseServer, startSwitchyard, waitFor, type Switchyard } from './servers/index.ts';

for (const engine of ['postgres', 'mysql'] as const) {
  test(`${engine}: a database that was away ends no lease whose owner is back`, async (t) => {
    t.timeout(120_000);
    const server = await privateDatabaseServer(engine);
    if (server === undefined) return void t.pass();
    t.teardown(() => server.dispose());
    const gateway = await startSwitchyard({ defaultEndpoint: server.url });
    t.teardown(() => gateway.dispose());
    const client = new EtcdClient(gateway.endpoint);
    t.teardown(() => client.close());
    const ttl = 5;
    const [owned, left] = [await client.grant(ttl), await client.grant(ttl)];
    await client.put('owned', '', { lease: owned.id });
    await client.put('left', '', { lease: left.id });
    await server.kill();
    const until = performance.now() + ttl * 1000 + 500;
    await waitFor(() => performance.now() > until, { what: 'the outage to last', deadlineMs: 60_000 });
    const back = performance.now();
    await server.start();
    const stop = renewing(client, owned.id);
    const stream = await watched(t, gateway, client);
    const [event] = await stream.events(1, 60_000);
    t.is(`${event!.type} ${event!.kv.key.toString()}`, 'delete left');
    // Whoever could not renew while it was away has had all of its time again.
    t.true(performance.now() - back >= ttl * 1000);
    t.is((await client.range('owned')).count, 1);
    t.deepEqual(await stop(), [ttl]);
    const [last] = await stream.events(1, 60_000);
    t.is(`${last!.type} ${last!.kv.key.toString()}`, 'delete owned');
    const none = async () => (await client.leases()).leases.length === 0;
    await waitFor(none, { what: 'the last lease to be gone', deadlineMs: 10_000 });
  });
}

/** A watch of all keys, once the store answers again. */
async function watched(t: ExecutionContext, gateway: Switchyard, client: EtcdClient) {
  const ready = async () =>
    (await fetch(`${gateway.metricsUrl}/readyz`)).ok && (await client.range('owned')).count >= 0;
  await waitFor(ready, { what: 'the database to answer', deadlineMs: 30_000 });
  const { kvs, header } = await client.range('left');
  t.is(kvs.length, 1);
  const stream = client.watchStream();
  t.teardown(() => stream.close());
  await stream.create('a', { rangeEnd: 'z', startRevision: header.revision + 1n });
  return stream;
}

/** Renews the lease several times a second until it is stopped; then with the TTLs that were answered. */
function renewing(client: EtcdClient, id: LeaseId) {
  const stop = new AbortController();
  const answers = new Set<number>();
  const run = async () => {
    for (; !stop.signal.aborted; await systemClock.sleep(200, stop.signal)) {
      const beat = await client.keepAlive(id).catch(() => undefined);
      if (beat !== undefined) answers.add(beat.ttl);
    }
    return [...answers];
  };
  const running = run();
  return () => {
    stop.abort();
    return running;
  };
}
