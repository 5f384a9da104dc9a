// What faults happen to: an etcd as the default store, a database behind a proxy, and several gateways that keep one type in
// that database, each a process of its own.

import { stringify } from 'yaml';
import {
  privateDatabaseServer,
  startSwitchyard,
  testDatabase,
  testEtcd,
  type DatabaseServer,
  type SqlEngine,
  type Switchyard,
  type TestEtcd,
} from '../servers/index.ts';
import type { Disk } from '../servers/disk.ts';
import type { WallClock } from '../servers/wall-clock.ts';
import { Proxy } from './proxy.ts';

/** Every key of the type that the database keeps. */
export const keyPrefix = '/registry/faults.example.com/things/';

/** A place for the type, and what can be done to it. */
export interface Place {
  /** Endpoint of the store for the gateway of this number. */
  endpoint(gateway: number): string;
  /** Absent for SQLite, which is a file. */
  readonly server?: DatabaseServer;
  /** Between the gateways and the server. */
  readonly proxy?: Proxy;
  /** The wall clock of the server, or of the gateways. */
  readonly clock?: WallClock;
  /** Where SQLite's file is. */
  readonly disk?: Disk;
  /** For every gateway. */
  readonly gatewayEnv?: NodeJS.ProcessEnv;
  dispose(): Promise<void>;
}

export interface SiteOptions {
  readonly engine: SqlEngine;
  /** Default 3. */
  readonly gateways?: number;
  /** Default: a database server of its own behind a proxy. Undefined as an answer: the machine has none. */
  readonly place?: (engine: SqlEngine) => Promise<Place | undefined>;
  /** Default: a single etcd. */
  readonly etcd?: () => Promise<TestEtcd>;
  /** Further flags of every gateway. */
  readonly args?: readonly string[];
  readonly env?: (gateway: number) => NodeJS.ProcessEnv;
  /** Beside the endpoint, what the topology says of the database (`connectionPool: …`). */
  readonly backend?: Readonly<Record<string, unknown>>;
}

export interface Site extends AsyncDisposable {
  readonly engine: SqlEngine;
  readonly etcd: TestEtcd;
  readonly place: Place;
  readonly gateways: readonly Switchyard[];
}

/** @throws Error where the place has none */
export function serverOf({ place }: Site): DatabaseServer {
  if (place.server === undefined) throw new Error('Expected a place with a server');
  return place.server;
}

/** @throws Error where the place has none */
export function proxyOf({ place }: Site): Proxy {
  if (place.proxy === undefined) throw new Error('Expected a place with a proxy');
  return place.proxy;
}

/** @throws Error where the place has none */
export function clockOf({ place }: Site): WallClock {
  if (place.clock === undefined) throw new Error('Expected a place with a clock');
  return place.clock;
}

/** @throws Error where the place has none */
export function diskOf({ place }: Site): Disk {
  if (place.disk === undefined) throw new Error('Expected a place with a disk');
  return place.disk;
}

/** Starts everything; undefined where the machine lacks a server. */
export async function openSite(options: SiteOptions): Promise<Site | undefined> {
  const { engine, gateways: count = 3, args = [] } = options;
  await using parts = new AsyncDisposableStack();
  const place = await (options.place ?? databaseBehindProxy)(engine);
  if (place === undefined) return undefined;
  parts.defer(() => place.dispose());
  const etcd = await (options.etcd ?? testEtcd)();
  parts.defer(() => etcd.dispose());
  const gateways = await Promise.all(
    Array.from({ length: count }, async (_, number) => {
      const env = { ...place.gatewayEnv, ...options.env?.(number) };
      const gateway = await startSwitchyard({
        defaultEndpoint: etcd.endpoint,
        topology: topologyOf(place.endpoint(number), options.backend),
        args,
        env,
      });
      parts.defer(() => gateway.dispose());
      return gateway;
    }),
  );
  const open = parts.move();
  return { engine, etcd, place, gateways, [Symbol.asyncDispose]: () => open.disposeAsync() };
}

const topologyOf = (endpoint: string, backend: Readonly<Record<string, unknown>> = {}) =>
  stringify({
    backends: [{ name: 'faults', endpoint, ...backend, customresource: { group: 'faults.example.com' } }],
  });

/** A server of its own with a proxy before it; for SQLite a file. */
export async function databaseBehindProxy(
  engine: SqlEngine,
  start: typeof privateDatabaseServer = privateDatabaseServer,
): Promise<Place | undefined> {
  if (engine === 'sqlite') {
    const file = await testDatabase(engine);
    return file && { endpoint: () => file.url, dispose: () => file.dispose() };
  }
  const server = await start(engine);
  if (server === undefined) return undefined;
  const url = new URL(server.url);
  const proxy = await Proxy.open(Number(url.port));
  url.port = String(proxy.port);
  url.pathname = '/faults';
  return {
    endpoint: () => url.href,
    server,
    proxy,
    dispose: async () => {
      await proxy.close();
      await server.dispose();
    },
  };
}
