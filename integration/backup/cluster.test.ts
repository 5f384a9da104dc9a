// A cluster is backed up, everything is lost, and an unmodified kube-apiserver on new, empty stores shows the same objects: with the types
// in other databases than before, and with no resource version below one that was told.

import test, { type ExecutionContext } from 'ava';
import { join } from 'node:path';
import { exampleTopology, hasPrograms } from '../cluster/open.ts';
import { establishResources } from '../cluster/definitions.ts';
import {
  collectionPath,
  configMap,
  customResources,
  newObject,
  objectPath,
  payloadPatch,
  resources,
  type Resource,
} from '../cluster/resources.ts';
import type { Api, Body } from '../kubernetes/api.ts';
import { startControlPlane, type ControlPlane } from '../kubernetes/control-plane.ts';
import { startSwitchyard, testDatabase, testEtcd } from '../servers/index.ts';
import { done, folderOf, topologyFile } from './scene.ts';

const names = Array.from({ length: 12 }, (_, index) => `object-${String(index).padStart(2, '0')}`);

/** Fresh stores for the backends of the example, by engine; undefined after a skip was announced. */
async function freshTopology(
  t: ExecutionContext,
  engines: Readonly<Record<'largedata' | 'metrics' | 'webshop', 'mysql' | 'postgres' | 'sqlite'>>,
): Promise<{ readonly file: string; readonly text: string; readonly etcd: string } | undefined> {
  const endpoints: Record<string, string> = {};
  for (const [name, engine] of Object.entries(engines)) {
    const database = await testDatabase(engine);
    if (database === undefined) return undefined;
    t.teardown(() => database.dispose());
    endpoints[name] = database.url;
  }
  const etcd = await testEtcd();
  t.teardown(() => etcd.dispose());
  const text = await exampleTopology(etcd.endpoint, endpoints);
  return { file: topologyFile(t, text), text, etcd: etcd.endpoint };
}

/** A gateway with a kube-apiserver, and a way to stop both before the test ends. */
async function startCluster(
  t: ExecutionContext,
  { text, etcd }: { readonly text: string; readonly etcd: string },
) {
  const gateway = await startSwitchyard({ topology: text, defaultEndpoint: etcd });
  t.teardown(() => gateway.dispose());
  const plane: ControlPlane = await startControlPlane({
    etcdServers: [gateway.endpoint],
    controllerManager: false,
  });
  t.teardown(() => plane.dispose());
  const stop = async () => {
    await plane.apiserver.kill('SIGKILL');
    await gateway.kill('SIGKILL');
  };
  return { api: plane.api, stop };
}

async function fill(api: Api): Promise<void> {
  for (const resource of resources) {
    for (const name of [...names, 'deleted'])
      await api.ok('POST', collectionPath(resource, 'default'), { body: newObject(resource, name, 'first') });
    await api.ok('PATCH', objectPath(resource, 'default', names[3]!), {
      body: payloadPatch(resource, 'changed'),
      contentType: 'application/merge-patch+json',
    });
    await api.ok('DELETE', objectPath(resource, 'default', 'deleted'));
  }
}

type Lists = ReadonlyMap<Resource, Body>;

async function lists(api: Api): Promise<Lists> {
  const found = new Map<Resource, Body>();
  for (const resource of resources) found.set(resource, await api.ok('GET', collectionPath(resource)));
  return found;
}

const versionOf = (body: Body | undefined) => BigInt(body?.metadata?.resourceVersion ?? '0');

const withoutVersion = ({ metadata, ...rest }: Body): Body => {
  const { resourceVersion: _, ...others } = metadata ?? {};
  return { ...rest, metadata: others };
};

/** The first event of a watch that goes on from `resourceVersion`. */
async function firstEvent(api: Api, resource: Resource, resourceVersion: bigint): Promise<string> {
  const query = { watch: true, resourceVersion: String(resourceVersion), timeoutSeconds: 20 };
  const answer = await api.stream(collectionPath(resource), query);
  try {
    let text = '';
    for await (const chunk of answer) {
      text += String(chunk);
      if (text.includes('\n')) break;
    }
    return text;
  } finally {
    answer.destroy();
  }
}

if (!(await hasPrograms())) test.skip('a cluster is restored (see above what is missing)', (t) => t.pass());
else
  test('a cluster that has lost everything is restored, into other databases', async (t) => {
    t.timeout(600_000);
    const first = await freshTopology(t, { largedata: 'mysql', metrics: 'postgres', webshop: 'sqlite' });
    const second = await freshTopology(t, { largedata: 'postgres', metrics: 'sqlite', webshop: 'mysql' });
    if (first === undefined || second === undefined) return t.pass();
    const old = await startCluster(t, first);
    await establishResources(old.api);
    await fill(old.api);
    const before = await lists(old.api);
    const file = join(folderOf(t), 'all.jsonl.gz');
    await done(t, 'backup', file, '--topology', first.file);
    // What is told after the backup is told too.
    const late = newObject(customResources[0]!, 'late', 'after the backup');
    const told = await old.api.ok('POST', collectionPath(customResources[0]!, 'default'), { body: late });
    await old.stop();

    // The etcd is lifted by as many writes.
    await done(t, 'restore', file, '--topology', second.file, '--revision-margin', '20000');
    const { api } = await startCluster(t, second);
    await establishResources(api);
    const after = await lists(api);
    for (const resource of resources) {
      const [was, is] = [before.get(resource), after.get(resource)];
      const isKept = resource !== configMap;
      const comparable = (list: Body | undefined) =>
        (list?.items ?? []).map(isKept ? (item) => item : withoutVersion);
      t.deepEqual(comparable(is), comparable(was), resource.kind);
      t.true((is?.items?.length ?? 0) >= names.length);
      t.true(versionOf(is) > versionOf(was), `${resource.kind}: ${versionOf(is)} > ${versionOf(was)}`);
      const old_ = new Map(was?.items?.map((item) => [item.metadata?.uid, versionOf(item)]));
      for (const item of is?.items ?? []) t.true(versionOf(item) >= (old_.get(item.metadata?.uid) ?? 0n));
      // Who goes on from before is sent back to list.
      t.regex(
        await firstEvent(api, resource, versionOf(was)),
        /"reason":"Expired"|too old resource version|"code":410/u,
      );
    }
    t.true(versionOf(after.get(customResources[0]!)) > versionOf(told));
    for (const resource of resources) {
      const changed = await api.ok('PATCH', objectPath(resource, 'default', names[5]!), {
        body: payloadPatch(resource, 'after'),
        contentType: 'application/merge-patch+json',
      });
      t.true(versionOf(changed) > versionOf(after.get(resource)));
    }
    return undefined;
  });
