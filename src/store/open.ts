// From a backend of the topology to an opened store: the one place that names engines, dialects and the pool's defaults.
// Opening never waits for a database: a store that cannot be reached fails its requests until it can.

import { existsSync } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Dialect, DriverOptions, PoolOptions } from '../dialect/dialect.ts';
import { mysql } from '../dialect/mysql.ts';
import { postgres } from '../dialect/postgres.ts';
import { parseSqliteUrl, sqlite } from '../dialect/sqlite.ts';
import { emulatedEtcdVersion } from '../etcd/version.ts';
import type { Clock } from '../lib/clock.ts';
import { makeFolder } from '../lib/folder.ts';
import { inTime } from '../lib/in-time.ts';
import type { Logger } from '../lib/log.ts';
import type { Observer } from '../lib/observer.ts';
import type { BulkStore } from './bulk.ts';
import { etcdBulk } from './etcd/bulk.ts';
import { openEtcdStore } from './etcd/etcd-store.ts';
import { openSqlBulk } from './sql/bulk/bulk.ts';
import { openSqlStore, type SqlStoreOptions } from './sql/sql-store.ts';
import type { Backend, Store } from './store.ts';

/** Where the topology does not say: enough for reads beside the one writing transaction a store has at a time. */
const poolDefaults: PoolOptions = {
  connectionsMax: 16,
  idleConnectionsMax: 16,
  connectTimeoutMs: 5_000,
  statementTimeoutMs: 15_000,
};

export interface OpenOptions {
  /** The gateway's, shown in the headers of the store's answers. */
  readonly memberId: bigint;
  readonly logger: Logger;
  readonly clock: Clock;
  /** As the gateway's flag has it. */
  readonly keyPrefix: string;
  /** Hears of what databases are asked. */
  readonly observer?: Observer;
  /** See SqlStoreOptions and EtcdStoreOptions; undefined for the default store, which grants leases itself. */
  readonly findLease?: SqlStoreOptions['findLease'];
}

function driverOptions(backend: Backend): DriverOptions {
  const { maxOpen, maxIdle, maxLifeTimeMs, maxIdleLifeTimeMs } = backend.pool;
  return {
    url: backend.url,
    ...(backend.tls === undefined ? {} : { tls: backend.tls }),
    ...(backend.passwordFile === undefined ? {} : { passwordFile: backend.passwordFile }),
    pool: {
      ...poolDefaults,
      ...(maxOpen === undefined ? {} : { connectionsMax: maxOpen }),
      ...(maxIdle === undefined ? {} : { idleConnectionsMax: maxIdle }),
      ...(maxLifeTimeMs === undefined ? {} : { lifeTimeMs: maxLifeTimeMs }),
      ...(maxIdleLifeTimeMs === undefined ? {} : { idleLifeTimeMs: maxIdleLifeTimeMs }),
    },
  };
}

/** Where an etcd is, and how it lets one in. */
function etcdAddress({ name, url, tls, passwordFile }: Backend) {
  return { name, url, ...(tls && { tls }), ...(passwordFile === undefined ? {} : { passwordFile }) };
}

function dialectOf(engine: 'postgres' | 'mysql' | 'sqlite'): Dialect {
  switch (engine) {
    case 'postgres':
      return postgres;
    case 'mysql':
      return mysql;
    case 'sqlite':
      return sqlite;
  }
}

/** How long a start waits for the file system of its default store. */
const folderTimeoutMs = 2_000;

/** The folder of an SQLite store cannot be made or written. */
export class FolderError extends Error {
  override readonly name = 'FolderError';
}

/**
 * Makes sure, as far as that can be known soon, that the folder of an SQLite store is there and can be written: without it a
 * fresh start would only ever fail its requests. @throws FolderError
 */
export async function checkFolder({ name, engine, url }: Backend): Promise<void> {
  if (engine !== 'sqlite') return;
  const folder = dirname(parseSqliteUrl(url));
  const check = async () => {
    await makeFolder(folder);
    await access(folder, constants.W_OK | constants.X_OK);
  };
  try {
    await inTime(check(), folderTimeoutMs);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FolderError(
      `Expected a folder that can be written for store ${name}, got ${folder} (${reason})`,
      { cause },
    );
  }
}

/** False where the store is an SQLite file that is not there yet: opening it would create it. */
export function isThere({ engine, url }: Backend): boolean {
  return engine !== 'sqlite' || existsSync(parseSqliteUrl(url));
}

/** A tool is not in a hurry; and its output may be slow within a read transaction. */
const bulkTimeoutMs = 120_000;

export interface BulkOptions extends Pick<OpenOptions, 'logger' | 'keyPrefix'> {
  readonly signal: AbortSignal;
}

/** Opens the store of `backend` for backup and restore, until `signal` ends what is under way. @throws Error when a TLS file cannot be read. */
export function openBulk(backend: Backend, { logger, keyPrefix, signal }: BulkOptions): BulkStore {
  const { name, engine } = backend;
  if (engine === 'etcd') return etcdBulk(openEtcdStore({ ...etcdAddress(backend), logger }), signal);
  const options = driverOptions(backend);
  const driver = { ...options, pool: { ...options.pool, statementTimeoutMs: bulkTimeoutMs } };
  return openSqlBulk({ name, dialect: dialectOf(engine), driver, keyPrefix, signal });
}

/** Opens the store of `backend`. @throws Error when a TLS file cannot be read. */
export function openStore(backend: Backend, options: OpenOptions): Store {
  const { name, engine } = backend;
  const logger = options.logger.child({ store: name });
  const adoption = options.findLease === undefined ? {} : { findLease: options.findLease };
  if (engine === 'etcd') return openEtcdStore({ ...etcdAddress(backend), logger, ...adoption });
  return openSqlStore({
    name,
    dialect: dialectOf(engine),
    driver: {
      ...driverOptions(backend),
      answered: (end) => options.observer?.statement?.({ store: name, engine, ...end }),
    },
    memberId: options.memberId,
    version: emulatedEtcdVersion,
    logger,
    clock: options.clock,
    keyPrefix: options.keyPrefix,
    ...adoption,
  });
}
