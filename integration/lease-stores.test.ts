// One lease over several stores: granted by an etcd, with keys there, in Postgres and in SQLite. What happens to it happens
// everywhere, once, and no store ends it before its time; a store that was away follows when it is back.

import test, { type ExecutionContext } from 'ava';
import { join } from 'node:path';
import type { LeaseId } from '../src/etcd/types.ts';
import { systemClock } from '../src/lib/clock.ts';
import { EtcdClient } from './conformance/client.ts';
import { failure } from './conformance/scene.ts';
import { privateDatabaseServer, startSwitchyard, tempFolder, testEtcd, waitFor } from './servers/index.ts';

const types = ['alphas', 'betas', 'gammas'] as const;
const names = types.flatMap((type) => [`/registry/${type}/x/a`, `/registry/${type}/x/b`]);

/** A gateway with `alphas` in a Postgres of its own, `betas` in a file and the rest in an etcd; undefined: skipped. */
async function opened(t: ExecutionContext) {
  t.timeout(120_000);
  const server = await privateDatabaseServer('postgres');
  if (server === undefined) return undefined;
  t.teardown(() => server.dispose());
  const etcd = await testEtcd();
  t.teardown(() => etcd.dispose());
  const folder = tempFolder('lease-stores');
  const gateway = await startSwitchyard({
    dataDir: folder,
    defaultEndpoint: etcd.endpoint,
    topology: `backends:
  - { name: postgres, endpoint: '${server.url}', prefix: { prefix: alphas } }
  - { name: file, endpoint: 'sqlite://${join(folder, 'betas.db')}', prefix: { prefix: betas } }
`,
  });
  t.teardown(() => gateway.dispose());
  const client = new EtcdClient(gateway.endpoint);
  t.teardown(() => client.close());
  return { server, gateway, client, direct: clientOf(t, etcd.endpoint) };
}

function clientOf(t: ExecutionContext, endpoint: string): EtcdClient {
  const client = new EtcdClient(endpoint);
  t.teardown(() => client.close());
  return client;
}

/** Watches each type; answers with what was deleted where, once every key is gone. */
async function watched(t: ExecutionContext, client: EtcdClient) {
  const streams = await Promise.all(
    types.map(async (type) => {
      const stream = client.watchStream();
      t.teardown(() => stream.close());
      await stream.create(`/registry/${type}/`, { rangeEnd: `/registry/${type}0` });
      return stream;
    }),
  );
  return {
    /** Deletions as `name revision`, relative to the first one of the store, and when the first one came. */
    async deletions() {
      const all = await Promise.all(
        streams.map(async (stream) => {
          await stream.events(2);
          const events = [...(await stream.events(1, 30_000))];
          const at = performance.now();
          while (events.length < 2) events.push(...(await stream.events(1, 30_000)));
          const first = events[0]!.kv.modRevision;
          const told = events.map(
            ({ type, kv }) => `${type} ${kv.key.toString()} +${kv.modRevision - first}`,
          );
          return { told, at };
        }),
      );
      // Nothing comes after that: a second expiry would be a revision without a key.
      return { told: all.flatMap(({ told }) => told), firstAt: Math.min(...all.map(({ at }) => at)) };
    },
  };
}

const once = names.map((name) => `delete ${name} +0`);

const putAll = (client: EtcdClient, lease: bigint) =>
  Promise.all(names.map((name) => client.put(name, 'v', { lease })));

test('revoking, renewing and asking reach every store that has keys of the lease', async (t) => {
  const on = await opened(t);
  if (on === undefined) return void t.pass();
  const { client, direct } = on;
  const { id } = await client.grant(600, 4711n);
  const watching = await watched(t, client);
  await putAll(client, id);
  t.deepEqual((await direct.range('/registry/', { rangeEnd: '/registry0', keysOnly: true })).count, 2);
  const asked = await client.timeToLive(id);
  t.is(asked.grantedTtl, 600);
  t.deepEqual(asked.keys.map(String), names);
  t.deepEqual((await client.leases()).leases, [id]);
  t.deepEqual(
    (await client.keepAlives([id, id + 1n, id])).map((beat) => beat.ttl),
    [600, 0, 600],
  );
  await client.revoke(id);
  t.deepEqual((await watching.deletions()).told, once);
  t.is((await client.timeToLive(id)).ttl, -1);
  t.deepEqual((await client.leases()).leases, []);
  t.is(await failure(client.revoke(id)), '5 etcdserver: requested lease not found');
  for (const name of names) {
    t.is(await failure(client.put(name, '', { lease: id })), '5 etcdserver: requested lease not found');
  }
});

test('expiry takes the keys of every store, once, and not before the time', async (t) => {
  const on = await opened(t);
  if (on === undefined) return void t.pass();
  const { client } = on;
  const watching = await watched(t, client);
  const granted = performance.now();
  const { id, ttl } = await client.grant(6);
  await putAll(client, id);
  const { told, firstAt } = await watching.deletions();
  t.deepEqual(told, once);
  t.true(firstAt - granted >= ttl * 1000, `${firstAt - granted} ms`);
  const gone = async () => (await client.leases()).leases.length === 0;
  await waitFor(gone, { what: 'the lease to be gone everywhere', deadlineMs: 10_000 });
});

/** Renews the lease several times a second until it is stopped; then with the TTLs that were answered. */
function renewing(client: EtcdClient, id: LeaseId) {
  const stop = new AbortController();
  const answers = new Set<number>();
  const run = async () => {
    for (; !stop.signal.aborted; await systemClock.sleep(200, stop.signal)) {
      answers.add((await client.keepAlive(id)).ttl);
    }
    return [...answers];
  };
  const running = run();
  return () => {
    stop.abort();
    return running;
  };
}

test('a store that was away keeps what was renewed meanwhile, and loses what was revoked', async (t) => {
  const on = await opened(t);
  if (on === undefined) return void t.pass();
  const { client, server, gateway } = on;
  const [kept, revoked] = [await client.grant(8), await client.grant(5)];
  const outageMs = 9_000;
  for (const type of ['alphas', 'betas']) {
    await client.put(`/registry/${type}/x/kept`, 'v', { lease: kept.id });
    await client.put(`/registry/${type}/x/revoked`, 'v', { lease: revoked.id });
  }
  const isThere = async (name: string) => (await client.range(`/registry/${name}`)).count === 1;
  const stopped = renewing(client, kept.id);
  await server.kill();
  const until = performance.now() + outageMs;
  await client.revoke(revoked.id);
  t.false(await isThere('betas/x/revoked'));
  await waitFor(() => performance.now() > until, { what: 'the outage to last', deadlineMs: 2 * outageMs });
  await server.start();
  const followed = async () => !(await isThere('alphas/x/revoked'));
  await waitFor(followed, { what: 'the revoked key to go', deadlineMs: 30_000 });
  t.true(await isThere('alphas/x/kept'));
  t.true(await isThere('betas/x/kept'));
  const lines = (text: string) => gateway.logs().split(text).length - 1;
  const renewed = () => lines('store answers lease calls again') === 1;
  await waitFor(renewed, { what: 'the store to be renewed in again', deadlineMs: 10_000 });
  t.is(lines('store left out of lease calls'), 1);
  t.deepEqual(await stopped(), [8]);
  const ended = async () => !(await isThere('alphas/x/kept')) && !(await isThere('betas/x/kept'));
  await waitFor(ended, { what: 'the lease that nobody renews to end', deadlineMs: 30_000 });
});
