// The servers under test, each with a database of its own: etcd, kine and switchyard on each engine, switchyard in front of
// etcd, other checkouts or flags of switchyard beside it, and servers that somebody else runs.

import { fillKine } from './fill-kine.ts';
import { LoadClient, type Result } from './client.ts';
import {
  privateDatabaseServer,
  startKine,
  startSwitchyard,
  testDatabase,
  testEtcd,
  type SqlEngine,
} from '../servers/index.ts';

export const sqlEngines = ['postgres', 'mysql', 'sqlite'] as const;

/** Names of the targets that the benchmark starts itself. */
export const targetNames = [
  'etcd',
  'through-etcd',
  ...sqlEngines.flatMap((engine) => [`kine-${engine}`, engine]),
];

/** Another checkout of switchyard, or the same one with other flags. */
export interface Variant {
  readonly name: string;
  readonly checkout: string;
  readonly flags: readonly string[];
}

/** What all targets of a run have in common. */
export interface TargetOptions {
  readonly valueBytes: number;
  readonly variant?: Variant | undefined;
  /** What database servers may keep of their data in memory; undefined: their defaults. */
  readonly cacheMiB?: number | undefined;
  /** For switchyard. */
  readonly env?: NodeJS.ProcessEnv;
}

/** A server under test and its load. */
export interface Target {
  readonly name: string;
  readonly endpoint: string;
  /** Of the database behind it, or of the etcd. */
  readonly url: string;
  /** Processes of the server that speaks etcd's protocol; of etcd itself too. */
  readonly gateway: readonly number[];
  /** Processes of the database behind it; empty where it is inside (SQLite), or unknown. */
  readonly database: readonly number[];
  readonly load: LoadClient;
  /** Makes the keys. @throws when the server refuses */
  fill(keys: number): Promise<Result>;
  /** Starts another gateway on the same database; undefined: makes no sense here. */
  readonly another?: () => Promise<Gateway>;
  dispose(): Promise<void>;
}

interface Gateway {
  readonly endpoint: string;
  readonly pid: number;
  dispose(): Promise<void>;
}

/** A place for keys: a database or an etcd. */
export interface Place {
  readonly url: string;
  readonly pids: readonly number[];
  dispose(): Promise<void>;
}

/** A server and a database of its own; undefined: the machine does not have it. */
export async function databaseOf(engine: SqlEngine, cacheMiB?: number): Promise<Place | undefined> {
  if (engine === 'sqlite') {
    const file = await testDatabase('sqlite');
    return file === undefined ? undefined : { ...file, pids: [] };
  }
  const server = await privateDatabaseServer(engine, cacheMiB === undefined ? {} : { cacheMiB });
  if (server === undefined) return undefined;
  const url = new URL(server.url);
  url.pathname = '/bench';
  const pids = server.pid === undefined ? [] : [server.pid];
  return { url: url.href, pids, dispose: () => server.dispose() };
}

async function etcdPlace(): Promise<Place> {
  const etcd = await testEtcd();
  return { url: etcd.endpoint, pids: [etcd.pid], dispose: () => etcd.dispose() };
}

/** A target of `gateway` in front of `place`; the target disposes of both. */
async function inFrontOf(options: {
  readonly name: string;
  readonly place: Place;
  readonly start: () => Promise<Gateway>;
  readonly valueBytes: number;
  readonly severalAllowed: boolean;
  readonly fill?: (load: LoadClient, keys: number) => Promise<Result>;
}): Promise<Target> {
  const { name, place, start, valueBytes } = options;
  try {
    const gateway = await start();
    const load = await LoadClient.start({ endpoint: gateway.endpoint, valueBytes });
    const fill = options.fill ?? ((client, keys) => client.run({ do: 'fill', keys }));
    return {
      name,
      endpoint: gateway.endpoint,
      url: place.url,
      gateway: [gateway.pid],
      database: place.pids,
      load,
      fill: (keys) => fill(load, keys),
      ...(options.severalAllowed ? { another: start } : {}),
      dispose: async () => {
        await load.close();
        await gateway.dispose();
        await place.dispose();
      },
    };
  } catch (error) {
    await place.dispose();
    throw error;
  }
}

async function kine(engine: SqlEngine, { valueBytes, cacheMiB }: TargetOptions): Promise<Target | undefined> {
  const place = await databaseOf(engine, cacheMiB);
  if (place === undefined) return undefined;
  const fill = async (load: LoadClient, keys: number) => {
    const first = await fillKine({ engine, url: place.url, keys, valueBytes });
    await load.run({ do: 'adopt', keys, first });
    return load.run({ do: 'settle' });
  };
  const start = () => startKine({ databaseUrl: place.url });
  // A file belongs to one kine.
  const severalAllowed = engine !== 'sqlite';
  return inFrontOf({ name: `kine-${engine}`, place, start, valueBytes, fill, severalAllowed });
}

async function switchyard(
  name: string,
  place: Place | undefined,
  options: TargetOptions,
): Promise<Target | undefined> {
  if (place === undefined) return undefined;
  const { valueBytes, variant, env } = options;
  const start = () =>
    startSwitchyard({
      defaultEndpoint: place.url,
      ...(env === undefined ? {} : { env }),
      ...(variant === undefined ? {} : { checkout: variant.checkout, args: variant.flags }),
    });
  const full = variant === undefined ? name : `${name}@${variant.name}`;
  return inFrontOf({ name: full, place, start, valueBytes, severalAllowed: true });
}

async function etcd(valueBytes: number): Promise<Target> {
  const server = await testEtcd();
  const place = { url: server.endpoint, pids: [], dispose: () => Promise.resolve() };
  return inFrontOf({
    name: 'etcd',
    place,
    start: () => Promise.resolve(server),
    valueBytes,
    severalAllowed: false,
  });
}

/** Starts the target of one of `targetNames`; undefined: the machine does not have its database. */
export async function startTarget(name: string, options: TargetOptions): Promise<Target | undefined> {
  const { valueBytes } = options;
  if (name === 'etcd') return etcd(valueBytes);
  if (name === 'through-etcd') return switchyard(name, await etcdPlace(), options);
  const engine = sqlEngines.find((candidate) => name === candidate || name === `kine-${candidate}`);
  if (engine === undefined) throw new Error(`Expected one of ${targetNames.join(', ')}, got ${name}`);
  if (name !== engine) return kine(engine, options);
  return switchyard(name, await databaseOf(engine, options.cacheMiB), options);
}

/** A server that runs already and goes on running. */
export async function givenTarget(
  name: string,
  endpoint: string,
  options: { readonly valueBytes: number },
): Promise<Target> {
  const load = await LoadClient.start({ endpoint, valueBytes: options.valueBytes });
  return {
    name,
    endpoint,
    url: endpoint,
    gateway: [],
    database: [],
    load,
    fill: (keys) => load.run({ do: 'fill', keys }),
    dispose: () => load.close(),
  };
}
