// A database of an unmodified Kubernetes is killed: only the types it holds fail, the API server stays alive and ready,
// and when it is back nothing is missing, neither objects nor events.

import test, { type ExecutionContext } from 'ava';
import { skipped } from './servers/database.ts';
import { privateDatabaseServer, type DatabaseServer, type TestDatabase } from './servers/index.ts';
import { assertPlaced, bothApis, newNamespace } from './cluster/cluster.ts';
import { establishResources } from './cluster/definitions.ts';
import { openMixed, type OpenedCluster } from './cluster/open.ts';
import {
  collectionPath,
  configMap,
  largeData,
  metric,
  newObject,
  objectPath,
  order,
  payloadOf,
  payloadPatch,
  type Resource,
} from './cluster/resources.ts';
import { until } from './cluster/wait.ts';
import { objectEvents, openInformer } from './cluster/watch.ts';

const mergeType = 'application/merge-patch+json';
/** A request for a type whose database works may take no longer while another one is down. */
const unaffectedMsMax = 5_000;
/** A request for a type whose database is down is refused well within kube-apiserver's own limit of a minute. */
const refusedMsMax = 45_000;

interface Engine {
  readonly name: 'postgres' | 'mysql';
  readonly server: DatabaseServer;
  readonly resource: Resource;
}

const all: readonly Resource[] = [largeData, metric, order, configMap];

/** A database on a server of its own; the gateway creates it. */
function databaseOn(name: Engine['name'], server: DatabaseServer): TestDatabase {
  const url = new URL(server.url);
  url.pathname = '/cluster';
  return { engine: name, url: url.href, dispose: () => server.dispose() };
}

const servers = await skipped(async () => {
  const postgres = await privateDatabaseServer('postgres');
  const mysql = await privateDatabaseServer('mysql');
  return postgres && mysql && { postgres, mysql };
});

/** Every type but `down` is created, read through both API servers, changed and deleted as ever. */
async function othersWork(t: ExecutionContext, cluster: OpenedCluster, namespace: string, down: Resource) {
  for (const resource of all.filter((other) => other !== down)) {
    const name = `beside-${down.plural}`;
    const path = objectPath(resource, namespace, name);
    const calls = [
      () =>
        cluster.cached.call('POST', collectionPath(resource, namespace), {
          body: newObject(resource, name, 'a'),
        }),
      () => cluster.direct.call('GET', path),
      () => cluster.cached.call('GET', collectionPath(resource, namespace)),
      () => cluster.direct.call('PATCH', path, { body: payloadPatch(resource, 'b'), contentType: mergeType }),
      () => cluster.cached.call('DELETE', path),
    ];
    for (const call of calls) {
      const { status, elapsedMs, text } = await call();
      t.true(status < 300, `${resource.kind}: ${status} ${text.slice(0, 200)}`);
      t.true(elapsedMs < unaffectedMsMax, `${resource.kind}: ${elapsedMs} ms`);
    }
  }
}

/** Writes to the type, and reads that go to the store, are refused in time and with a reason. */
async function downFails(t: ExecutionContext, cluster: OpenedCluster, namespace: string, down: Resource) {
  const path = collectionPath(down, namespace);
  const replies = await Promise.all([
    cluster.cached.call('POST', path, { body: newObject(down, 'refused', 'x') }),
    cluster.direct.call('GET', objectPath(down, namespace, 'before')),
    cluster.direct.call('GET', path),
  ]);
  for (const { status, elapsedMs, body } of replies) {
    t.true(status >= 500, `${down.kind}: ${status}`);
    t.true(elapsedMs < refusedMsMax, `${down.kind}: ${elapsedMs} ms`);
    t.truthy(body.message);
    t.log(`${down.kind}: ${status} after ${elapsedMs} ms: ${body.message}`);
  }
}

async function healthy(t: ExecutionContext, cluster: OpenedCluster) {
  for (const { label, api } of bothApis(cluster)) {
    for (const path of ['/livez', '/readyz'])
      t.is((await api.call('GET', path)).status, 200, `${label} ${path}`);
  }
  t.is((await fetch(`${cluster.gateway.metricsUrl}/livez`)).status, 200);
}

async function outage(t: ExecutionContext, cluster: OpenedCluster, { name, server, resource }: Engine) {
  const namespace = await newNamespace(cluster, `outage-${name}`);
  const path = collectionPath(resource, namespace);
  const before = await cluster.cached.ok('POST', path, { body: newObject(resource, 'before', 'kept') });
  await assertPlaced(t, cluster, resource, { namespace, name: 'before' });
  const from = { resourceVersion: before.metadata?.resourceVersion ?? '' };
  const informers = bothApis(cluster).map(({ api }) => openInformer(api, path, from));
  await cluster.cached.ok('POST', path, { body: newObject(resource, 'seen', 'x') });
  for (const informer of informers) {
    await informer.find('the object made before', ({ object }) => object.metadata?.name === 'seen');
  }

  await server.kill();
  await othersWork(t, cluster, namespace, resource);
  await downFails(t, cluster, namespace, resource);
  await healthy(t, cluster);
  const ready = await fetch(`${cluster.gateway.metricsUrl}/readyz`);
  t.log(`readyz of the gateway: ${ready.status} ${(await ready.text()).trim()}`);
  t.is(ready.status, 503, 'the gateway says that a store is down');

  await server.start();
  const after = await until(
    async () => {
      const reply = await cluster.cached.call('POST', path, { body: newObject(resource, 'after', 'x') });
      return (reply.status === 201 || reply.status === 409) && reply;
    },
    { what: `${resource.kind} to be written again`, deadlineMs: 60_000 },
  );
  t.is(after.status, 201);
  for (const [index, informer] of informers.entries()) {
    await informer.find('the object made after', ({ object }) => object.metadata?.name === 'after', 60_000);
    t.deepEqual(objectEvents(informer), ['ADDED seen', 'ADDED after'], bothApis(cluster)[index]?.label);
    informer.close();
  }
  for (const { api } of bothApis(cluster)) {
    const kept = await api.ok('GET', objectPath(resource, namespace, 'before'));
    t.is(payloadOf(resource, kept), 'kept');
    t.is(kept.metadata?.resourceVersion, before.metadata?.resourceVersion);
    t.is((await api.call('GET', objectPath(resource, namespace, 'refused'))).status, 404);
  }
  await until(async () => (await fetch(`${cluster.gateway.metricsUrl}/readyz`)).ok, {
    what: 'a ready gateway',
  });
}

if (servers === undefined) test('skipped: see above what is missing', (t) => t.pass());
else {
  const { postgres, mysql } = servers;
  let cluster: OpenedCluster | undefined;
  const running = () => {
    if (cluster === undefined) throw new Error('Expected a running cluster, got none');
    return cluster;
  };

  test.before('the cluster starts', async (t) => {
    t.timeout(600_000);
    cluster = await openMixed({
      mysql: databaseOn('mysql', mysql),
      postgres: databaseOn('postgres', postgres),
    });
    await establishResources(cluster.cached, cluster.direct);
    t.pass();
  });

  test.after.always('the cluster stops', async () => {
    if (cluster !== undefined) await cluster[Symbol.asyncDispose]();
    else await Promise.all([postgres.dispose(), mysql.dispose()]);
  });

  test.serial('Postgres killed: Metrics fail, everything else goes on, and nothing is lost', async (t) => {
    t.timeout(300_000);
    await outage(t, running(), { name: 'postgres', server: postgres, resource: metric });
  });

  test.serial('MariaDB killed: LargeData fails, everything else goes on, and nothing is lost', async (t) => {
    t.timeout(300_000);
    await outage(t, running(), { name: 'mysql', server: mysql, resource: largeData });
  });
}
