// A gateway that is asked to stop under load: what was asked for is answered, nothing acknowledged is lost, clients go to another
// gateway without losing a call, and the process ends by itself.

import test from 'ava';
import type { Revision } from '../src/etcd/types.ts';
import { EtcdClient, RpcError } from './conformance/client.ts';
import { startSwitchyard, testDatabase, waitFor, type SqlEngine } from './servers/index.ts';

const engines: readonly SqlEngine[] = ['sqlite', 'postgres', 'mysql'];
const writersCount = 16;
/** Acknowledged before the signal, and once more at the other gateway. */
const calmWrites = 200;
const unavailable = 14;

for (const engine of engines) {
  test(`${engine}: a gateway drained under load loses no call of a client that knows another`, async (t) => {
    t.timeout(120_000);
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    t.teardown(() => database.dispose());
    const open = () => startSwitchyard({ defaultEndpoint: database.url });
    const [leaving, staying] = await Promise.all([open(), open()]);
    t.teardown(async () => void (await Promise.all([leaving.dispose(), staying.dispose()])));
    const both = new EtcdClient(leaving.endpoint, { others: [staying.endpoint] });
    const alone = new EtcdClient(leaving.endpoint);
    const other = new EtcdClient(staying.endpoint);
    t.teardown(() => [both, alone, other].forEach((client) => client.close()));
    await other.range('nothing');

    const acknowledged = new Map<string, Revision>();
    const failures: string[] = [];
    const ends = new Set<number>();
    let stopped = false;
    const write = async (client: EtcdClient, name: string) => {
      for (let n = 0; !stopped; n++) {
        const key = `w/${name}/${n}`;
        try {
          acknowledged.set(key, (await client.put(key, 'x')).header.revision);
        } catch (error) {
          if (!(error instanceof RpcError)) throw error;
          if (client === both) failures.push(`${key}: ${error.message}`);
          // It has nowhere else to go.
          else return void ends.add(error.code);
        }
      }
    };
    const writers = Array.from({ length: writersCount }, (_, index) => write(both, `both-${index}`));
    const lonely = Array.from({ length: writersCount }, (_, index) => write(alone, `alone-${index}`));
    const { id } = await both.grant(60);
    const stream = alone.watchStream();
    t.teardown(() => stream.close());
    await stream.create('w/', { rangeEnd: 'w0' });
    await waitFor(() => acknowledged.size >= calmWrites, { what: `${calmWrites} writes` });

    const since = performance.now();
    await leaving.kill('SIGTERM');
    t.log(`gone after ${(performance.now() - since).toFixed(0)} ms`);
    t.is(leaving.exitCode, 0, leaving.logs());
    const end = await stream.ended();
    t.is(`${end.code} ${end.details}`, '14 etcdserver: server stopped');
    await Promise.all(lonely);
    t.deepEqual([...ends], [unavailable]);
    const goal = acknowledged.size + calmWrites;
    await waitFor(() => acknowledged.size >= goal, { what: `${calmWrites} more writes` });
    stopped = true;
    await Promise.all(writers);
    t.deepEqual(failures, []);
    t.is((await both.keepAlive(id)).ttl, 60);

    const { kvs } = await other.range('w/', { rangeEnd: 'w0' });
    const stored = new Map(kvs.map((kv) => [kv.key.toString(), kv.modRevision]));
    for (const [key, revision] of acknowledged) t.is(stored.get(key), revision, key);
  });
}

test('a gateway that is to stop says so, and goes on serving for as long as it was told', async (t) => {
  const gateway = await startSwitchyard({ args: ['--shutdown-delay-duration', '2s'] });
  t.teardown(() => gateway.dispose());
  const client = new EtcdClient(gateway.endpoint);
  t.teardown(() => client.close());
  await client.put('a', '1');
  t.is((await fetch(`${gateway.endpoint}/health`)).status, 200);
  const since = performance.now();
  const ended = gateway.kill('SIGTERM');
  await waitFor(async () => (await fetch(`${gateway.metricsUrl}/readyz`)).status === 503, {
    what: 'the news',
  });
  // Whoever has not heard it yet is served, over connections that are new, too.
  const late = new EtcdClient(gateway.endpoint);
  t.teardown(() => late.close());
  await late.put('b', '2');
  await client.put('a', '3');
  t.is((await fetch(`${gateway.endpoint}/health`)).status, 503);
  await ended;
  t.true(performance.now() - since >= 2_000);
  t.is(gateway.exitCode, 0, gateway.logs());
});
