// SQL stores for tests that talk to them directly, without a gateway.

import { mysql } from '../src/dialect/mysql.ts';
import { postgres } from '../src/dialect/postgres.ts';
import { sqlite } from '../src/dialect/sqlite.ts';
import { systemClock } from '../src/lib/clock.ts';
import { silentLogger } from '../src/lib/log.ts';
import { openSqlStore, type SqlStore, type SqlStoreOptions } from '../src/store/sql/sql-store.ts';
import type { SqlEngine } from './servers/index.ts';

export const dialects = { postgres, mysql, sqlite };

/** Options of every driver in tests. */
export const pool = { connectionsMax: 8, connectTimeoutMs: 5_000, statementTimeoutMs: 20_000 };

/** A store on the database at `url`, ready. */
export async function openTestStore(
  { engine, url }: { readonly engine: SqlEngine; readonly url: string },
  options: Partial<SqlStoreOptions> = {},
): Promise<SqlStore> {
  const store = openSqlStore({
    name: engine,
    dialect: dialects[engine],
    driver: { url, pool },
    memberId: 7n,
    version: '3.6.0',
    logger: silentLogger,
    clock: systemClock,
    ...options,
  });
  await store.whenReady(AbortSignal.timeout(30_000));
  return store;
}

/** A signal for requests that are expected to be answered. */
export const soon = () => AbortSignal.timeout(60_000);
