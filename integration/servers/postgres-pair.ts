// A Postgres primary with a streaming replica, which tests may promote.

import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { asServer, noServer, skipped, type DatabaseServer } from './database.ts';
import { adminPassword } from './engine.ts';
import { tempFolder } from './guard.ts';
import { postgres, serverIn } from './postgres.ts';
import type { ServerProcess } from './process.ts';
import { canInstall, execute, give, install, Unavailable } from './system.ts';
import { freePort, waitFor } from './wait.ts';

export interface PostgresPair {
  readonly primary: DatabaseServer;
  readonly replica: DatabaseServer;
  /** The same database on both, beginning with the server of this number: 0, the primary of the beginning, or 1. */
  url(first?: number): string;
  /** Makes a primary of the replica; resolves when it takes writes. */
  readonly promote: () => Promise<void>;
  dispose(): Promise<void>;
}

export interface PairOptions {
  /** A commit is acknowledged only when the replica has it on disk, too. */
  readonly isSynchronous: boolean;
}

/** An empty pair; undefined → a skip was announced. */
export async function postgresPair(options: PairOptions): Promise<PostgresPair | undefined> {
  if (process.env[postgres.variable] === noServer) return undefined;
  return await skipped(() => startPair(options));
}

async function startPair({ isSynchronous }: PairOptions): Promise<PostgresPair> {
  if (postgres.findPrograms() === undefined && canInstall()) await install(postgres.packages);
  const programs = postgres.findPrograms();
  if (programs === undefined)
    throw new Unavailable('Expected Postgres programs on PATH for a primary with a replica, got none');
  await using parts = new AsyncDisposableStack();
  const serve = async (make: (folder: string, port: number) => Promise<ServerProcess>) => {
    const folder = tempFolder('postgres');
    parts.defer(() => rmSync(folder, { recursive: true, force: true }));
    const port = await freePort();
    const server = await make(folder, port);
    parts.defer(() => server.stop());
    await server.start();
    return asServer(server, postgres.url(port));
  };
  const primary = await serve((folder, port) => postgres.prepare({ programs, folder, port }));
  const database = `switchyard_${randomBytes(4).toString('hex')}`;
  await postgres.administer(primary.url, [postgres.create(database)]);
  const replica = await serve(async (folder, port) => {
    give(folder, postgres.user());
    await copy({ programs, from: primary.url, to: join(folder, 'data'), cwd: folder });
    return serverIn({ programs, folder, port });
  });
  if (isSynchronous) await makeSynchronous(primary.url);
  const open = parts.move();
  return {
    primary,
    replica,
    url(first = 0) {
      const servers = first === 0 ? [primary, replica] : [replica, primary];
      const { username, password } = new URL(primary.url);
      const hosts = servers.map((server) => new URL(server.url).host).join(',');
      return `postgres://${username}:${password}@${hosts}/${database}`;
    },
    promote: () => postgres.administer(replica.url, ['SELECT pg_promote(true, 60)']),
    dispose: () => open.disposeAsync(),
  };
}

interface Copy {
  readonly programs: string;
  readonly from: string;
  readonly to: string;
  readonly cwd: string;
}

/** A copy of the primary's data that follows it. */
async function copy({ programs, from, to, cwd }: Copy): Promise<void> {
  const { hostname, port, username } = new URL(from);
  const args = ['-h', hostname, '-p', port, '-U', username, '-D', to, '-R', '-X', 'stream', '-c', 'fast'];
  const env = { PGPASSWORD: adminPassword };
  await execute(join(programs, 'pg_basebackup'), args, { user: postgres.user(), cwd, env });
}

/** The replica has no such setting: as a primary it commits alone. */
async function makeSynchronous(primary: string): Promise<void> {
  const settings = ["ALTER SYSTEM SET synchronous_standby_names = '*'", 'SELECT pg_reload_conf()'];
  await postgres.administer(primary, settings);
  const client = new pg.Client({ connectionString: primary });
  await client.connect();
  try {
    await waitFor(
      async () => {
        const { rows } = await client.query('SELECT sync_state FROM pg_stat_replication');
        return rows.some(({ sync_state: state }: { sync_state: string }) => state === 'sync');
      },
      { what: 'the replica to be synchronous' },
    );
  } finally {
    await client.end();
  }
}
