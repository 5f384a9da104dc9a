// MariaDB, or MySQL where that is what the machine has, as a test server: the server's own defaults, loopback only.

import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import mysql2 from 'mysql2/promise';
import { adminPassword, startMsMax } from './engine.ts';
import type { Engine } from './engine.ts';
import { ServerProcess } from './process.ts';
import { execute, executable, findProgram, give, unprivilegedUser } from './system.ts';
import { images } from './versions.ts';

/** Enough for several test files with a pool each, on the shared server. */
const connectionsMax = 200;

// Runs at every start, hence the IF [NOT] EXISTS. The second host name is what a server without name lookups sees.
const accounts = ['localhost', '127.0.0.1'].flatMap((host) => [
  `CREATE USER IF NOT EXISTS 'root'@'${host}' IDENTIFIED BY '${adminPassword}';`,
  `ALTER USER 'root'@'${host}' IDENTIFIED BY '${adminPassword}';`,
  `GRANT ALL ON *.* TO 'root'@'${host}' WITH GRANT OPTION;`,
]);
const setup = `${accounts.join('\n')}\nDROP USER IF EXISTS ''@'localhost';\n`;

const daemonIn = (folder: string) =>
  ['mariadbd', 'mysqld'].map((name) => executable(join(folder, name))).find((path) => path !== undefined);

function findPrograms(): string | undefined {
  const daemon = findProgram('mariadbd') ?? findProgram('mysqld');
  return daemon === undefined ? undefined : dirname(daemon);
}

async function administer(url: string, statements: readonly string[]): Promise<void> {
  const connection = await mysql2.createConnection({ uri: url, connectTimeout: 10_000 });
  // The server may be stopped under an idle connection; the next query says so.
  connection.on('error', () => undefined);
  try {
    for (const statement of statements) await connection.query(statement);
  } finally {
    connection.destroy();
  }
}

const user = () => unprivilegedUser(['mysql']);

const url = (port: number) => `mysql://root:${adminPassword}@127.0.0.1:${port}/mysql`;

async function createDataFolder(daemon: string, folder: string, data: string): Promise<void> {
  const installer = findProgram('mariadb-install-db') ?? findProgram('mysql_install_db');
  const cwd = { user: user(), cwd: folder };
  // Servers that start remove what they take for leftovers in a shared folder for temporary files.
  const tmpdir = `--tmpdir=${folder}`;
  if (installer === undefined) {
    await execute(daemon, ['--no-defaults', '--initialize-insecure', `--datadir=${data}`, tmpdir], cwd);
    return;
  }
  await execute(
    installer,
    [
      '--no-defaults',
      `--datadir=${data}`,
      tmpdir,
      '--auth-root-authentication-method=normal',
      '--skip-test-db',
    ],
    cwd,
  );
}

/** Arguments of a server whose data lies in the folder. */
export const argsOf = (folder: string, port: number): readonly string[] => [
  '--no-defaults',
  `--datadir=${join(folder, 'data')}`,
  `--tmpdir=${folder}`,
  `--port=${port}`,
  '--bind-address=127.0.0.1',
  `--socket=${join(folder, 's')}`,
  `--pid-file=${join(folder, 'pid')}`,
  `--max-connections=${connectionsMax}`,
];

async function prepare(options: Parameters<Engine['prepare']>[0]): Promise<ServerProcess> {
  const { programs, folder, port, cacheMiB, env = {}, args = [] } = options;
  const daemon = daemonIn(programs);
  if (daemon === undefined) throw new Error(`Expected mariadbd or mysqld in ${programs}, got neither`);
  give(folder, user());
  await createDataFolder(daemon, folder, join(folder, 'data'));
  const setupFile = join(folder, 'setup.sql');
  writeFileSync(setupFile, setup);
  return new ServerProcess({
    name: 'mysql',
    command: daemon,
    args: [
      ...argsOf(folder, port),
      `--init-file=${setupFile}`,
      ...(cacheMiB === undefined ? [] : [`--innodb-buffer-pool-size=${cacheMiB}M`]),
      ...args,
    ],
    folder,
    cwd: folder,
    env,
    user: user(),
    startMsMax,
    ready: async () => {
      await administer(url(port), ['SELECT 1']);
      return true;
    },
  });
}

/** MariaDB or MySQL. */
export const mysql: Engine = {
  name: 'mysql',
  variable: 'SWITCHYARD_TEST_MYSQL',
  packages: ['mariadb-server'],
  findPrograms,
  user,
  prepare,
  container: (port) => [
    `--publish=127.0.0.1:${port}:3306`,
    `--env=MARIADB_ROOT_PASSWORD=${adminPassword}`,
    images.mysql,
    `--max-connections=${connectionsMax}`,
  ],
  url,
  administer,
  create: (database) => `CREATE DATABASE ${database}`,
  drop: (database) => `DROP DATABASE IF EXISTS ${database}`,
};
