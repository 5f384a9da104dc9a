// Opens the clusters that the suite runs on: real stores, switchyard before them, two kube-apiservers and a
// kube-controller-manager on top. The topology is the example's own text, with the addresses of the test's servers.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { clusterBinaryNames } from '../servers/binaries.ts';
import { skipped } from '../servers/database.ts';
import { startControlPlane, type ControlPlane } from '../kubernetes/control-plane.ts';
import {
  binary,
  startSwitchyard,
  testDatabase,
  testEtcd,
  type Switchyard,
  type TestDatabase,
  type TestEtcd,
} from '../servers/index.ts';
import type { Cluster } from './cluster.ts';
import { etcdPlace, mysqlPlace, postgresPlace, sqlitePlace, type Place } from './places.ts';
import { largeData, metric, order } from './resources.ts';

/** Short, so that a test sees two of kube-apiserver's compactions; its default is five minutes. */
const compactionInterval = '45s';

const exampleFile = join(import.meta.dirname, '../../topology/example.yml');

interface Disposable {
  dispose(): Promise<void>;
}

/** What a cluster runs on, and a way to take it all down, last first. */
class Parts {
  readonly #parts: Disposable[] = [];

  add<T extends Disposable>(part: T): T {
    this.#parts.push(part);
    return part;
  }

  async dispose(): Promise<void> {
    for (const part of this.#parts.toReversed()) await part.dispose();
  }
}

/** The example topology's text with other addresses: that of its default, and those of its backends by name. */
export async function exampleTopology(
  defaultEndpoint: string,
  endpoints: Readonly<Record<string, string>>,
): Promise<string> {
  const topology = parse(await readFile(exampleFile, 'utf8')) as {
    default: string;
    backends: { name?: string; endpoint: string; customresource: { name?: string } }[];
  };
  topology.default = defaultEndpoint;
  for (const backend of topology.backends) {
    const name = backend.name ?? backend.customresource.name ?? '';
    const endpoint = endpoints[name];
    if (endpoint === undefined) throw new Error(`Expected an address for backend ${name}, got none`);
    backend.endpoint = endpoint;
  }
  return stringify(topology);
}

/** The kube-apiserver beside the first: as `Cluster` describes it, or with its watch cache, as the first. */
export type Second = 'direct' | 'cached';

/** Two kube-apiservers that know all of `gateways`. */
async function openPlanes(
  parts: Parts,
  gateways: readonly Switchyard[],
  second: Second,
): Promise<readonly [ControlPlane, ControlPlane]> {
  const etcdServers = gateways.map(({ endpoint }) => endpoint);
  const interval = `--etcd-compaction-interval=${compactionInterval}`;
  const direct = second === 'direct' ? ['--watch-cache=false', '--event-ttl=10s'] : [];
  return [
    parts.add(await startControlPlane({ etcdServers, args: [interval] })),
    parts.add(
      await startControlPlane({ etcdServers, controllerManager: false, args: [interval, ...direct] }),
    ),
  ];
}

/** A cluster with what its tests may want of its parts. */
export interface OpenedCluster extends Cluster {
  /** The first of `gateways`. */
  readonly gateway: Switchyard;
  readonly gateways: readonly Switchyard[];
  /** Both kube-apiservers. */
  readonly planes: readonly [ControlPlane, ControlPlane];
}

/** One whose default store is an etcd that a test may kill. */
export interface MixedCluster extends OpenedCluster {
  readonly etcd: TestEtcd;
}

async function assemble(
  parts: Parts,
  on: { readonly gateways: readonly [Switchyard, ...Switchyard[]]; readonly second: Second },
  where: Pick<Cluster, 'name' | 'places' | 'whereIs'>,
): Promise<OpenedCluster> {
  const { gateways, second } = on;
  const planes = await openPlanes(parts, gateways, second);
  return {
    ...where,
    cached: planes[0].api,
    direct: planes[1].api,
    gateway: gateways[0],
    gateways,
    planes,
    storeEndpoint: gateways[0].endpoint,
    plane: planes[0],
    [Symbol.asyncDispose]: () => parts.dispose(),
  };
}

async function opened<T extends OpenedCluster>(open: (parts: Parts) => Promise<T>): Promise<T> {
  const parts = new Parts();
  try {
    return await open(parts);
  } catch (error) {
    await parts.dispose();
    throw error;
  }
}

const sqlitePath = (url: string) => url.replace('sqlite://', '');

/** Where the addresses of Postgres and MariaDB come from; undefined = a skip was announced. */
export interface Databases {
  readonly mysql: TestDatabase;
  readonly postgres: TestDatabase;
}

/** True when the programs of a cluster are there, which may take a build of some minutes; false after a skip was announced. */
export async function hasPrograms(): Promise<boolean> {
  return (await skipped(() => Promise.all(clusterBinaryNames.map((name) => binary(name))))) !== undefined;
}

/** Fresh databases on the servers that all tests share; undefined = this machine lacks one, and has said so. */
export async function sharedDatabases(): Promise<Databases | undefined> {
  const mysql = await testDatabase('mysql');
  const postgres = await testDatabase('postgres');
  if (mysql !== undefined && postgres !== undefined) return { mysql, postgres };
  await mysql?.dispose();
  await postgres?.dispose();
  return undefined;
}

export interface MixedOptions {
  /** How many gateways there are on the same stores; both kube-apiservers know all of them. Default: one. */
  readonly gateways?: number;
  /** Default: without a watch cache. */
  readonly second?: Second;
}

/** The example topology: LargeData in MariaDB, Metric in Postgres, Order in SQLite, everything else in a real etcd. */
export function openMixed({ mysql, postgres }: Databases, options: MixedOptions = {}): Promise<MixedCluster> {
  return opened(async (parts) => {
    parts.add(mysql);
    parts.add(postgres);
    const sqlite = parts.add((await testDatabase('sqlite'))!);
    const etcd = parts.add(await testEtcd());
    const topology = await exampleTopology(etcd.endpoint, {
      largedata: mysql.url,
      metrics: postgres.url,
      webshop: sqlite.url,
    });
    const start = async () => parts.add(await startSwitchyard({ topology, defaultEndpoint: etcd.endpoint }));
    const gateways: [Switchyard, ...Switchyard[]] = [await start()];
    while (gateways.length < (options.gateways ?? 1)) gateways.push(await start());
    const on = { gateways, second: options.second ?? 'direct' };
    const places: readonly Place[] = [
      mysqlPlace(mysql.url),
      postgresPlace(postgres.url),
      sqlitePlace(sqlitePath(sqlite.url)),
      etcdPlace(etcd.endpoint, await binary('etcdctl')),
    ];
    const owners = new Map([
      [largeData.keyRoot, 'MariaDB'],
      [metric.keyRoot, 'Postgres'],
      [order.keyRoot, 'SQLite'],
    ]);
    const whereIs = (keyRoot: string) => owners.get(keyRoot) ?? 'etcd';
    return { ...(await assemble(parts, on, { name: 'mixed', places, whereIs })), etcd };
  });
}

/** The embedded default: one SQLite file for everything, no etcd and no topology. */
export function openSqlite(): Promise<OpenedCluster> {
  return opened(async (parts) => {
    const sqlite = parts.add((await testDatabase('sqlite'))!);
    const gateway = parts.add(await startSwitchyard({ defaultEndpoint: sqlite.url }));
    const places = [sqlitePlace(sqlitePath(sqlite.url))];
    const on = { gateways: [gateway], second: 'direct' } as const;
    return await assemble(parts, on, { name: 'sqlite', places, whereIs: () => 'SQLite' });
  });
}
