// PostgreSQL as a test server: initdb with passwords for TCP, durable defaults, loopback only.

import { readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import pg from 'pg';
import { adminPassword, startMsMax } from './engine.ts';
import type { Engine } from './engine.ts';
import { ServerProcess } from './process.ts';
import { execute, executable, findProgram, give, unprivilegedUser } from './system.ts';
import { images } from './versions.ts';

/** Enough for several test files with a pool each, on the shared server. */
const connectionsMax = 200;

const debianFolder = '/usr/lib/postgresql';

function findPrograms(): string | undefined {
  let releases: string[] = [];
  try {
    releases = readdirSync(debianFolder).toSorted((a, b) => Number(b) - Number(a));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const debian = releases.map((release) => join(debianFolder, release, 'bin'));
  const onPath = findProgram('initdb');
  return [...debian, ...(onPath === undefined ? [] : [dirname(onPath)])].find(
    (folder) =>
      executable(join(folder, 'initdb')) !== undefined && executable(join(folder, 'postgres')) !== undefined,
  );
}

async function administer(url: string, statements: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  // The server may be stopped under an idle connection; the next query says so.
  client.on('error', () => undefined);
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

const user = () => unprivilegedUser(['postgres']);

const url = (port: number) => `postgres://postgres:${adminPassword}@127.0.0.1:${port}/postgres`;

async function prepare(options: Parameters<Engine['prepare']>[0]): Promise<ServerProcess> {
  const { programs, folder } = options;
  give(folder, user());
  const data = join(folder, 'data');
  const passwordFile = join(folder, 'password');
  writeFileSync(passwordFile, `${adminPassword}\n`);
  await execute(
    join(programs, 'initdb'),
    [
      '-D',
      data,
      '-U',
      'postgres',
      '-A',
      'scram-sha-256',
      `--pwfile=${passwordFile}`,
      '-E',
      'UTF8',
      '--locale=C',
    ],
    { user: user(), cwd: folder },
  );
  return serverIn(options);
}

/** The server of a data folder that is there already. */
export function serverIn(options: Parameters<Engine['prepare']>[0]): ServerProcess {
  const { programs, folder, port, cacheMiB, env = {}, args = [] } = options;
  return new ServerProcess({
    name: 'postgres',
    command: join(programs, 'postgres'),
    args: [
      `-D${join(folder, 'data')}`,
      `-p${port}`,
      '-clisten_addresses=127.0.0.1',
      '-cunix_socket_directories=',
      `-cmax_connections=${connectionsMax}`,
      ...(cacheMiB === undefined ? [] : [`-cshared_buffers=${cacheMiB}MB`]),
      ...args,
    ],
    folder,
    cwd: folder,
    env,
    user: user(),
    // "Fast": does not wait for clients to leave.
    stopSignal: 'SIGINT',
    startMsMax,
    ready: async () => {
      await administer(url(port), ['SELECT 1']);
      return true;
    },
  });
}

/** PostgreSQL. */
export const postgres: Engine = {
  name: 'postgres',
  variable: 'SWITCHYARD_TEST_POSTGRES',
  packages: ['postgresql'],
  findPrograms,
  user,
  prepare,
  container: (port) => [
    '-p',
    `127.0.0.1:${port}:5432`,
    '-e',
    `POSTGRES_PASSWORD=${adminPassword}`,
    images.postgres,
  ],
  url,
  administer,
  create: (database) => `CREATE DATABASE ${database}`,
  drop: (database) => `DROP DATABASE IF EXISTS ${database} WITH (FORCE)`,
};
