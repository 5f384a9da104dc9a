// `npm run cluster`: a whole Kubernetes control plane on switchyard on this machine, to try things out. etcd, the
// databases that can be had, switchyard, kube-apiserver and kube-controller-manager; Ctrl-C stops and removes it all.
// With `--ready-exit` it ends as soon as everything has been seen working (exit code 0).

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startControlPlane } from './kubernetes/control-plane.ts';
import type { ControlPlane } from './kubernetes/control-plane.ts';
import { establishResources } from './cluster/definitions.ts';
import { clusterBinaryNames } from './servers/binaries.ts';
import { skipped } from './servers/database.ts';
import { binary, startSwitchyard, tempFolder, testDatabase, testEtcd } from './servers/index.ts';
import type { Switchyard, TestDatabase } from './servers/index.ts';
import { findProgram } from './servers/system.ts';

const { values } = parseArgs({ options: { 'ready-exit': { type: 'boolean', default: false } } });

const samplesFile = fileURLToPath(new URL('./kubernetes/samples.yml', import.meta.url));

interface Placed {
  readonly database: TestDatabase | undefined;
  readonly engine: string;
  readonly types: string;
  readonly rule: string;
  /** A command that shows the keys in it. */
  readonly look: (url: string) => string;
}

/** What to undo at the end, last first. */
const undo: (() => Promise<void>)[] = [];

let stopping = false;
const interrupted = new Promise<void>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      // Asked twice: what is left is stopped by force, after this process.
      if (stopping) process.exit(1);
      stopping = true;
      resolve();
    });
  }
});

// Children and idle connections do not keep this process running.
setInterval(() => undefined, 60_000);

try {
  await Promise.race([run(), interrupted]);
} catch (error) {
  process.exitCode = 1;
  console.error(error instanceof Error ? error.message : error);
} finally {
  console.log('stopping');
  for (const dispose of undo.toReversed()) await dispose().catch((error: unknown) => console.error(error));
}
// A start that was interrupted may still be waiting for something.
process.exit();

async function run(): Promise<void> {
  console.log('looking for the programs (what is missing is built, which takes some minutes the first time)');
  await Promise.all(clusterBinaryNames.map((name) => binary(name)));
  console.log('starting etcd and the databases');
  const etcd = await testEtcd();
  undo.push(() => etcd.dispose());
  const placed = await databases();
  for (const { database } of placed) if (database !== undefined) undo.push(() => database.dispose());
  const folder = tempFolder('cluster');
  const topology = topologyText(etcd.endpoint, placed);
  const topologyFile = join(folder, 'topology.yml');
  writeFileSync(topologyFile, topology);
  console.log('starting switchyard');
  const gateway = await startSwitchyard({ topology, defaultEndpoint: etcd.endpoint, dataDir: folder });
  undo.push(() => gateway.dispose());
  console.log('starting kube-apiserver and kube-controller-manager');
  const plane = await startControlPlane({ etcdServers: [gateway.endpoint] });
  undo.push(() => plane.dispose());
  await establishResources(plane.api);
  await plane.run(['apply', '-f', samplesFile]);
  await plane.run(['get', 'largedata/sample', 'metric/sample', 'order/sample']);
  await explain({ gateway, plane, placed, topologyFile, etcdEndpoint: etcd.endpoint });
  if (!values['ready-exit']) await interrupted;
}

async function databases(): Promise<Placed[]> {
  const find = (engine: 'postgres' | 'mysql') => skipped(() => testDatabase(engine), false);
  const [mysql, postgres, sqlite] = await Promise.all([
    find('mysql'),
    find('postgres'),
    testDatabase('sqlite'),
  ]);
  return [
    {
      database: mysql,
      engine: 'MariaDB or MySQL',
      types: 'LargeData',
      rule: '{ name: largedata, group: data.example.com, kind: LargeData }',
      look: (url) => {
        const { hostname, port, username, password, pathname } = new URL(url);
        const database = pathname.slice(1);
        return `mariadb -h ${hostname} -P ${port} -u ${username} -p${password} ${database} -e "SELECT CAST(k AS CHAR) FROM switchyard_current"`;
      },
    },
    {
      database: postgres,
      engine: 'Postgres',
      types: 'Metric',
      rule: '{ name: metrics, group: monitoring.example.com, kind: Metric }',
      look: (url) => `psql ${url} -c "SELECT encode(k, 'escape') FROM switchyard_current"`,
    },
    {
      database: sqlite,
      engine: 'SQLite',
      types: 'everything in webshop.example.com',
      rule: '{ name: webshop, group: webshop.example.com }',
      look: (url) =>
        `sqlite3 ${url.replace('sqlite://', '')} "SELECT CAST(k AS TEXT) FROM switchyard_current"`,
    },
  ];
}

function topologyText(etcdEndpoint: string, placed: readonly Placed[]): string {
  const rules = placed.flatMap(({ database, rule }) =>
    database === undefined ? [] : [`  - endpoint: ${database.url}\n    customresource: ${rule}\n`],
  );
  return `default: ${etcdEndpoint}\nbackends:\n${rules.join('')}`;
}

async function explain(running: {
  gateway: Switchyard;
  plane: ControlPlane;
  placed: readonly Placed[];
  topologyFile: string;
  etcdEndpoint: string;
}): Promise<void> {
  const { gateway, plane, placed, topologyFile, etcdEndpoint } = running;
  const kubectl = findProgram('kubectl') === undefined ? await binary('kubectl') : 'kubectl';
  const places = placed.map(({ database, engine, types }) =>
    database === undefined
      ? `  ${types}: in etcd, because there is no ${engine} on this machine`
      : `  ${types}: ${database.url}`,
  );
  const looks = placed.flatMap(({ database, look }) =>
    database === undefined ? [] : [`  ${look(database.url)}`],
  );
  console.log(`
A control plane runs on switchyard.

  switchyard: ${gateway.endpoint}, metrics ${gateway.metricsUrl}/metrics
  kube-apiserver: ${plane.url}
${places.join('\n')}
  everything else: etcd at ${etcdEndpoint}

In another terminal:

  export KUBECONFIG=${plane.kubeconfig}
  ${kubectl} get largedata,metrics,orders
  ${kubectl} get metrics --watch
  ${kubectl} patch metric sample --type=merge -p '{"spec":{"value":43}}'
  ${kubectl} create namespace try

What the databases hold:

${looks.join('\n')}

In this folder:

  npx switchyard explain metrics.monitoring.example.com --topology ${topologyFile}
`);
  if (!values['ready-exit']) console.log('Ctrl-C stops and removes everything.');
}
