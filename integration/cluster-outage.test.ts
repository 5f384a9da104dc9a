// A database of an unmodified Kubernetes is killed: only the types it holds fail, the API server stays alive and ready,
// and when it is back nothing is missing, neither objects nor events.

import test, { type ExecutionContext } from 'ava';
import { privateDatabaseServer, type DatabaseServer, type TestDatabase } from './servers/index.ts';
import { assertPlaced, bothApis, newNamespace } from './cluster/cluster.ts';
import { establishResources } from './cluster/definitions.ts';
import { startLoad } from './cluster/load.ts';
import { hasPrograms, openMixed, type MixedCluster, type OpenedCluster } from './cluster/open.ts';
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
import type { Api } from './kubernetes/api.ts';
import { until } from './cluster/wait.ts';

const mergeType = 'application/merge-patch+json';
/** A request for a type whose database works may take no longer while another one is down. */
const unaffectedMsMax = 5_000;
/** What a client asks kube-apiserver to take at most; without it that is a minute. */
const timeout = '20s';
/** A request for a type whose database is down has ended by then. */
const refusedMsMax = 25_000;

const all: readonly Resource[] = [largeData, metric, order, configMap];

/** A database on a server of its own; the gateway creates it. */
function databaseOn(name: TestDatabase['engine'], server: DatabaseServer): TestDatabase {
  const url = new URL(server.url);
  url.pathname = '/cluster';
  return { engine: name, url: url.href, dispose: () => server.dispose() };
}

async function privateServers() {
  if (!(await hasPrograms())) return undefined;
  const postgres = await privateDatabaseServer('postgres');
  const mysql = await privateDatabaseServer('mysql');
  return postgres && mysql && { postgres, mysql };
}

const servers = await privateServers();

/** An object of the type is created, read, changed and deleted as ever. */
async function lives(t: ExecutionContext, api: Api, resource: Resource, namespace: string) {
  const name = 'beside';
  const path = objectPath(resource, namespace, name);
  const collection = collectionPath(resource, namespace);
  const calls = [
    () => api.call('POST', collection, { body: newObject(resource, name, 'a') }),
    () => api.call('GET', path),
    () => api.call('GET', collection),
    () => api.call('PATCH', path, { body: payloadPatch(resource, 'b'), contentType: mergeType }),
    () => api.call('DELETE', path),
  ];
  for (const call of calls) {
    const { status, elapsedMs, text } = await call();
    t.true(status < 300, `${resource.kind}: ${status} ${text.slice(0, 200)}`);
    t.true(elapsedMs < unaffectedMsMax, `${resource.kind}: ${elapsedMs} ms`);
  }
}

/** Every type but `down` works through both API servers. */
async function othersWork(t: ExecutionContext, cluster: OpenedCluster, namespace: string, down: Resource) {
  for (const resource of all.filter((other) => other !== down))
    for (const { api } of bothApis(cluster)) await lives(t, api, resource, namespace);
}

/** Writes to the type, and reads that go to the store, are refused in time and with a reason. */
async function downFails(t: ExecutionContext, cluster: OpenedCluster, namespace: string, down: Resource) {
  const path = collectionPath(down, namespace);
  const started = performance.now();
  const calls = [
    cluster.cached.call('POST', path, { body: newObject(down, 'refused', 'x'), query: { timeout } }),
    cluster.direct.call('GET', objectPath(down, namespace, 'before'), { query: { timeout } }),
    cluster.direct.call('GET', path, { query: { timeout } }),
  ];
  for (const outcome of await Promise.allSettled(calls)) {
    if (outcome.status === 'rejected') {
      // kube-apiserver cuts the connection where its time limit and the refusal come at the same moment.
      t.is((outcome.reason as NodeJS.ErrnoException).code, 'ECONNRESET');
      t.log(`${down.kind}: cut off`);
    } else {
      const { status, elapsedMs, body } = outcome.value;
      t.true(status >= 500, `${down.kind}: ${status}`);
      t.truthy(body.message);
      t.log(`${down.kind}: ${status} after ${elapsedMs} ms: ${body.message}`);
    }
  }
  const elapsedMs = performance.now() - started;
  t.true(elapsedMs < refusedMsMax, `${down.kind}: ${elapsedMs} ms`);
}

async function healthy(t: ExecutionContext, cluster: OpenedCluster) {
  for (const { label, api } of bothApis(cluster)) {
    for (const path of ['/livez', '/readyz'])
      t.is((await api.call('GET', path)).status, 200, `${label} ${path}`);
  }
  t.is((await fetch(`${cluster.gateway.metricsUrl}/livez`)).status, 200);
}

interface Outage {
  /** Names the namespace. */
  readonly label: string;
  readonly resource: Resource;
  begin(): Promise<void>;
  end(): Promise<void>;
  /** See `LoadOptions`. */
  readonly startsAnew?: boolean;
  /** More to look at while the database is away. */
  readonly during?: (namespace: string) => Promise<void>;
}

const gatewayReady = (cluster: OpenedCluster) => fetch(`${cluster.gateway.metricsUrl}/readyz`);

async function outage(t: ExecutionContext, cluster: OpenedCluster, { resource, ...what }: Outage) {
  const namespace = await newNamespace(cluster, `outage-${what.label}`);
  const path = collectionPath(resource, namespace);
  const before = await cluster.cached.ok('POST', path, { body: newObject(resource, 'before', 'kept') });
  await assertPlaced(t, cluster, resource, { namespace, name: 'before' });
  const loaded = await newNamespace(cluster, `outage-${what.label}-load`);
  const { startsAnew = false } = what;
  const load = await startLoad(t, cluster, { resource, namespace: loaded, startsAnew });
  await until(() => load.acknowledged.length >= 20, { what: 'a running load' });

  await what.begin();
  try {
    await othersWork(t, cluster, namespace, resource);
    await downFails(t, cluster, namespace, resource);
    await healthy(t, cluster);
    const refused = await until(
      async () => {
        const ready = await gatewayReady(cluster);
        return ready.status === 503 && (await ready.text()).trim();
      },
      { what: 'the gateway to say that a store is down' },
    );
    t.log(`readyz of the gateway: ${refused}`);
    await what.during?.(namespace);
  } finally {
    await what.end();
  }
  await until(async () => (await gatewayReady(cluster)).ok, { what: 'a ready gateway', deadlineMs: 60_000 });
  await until(
    async () => {
      const reply = await cluster.cached.call('POST', path, { body: newObject(resource, 'after', 'x') });
      return reply.status === 201 || reply.status === 409;
    },
    { what: `${resource.kind} to be written again`, deadlineMs: 60_000 },
  );
  await load.finish();
  for (const { api } of bothApis(cluster)) {
    const kept = await api.ok('GET', objectPath(resource, namespace, 'before'));
    t.is(payloadOf(resource, kept), 'kept');
    t.is(kept.metadata?.resourceVersion, before.metadata?.resourceVersion);
    t.is((await api.call('GET', objectPath(resource, namespace, 'refused'))).status, 404);
  }
}

if (servers === undefined) test.skip('an unmodified Kubernetes (see above what is missing)', (t) => t.pass());
else {
  const { postgres, mysql } = servers;
  let cluster: MixedCluster | undefined;
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
    await outage(t, running(), {
      label: 'postgres',
      resource: metric,
      begin: () => postgres.kill(),
      end: () => postgres.start(),
    });
  });

  test.serial('MariaDB killed: LargeData fails, everything else goes on, and nothing is lost', async (t) => {
    t.timeout(300_000);
    await outage(t, running(), {
      label: 'mysql',
      resource: largeData,
      begin: () => mysql.kill(),
      end: () => mysql.start(),
    });
  });

  test.serial('MariaDB frozen: LargeData fails, everything else goes on, and nothing is lost', async (t) => {
    t.timeout(300_000);
    await outage(t, running(), {
      label: 'frozen',
      resource: largeData,
      begin: () => mysql.kill('SIGSTOP'),
      end: () => mysql.kill('SIGCONT'),
    });
  });

  test.serial(
    'kube-apiserver started while Postgres is down: it serves everything but Metrics',
    async (t) => {
      t.timeout(300_000);
      const { plane } = running();
      await outage(t, running(), {
        label: 'start',
        resource: metric,
        begin: () => postgres.kill(),
        end: () => postgres.start(),
        startsAnew: true,
        during: async (namespace) => {
          await plane.apiserver.kill();
          await plane.apiserver.start();
          for (const resource of [largeData, order, configMap]) {
            // Types of custom resources are served a moment after the server is ready.
            await until(
              async () =>
                (await running().cached.call('GET', collectionPath(resource, namespace))).status === 200,
              { what: `${resource.kind} served after the start` },
            );
          }
          await healthy(t, running());
        },
      });
    },
  );

  test.serial(
    'switchyard killed: both API servers go on with the next one, and nothing is lost',
    async (t) => {
      t.timeout(300_000);
      const { gateway } = running();
      const loads = [];
      for (const resource of all) {
        const namespace = await newNamespace(running(), `gateway-${resource.plural}`);
        if (resource !== configMap) loads.push(await startLoad(t, running(), { resource, namespace }));
      }
      for (const load of loads) await until(() => load.acknowledged.length >= 20, { what: 'a running load' });
      await gateway.kill();
      await gateway.restart();
      for (const load of loads) {
        const before = load.acknowledged.length;
        await until(() => load.acknowledged.length >= before + 20, {
          what: 'a load that goes on',
          deadlineMs: 60_000,
        });
        await load.finish();
      }
      await until(
        async () => {
          const replies = await Promise.all(bothApis(running()).map(({ api }) => api.call('GET', '/readyz')));
          return replies.every(({ status }) => status === 200);
        },
        { what: 'ready API servers' },
      );
    },
  );

  // The last one: a kube-controller-manager that cannot renew its lease ends.
  test.serial('etcd killed: types kept in databases are read and written', async (t) => {
    t.timeout(300_000);
    const { cached, direct, etcd } = running();
    const namespace = await newNamespace(running(), 'outage-etcd');
    const kept = await cached.ok('POST', collectionPath(configMap, namespace), {
      body: newObject(configMap, 'kept', 'x'),
    });
    // Both API servers have heard of the namespace before it can no longer be read.
    for (const [index, { api }] of bothApis(running()).entries())
      await api.ok('POST', collectionPath(metric, namespace), {
        body: newObject(metric, `first-${index}`, 'x'),
      });
    await etcd.kill();
    try {
      for (const resource of [largeData, metric, order]) {
        for (const { api } of bothApis(running())) await lives(t, api, resource, namespace);
      }
    } finally {
      await etcd.start();
    }
    await until(
      async () => {
        const replies = await Promise.all(bothApis(running()).map(({ api }) => api.call('GET', '/readyz')));
        return replies.every(({ status }) => status === 200);
      },
      { what: 'ready API servers' },
    );
    t.deepEqual(await direct.ok('GET', objectPath(configMap, namespace, 'kept')), kept);
  });
}
