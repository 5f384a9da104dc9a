// A database of an unmodified Kubernetes is killed: only the types it holds fail, the API server stays alive and ready,
// and when it is back nothing is missing, neither objects nor events.

import test, { type ExecutionContext } from 'ava';
import { privateDatabaseServer, type DatabaseServer, type TestDatabase } from './servers/index.ts';
import { assertPlaced, bothApis, newNamespace } from './cluster/cluster.ts';
import { establishResources } from './cluster/definitions.ts';
import { startLoad } from './cluster/load.ts';
import { hasPrograms, openMixed, type OpenedCluster } from './cluster/open.ts';
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
    cluster.cached.call('POST', path, { body: newObject(down, 'refused', 'x'), query: { timeout } }),
    cluster.direct.call('GET', objectPath(down, namespace, 'before'), { query: { timeout } }),
    cluster.direct.call('GET', path, { query: { timeout } }),
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

interface Outage {
  /** Names the namespace. */
  readonly label: string;
  readonly resource: Resource;
  begin(): Promise<void>;
  end(): Promise<void>;
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
  const load = await startLoad(cluster, resource, loaded);
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
  await load.finish(t);
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
        if (resource !== configMap) loads.push(await startLoad(running(), resource, namespace));
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
        await load.finish(t);
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
}
