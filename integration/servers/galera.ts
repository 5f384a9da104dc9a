// A MariaDB Galera cluster of three nodes, each of which tests may kill, stop, pause and start again.

import { randomBytes } from 'node:crypto';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import mysql2 from 'mysql2/promise';
import { asServer, noServer, skipped, type DatabaseServer } from './database.ts';
import { startMsMax } from './engine.ts';
import { tempFolder } from './guard.ts';
import { argsOf, mysql } from './mysql.ts';
import { ServerProcess } from './process.ts';
import { canInstall, execute, executable, give, install, Unavailable } from './system.ts';
import { freePort } from './wait.ts';

/** Where Debian and others keep the library that makes a server a node. */
const libraries = [
  '/usr/lib/galera/libgalera_smm.so',
  '/usr/lib64/galera-4/libgalera_smm.so',
  '/usr/lib/galera-4/libgalera_smm.so',
];
/** rsync copies a node's data to one that has missed too much. */
const packages = ['mariadb-server', 'galera-4', 'rsync'];
const nodesCount = 3;

/**
 * How a node is started: the first one as a new cluster, once; others, and those that were killed, from where their tables are, so
 * that they are only sent what they have missed.
 */
const script = `
if [ -e bootstrap ]; then rm bootstrap; exec "$@" --wsrep-new-cluster; fi
position=$("$@" --wsrep-recover 2>&1 | sed -n 's/.*Recovered position: *\\([0-9a-f-]*:[0-9][0-9]*\\).*/\\1/p' | tail -n 1)
exec "$@" \${position:+--wsrep-start-position=$position}
`;

export interface GaleraCluster {
  readonly nodes: readonly DatabaseServer[];
  /** The same database on all nodes, beginning with the node of this number. */
  url(first?: number): string;
  dispose(): Promise<void>;
}

/** A cluster with an empty database; undefined → a skip was announced. */
export async function galeraCluster(): Promise<GaleraCluster | undefined> {
  if (process.env[mysql.variable] === noServer) return undefined;
  return await skipped(startCluster);
}

const findLibrary = () => libraries.find((path) => existsSync(path));

async function findParts(): Promise<{ daemon: string; programs: string; library: string }> {
  const isThere = () => mysql.findPrograms() !== undefined && findLibrary() !== undefined;
  if (!isThere() && canInstall()) await install(packages);
  const [programs, library] = [mysql.findPrograms(), findLibrary()];
  const daemon = programs === undefined ? undefined : executable(join(programs, 'mariadbd'));
  if (programs === undefined || daemon === undefined || library === undefined)
    throw new Unavailable(
      `Expected MariaDB and its library libgalera_smm.so, or a Debian with root rights to install ` +
        `${packages.join(' ')}, got ${daemon ?? 'no mariadbd'} and ${library ?? 'no library'}`,
    );
  return { daemon, programs, library };
}

interface Node {
  readonly folder: string;
  readonly port: number;
  /** Where the others find it. */
  readonly groupPort: number;
  readonly transferPorts: readonly [number, number];
}

async function startCluster(): Promise<GaleraCluster> {
  const { daemon, programs, library } = await findParts();
  await using parts = new AsyncDisposableStack();
  const nodes: Node[] = [];
  for (let number = 0; number < nodesCount; number++) {
    const folder = tempFolder('galera');
    parts.defer(() => rmSync(folder, { recursive: true, force: true }));
    give(folder, mysql.user());
    const [port, groupPort] = [await freePort(), await freePort()];
    nodes.push({ folder, port, groupPort, transferPorts: [await freePort(), await freePort()] });
  }
  const members = nodes.map(({ groupPort }) => `127.0.0.1:${groupPort}`).join(',');
  const cluster: Cluster = { daemon, library, members };
  await createData(programs, nodes, cluster);
  const servers = nodes.map((node) => serverOf(node, cluster));
  const [first, ...others] = servers as [ServerProcess, ...ServerProcess[]];
  for (const server of servers) parts.defer(() => server.kill());
  await first.start();
  await Promise.all(others.map((server) => server.start()));
  const database = `switchyard_${randomBytes(4).toString('hex')}`;
  await mysql.administer(mysql.url(nodes[0]!.port), [mysql.create(database)]);
  const open = parts.move();
  return {
    nodes: servers.map((server, index) => asServer(server, mysql.url(nodes[index]!.port))),
    url(firstNode = 0) {
      const ordered = nodes.map((_, index) => nodes[(firstNode + index) % nodes.length]!);
      const { username, password } = new URL(mysql.url(0));
      const hosts = ordered.map(({ port }) => `127.0.0.1:${port}`).join(',');
      return `mysql://${username}:${password}@${hosts}/${database}`;
    },
    dispose: () => open.disposeAsync(),
  };
}

/** The same data in every folder, as of one cluster at its beginning: nobody has to be sent anything. */
async function createData(programs: string, nodes: readonly Node[], cluster: Cluster): Promise<void> {
  const [first, ...others] = nodes as [Node, ...Node[]];
  const { folder, port } = first;
  await mysql.prepare({ programs, folder, port });
  const bootstrap = () => writeFileSync(join(folder, 'bootstrap'), '');
  bootstrap();
  const alone = serverOf(first, cluster, [`--init-file=${join(folder, 'setup.sql')}`]);
  await alone.start();
  await alone.stop();
  const user = mysql.user();
  for (const node of others)
    await execute('cp', ['-R', join(folder, 'data'), node.folder], { user, cwd: node.folder });
  bootstrap();
}

interface Cluster {
  readonly daemon: string;
  readonly library: string;
  readonly members: string;
}

function serverOf(
  { folder, port, groupPort, transferPorts }: Node,
  { daemon, library, members }: Cluster,
  args: readonly string[] = [],
): ServerProcess {
  const [incremental, whole] = transferPorts;
  const provider = [
    `gmcast.listen_addr=tcp://127.0.0.1:${groupPort}`,
    `ist.recv_addr=127.0.0.1:${incremental}`,
    'gcache.size=32M',
  ];
  return new ServerProcess({
    name: 'galera',
    command: '/bin/sh',
    args: [
      '-c',
      script,
      'node',
      daemon,
      ...argsOf(folder, port),
      '--innodb-buffer-pool-size=64M',
      '--binlog-format=ROW',
      '--innodb-autoinc-lock-mode=2',
      '--wsrep-on=ON',
      `--wsrep-provider=${library}`,
      `--wsrep-cluster-address=gcomm://${members}`,
      `--wsrep-provider-options=${provider.join(';')}`,
      `--wsrep-node-address=127.0.0.1:${groupPort}`,
      '--wsrep-sst-method=rsync',
      `--wsrep-sst-receive-address=127.0.0.1:${whole}`,
      ...args,
    ],
    folder,
    cwd: folder,
    user: mysql.user(),
    startMsMax,
    ready: () => isSynced(port),
  });
}

async function isSynced(port: number): Promise<boolean> {
  const connection = await mysql2.createConnection({ uri: mysql.url(port), connectTimeout: 10_000 });
  connection.on('error', () => undefined);
  try {
    const [rows] = await connection.query("SHOW STATUS LIKE 'wsrep_local_state'");
    return (rows as { Value: string }[])[0]?.Value === '4';
  } finally {
    connection.destroy();
  }
}
