// Leases while a gateway is stopped (SIGSTOP) for longer than they live, and goes on: what another gateway has ended stays ended,
// and what it has renewed lives.

import test from 'ava';
import type { LeaseId } from '../src/etcd/types.ts';
import { systemClock } from '../src/lib/clock.ts';
import { EtcdClient } from './conformance/client.ts';
import { startSwitchyard, testDatabase, waitFor, type SqlEngine } from './servers/index.ts';

const engines: readonly SqlEngine[] = ['sqlite', 'postgres', 'mysql'];
const ttl = 3;

for (const engine of engines) {
  test(`${engine}: a gateway that was paused brings no lease back, and ends none that lives`, async (t) => {
    t.timeout(120_000);
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    t.teardown(() => database.dispose());
    const open = () => startSwitchyard({ defaultEndpoint: database.url });
    const [paused, steady] = await Promise.all([open(), open()]);
    t.teardown(async () => void (await Promise.all([paused.dispose(), steady.dispose()])));
    const [through, beside] = [new EtcdClient(paused.endpoint), new EtcdClient(steady.endpoint)];
    t.teardown(() => [through, beside].forEach((client) => client.close()));
    const [cutOff, renewed] = [await through.grant(ttl), await through.grant(ttl)];
    await through.put('cut-off', '', { lease: cutOff.id });
    await through.put('renewed', '', { lease: renewed.id });
    const watch = async (client: EtcdClient) => {
      const stream = client.watchStream();
      t.teardown(() => stream.close());
      await stream.create('a', { rangeEnd: 'z' });
      return stream;
    };
    const streams = [await watch(beside), await watch(through)] as const;
    const keepingCutOff = renewing(through, cutOff.id);
    const keepingRenewed = renewing(beside, renewed.id);
    t.teardown(() => Promise.all([keepingCutOff(), keepingRenewed()]));
    // Both gateways have been there for a TTL: they may let leases end.
    const since = performance.now();
    await waitFor(() => performance.now() > since + ttl * 1000, { what: 'a TTL to pass' });
    t.is((await beside.range('a', { rangeEnd: 'z' })).count, 2);

    t.deepEqual(await keepingCutOff(), [ttl]);
    await paused.kill('SIGSTOP');
    const stoppedAt = performance.now();
    // Sent while it stands, and read when it goes on.
    const beat = through.keepAlive(cutOff.id);
    const read = through.range('cut-off');
    const [event] = await streams[0].events(1);
    t.is(`${event!.type} ${event!.kv.key.toString()}`, 'delete cut-off');
    t.true(performance.now() - stoppedAt >= (ttl - 1) * 1000);
    const late = through.range('cut-off');
    // From what the gateway knows by heart.
    const lateCount = through.range('a', { rangeEnd: 'z', countOnly: true });
    await waitFor(() => performance.now() > stoppedAt + 2 * ttl * 1000, { what: 'two TTLs to pass' });
    await paused.kill('SIGCONT');

    t.is((await beat).ttl, 0);
    t.is((await late).count, 0);
    t.is((await lateCount).count, 1);
    // Asked for before its end: then the revision says when it was.
    const { count, header } = await read;
    t.is(count, header.revision >= event!.kv.modRevision ? 0 : 1);
    const [same] = await streams[1].events(1);
    t.is(same!.kv.modRevision, event!.kv.modRevision);
    t.is((await through.keepAlive(cutOff.id)).ttl, 0);
    t.is((await through.range('renewed')).count, 1);
    t.deepEqual(await keepingRenewed(), [ttl]);
    const [last] = await streams[1].events(1);
    t.is(`${last!.type} ${last!.kv.key.toString()}`, 'delete renewed');
  });
}

/** Renews the lease several times a second until it is stopped; then with the TTLs that were answered. */
function renewing(client: EtcdClient, id: LeaseId) {
  const stop = new AbortController();
  const answers = new Set<number>();
  const run = async () => {
    for (; !stop.signal.aborted; await systemClock.sleep(200, stop.signal))
      answers.add((await client.keepAlive(id)).ttl);
    return [...answers];
  };
  const running = run();
  return () => {
    stop.abort();
    return running;
  };
}
