// An unmodified Kubernetes on two gateways, of which one or the other is killed or stopped all the time: kube-apiserver's own
// etcd client goes on with the other one, nothing acknowledged is lost, and informers are complete.
//
// At length: SWITCHYARD_TEST_CHURN_SECONDS=300 npx ava integration/cluster-gateways.test.ts

import test, { type ExecutionContext } from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { registerCache } from './cluster/cache.ts';
import { Churn } from './cluster/churn.ts';
import { assertPlaced, newNamespace } from './cluster/cluster.ts';
import { establishResources } from './cluster/definitions.ts';
import { hasPrograms, openMixed, sharedDatabases, type MixedCluster } from './cluster/open.ts';
import { collectionPath, newObject, quietResources } from './cluster/resources.ts';
import { until } from './cluster/wait.ts';
import type { Switchyard } from './servers/index.ts';

const databases = (await hasPrograms()) ? await sharedDatabases() : undefined;
const churnSeconds = Number(process.env['SWITCHYARD_TEST_CHURN_SECONDS'] ?? '0');
/** From one end of a gateway to the next one's. */
const periodMs = churnSeconds > 0 ? 20_000 : 7_000;
const endsCount = churnSeconds > 0 ? Math.ceil((churnSeconds * 1000) / periodMs) : 4;

/** Writes that must go through before a gateway ends, and between two ends. */
const writesMin = 50;

/** How many connections kube-apiservers have to a gateway: one for each of their etcd clients. */
async function connectionsOf({ metricsUrl }: Switchyard): Promise<number> {
  const metrics = await (await fetch(`${metricsUrl}/metrics`)).text();
  return Number(/^switchyard_connections (\d+)$/mu.exec(metrics)?.[1]);
}

async function allReady(cluster: MixedCluster): Promise<boolean> {
  const replies = await Promise.all(cluster.planes.map(({ api }) => api.call('GET', '/readyz')));
  return replies.every(({ status }) => status === 200);
}

/** Ends one gateway after the other, and starts it again, while clients go on. */
async function endInTurn(
  t: ExecutionContext,
  cluster: MixedCluster,
  { churn, end, times }: { churn: Churn; end: (gateway: Switchyard) => Promise<void>; times: number },
): Promise<string> {
  churn.takeLongestGaps();
  for (let turn = 0; turn < times; turn++) {
    const gateway = cluster.gateways[turn % cluster.gateways.length]!;
    const before = churn.writes;
    const other = cluster.gateways[(turn + 1) % cluster.gateways.length]!;
    const next = performance.now() + periodMs;
    await end(gateway);
    await until(() => churn.writes >= before + writesMin, { what: 'writes while a gateway is away' });
    await gateway.restart();
    t.true(cluster.planes.every(({ apiserver }) => apiserver.running));
    // grpc-go tries again after one second, and then after longer and longer. Meanwhile some of the clients may have gone for good:
    // kube-apiserver makes those of a type anew when its definition changes.
    await until(async () => (await connectionsOf(gateway)) >= (await connectionsOf(other)), {
      what: 'as many connections to the gateway that is back as to the other one',
      deadlineMs: 60_000,
    });
    await until(() => churn.writes >= before + 2 * writesMin, { what: 'writes with both gateways' });
    await sleep(Math.max(0, next - performance.now()));
  }
  const gaps = Object.entries(churn.takeLongestGaps()).map(([kind, ms]) => `${kind} ${ms} ms`);
  return `${times} ends, ${churn.writes} writes acknowledged, longest time without one: ${gaps.join(', ')}`;
}

if (databases === undefined)
  test.skip('an unmodified Kubernetes (see above what is missing)', (t) => t.pass());
else {
  let opened: MixedCluster | undefined;
  const cluster = () => {
    if (opened === undefined) throw new Error('Expected a running cluster, got none');
    return opened;
  };

  test.before('the cluster starts on two gateways', async (t) => {
    t.timeout(600_000);
    opened = await openMixed(databases, { gateways: 2, second: 'cached' });
    await establishResources(opened.cached, opened.direct);
    t.pass();
  });

  test.after.always('the cluster stops', () => opened?.[Symbol.asyncDispose]());

  test.serial('both gateways serve both kube-apiservers, and each type is in one place', async (t) => {
    const namespace = await newNamespace(cluster(), 'placed');
    for (const resource of quietResources) {
      const path = collectionPath(resource, namespace);
      await cluster().cached.ok('POST', path, { body: newObject(resource, 'here', 'x') });
      await assertPlaced(t, cluster(), resource, { namespace, name: 'here' });
    }
    for (const gateway of cluster().gateways)
      t.true((await connectionsOf(gateway)) >= cluster().planes.length, gateway.metricsUrl);
  });

  // Written through one gateway, and read from a cache that watches and asks for progress through another.
  registerCache(test, cluster);

  test.serial('gateways killed in turn: nothing is lost, and everybody goes on', async (t) => {
    t.timeout(180_000 + endsCount * periodMs * 2);
    const churn = new Churn(cluster());
    t.teardown(() => churn.close());
    await churn.start(quietResources, 'killed');
    await until(() => churn.writes >= writesMin, { what: 'a running load' });
    const end = (gateway: Switchyard) => gateway.kill();
    const summary = await endInTurn(t, cluster(), { churn, end, times: endsCount });
    await churn.stop();
    await until(() => allReady(cluster()), { what: 'ready API servers' });
    await churn.compare(t);
    t.log(summary);
    t.log(String(churn.tally));
  });

  test.serial('gateways stopped in turn: they leave without a failed request', async (t) => {
    t.timeout(180_000 + endsCount * periodMs * 2);
    const churn = new Churn(cluster());
    t.teardown(() => churn.close());
    await churn.start(quietResources, 'stopped');
    await until(() => churn.writes >= writesMin, { what: 'a running load' });
    const end = (gateway: Switchyard) => gateway.kill('SIGTERM');
    const summary = await endInTurn(t, cluster(), { churn, end, times: endsCount });
    await churn.stop();
    await until(() => allReady(cluster()), { what: 'ready API servers' });
    await churn.compare(t);
    t.log(summary);
    t.log(String(churn.tally));
    t.deepEqual([...churn.tally.failures], []);
  });

  test.serial('compactors of both kube-apiservers: each store is compacted once at each point', async (t) => {
    t.timeout(180_000);
    const lines = () =>
      cluster().gateways.flatMap((gateway) => gateway.logs().match(/"store compacted".*/gu) ?? []);
    const stores = () => new Set(lines().map((line) => /"store":"([^"]*)"/u.exec(line)?.[1]));
    await until(() => stores().size === 3, { what: 'three stores compacted', deadlineMs: 150_000 });
    t.is(new Set(lines()).size, lines().length, lines().join('\n'));
    t.log(`${lines().length} compactions: ${[...stores()].join(', ')}`);
  });
}
