// Database servers and databases for tests. The order in which a server is found: an address in the environment, the
// machine's programs, Debian packages, a container engine; else the tests that need it are skipped (CI=true: fail).

import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Engine, PrivateServerOptions } from './engine.ts';
import { startMsMax } from './engine.ts';
import { guardContainer, tempFolder } from './guard.ts';
import { mysql } from './mysql.ts';
import { postgres } from './postgres.ts';
import type { ServerProcess } from './process.ts';
import { stillAtIt } from './progress.ts';
import { canInstall, containersRun, execute, install, Unavailable } from './system.ts';
import { freePort, waitFor } from './wait.ts';

export type SqlEngine = 'postgres' | 'mysql' | 'sqlite';

/** A database of its own on a real server. */
export interface TestDatabase {
  readonly engine: SqlEngine;
  readonly url: string;
  /** Drops it. */
  dispose(): Promise<void>;
}

/** A server of its own, which a test may stop, kill and start again on the same port. */
export interface DatabaseServer {
  /** URL of an administrator. */
  readonly url: string;
  /** Undefined in a container. */
  readonly pid?: number;
  /** SIGKILL by default: nothing is flushed. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** A clean stop. */
  stop(): Promise<void>;
  start(): Promise<void>;
  logs(): string;
  dispose(): Promise<void>;
}

/** A process as a server; who prepared it takes its folder away. */
export function asServer(server: ServerProcess, url: string): DatabaseServer {
  return {
    url,
    get pid() {
      return server.pid;
    },
    kill: (signal) => server.kill(signal),
    stop: () => server.stop(),
    start: () => server.start(),
    logs: () => server.logs(),
    dispose: () => server.stop(),
  };
}

/** Engines that run as servers. */
export const engines = { postgres, mysql } as const;

/** What `npm test` puts into the address variable when it has found that there is no such server. */
export const noServer = 'none';

/** Starts are tried again on another port when somebody else was faster. */
const startsMax = 3;

/** Starts a private server. @throws Unavailable when the machine has none and none can be installed */
export async function startServer(
  engine: Engine,
  options: PrivateServerOptions = {},
): Promise<DatabaseServer> {
  const refused = engine.findPrograms() === undefined && canInstall() ? await tryInstall(engine) : undefined;
  const programs = engine.findPrograms();
  if (programs !== undefined) return startProcess(engine, programs, options);
  if (Object.keys(options).length === 0 && (await containersRun())) return await startContainer(engine);
  throw new Unavailable(
    `Expected ${engine.name} programs on PATH, a Debian with root rights to install ${engine.packages.join(' ')}, ` +
      `a running container engine or an address in ${engine.variable}, got none of them` +
      (refused === undefined ? '' : `\n${refused}`),
  );
}

/** Why the packages could not be installed, or undefined. */
async function tryInstall(engine: Engine): Promise<string | undefined> {
  try {
    await install(engine.packages);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function startProcess(
  engine: Engine,
  programs: string,
  options: PrivateServerOptions,
): Promise<DatabaseServer> {
  for (let attempt = 1; ; attempt += 1) {
    const folder = tempFolder(engine.name);
    const port = await freePort();
    const server = await engine.prepare({ programs, folder, port, ...options });
    const dispose = async () => {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    };
    try {
      await server.start();
    } catch (error) {
      await dispose();
      if (attempt < startsMax && /address already in use/i.test(String(error))) continue;
      throw error;
    }
    return {
      url: engine.url(port),
      get pid() {
        return server.pid;
      },
      kill: (signal) => server.kill(signal),
      stop: () => server.stop(),
      start: () => startAgain(server, engine),
      logs: () => server.logs(),
      dispose,
    };
  }
}

/** Children of a killed server may hold its memory or files for a moment longer; until then it ends right after its start. */
async function startAgain(server: { start(): Promise<void>; logs(): string }, engine: Engine): Promise<void> {
  await waitFor(() => server.start().then(() => true), {
    what: `${engine.name} to start again`,
    deadlineMs: startMsMax,
    details: () => server.logs(),
  });
}

async function startContainer(engine: Engine): Promise<DatabaseServer> {
  const port = await freePort();
  const url = engine.url(port);
  const id = await runContainer(engine, port);
  guardContainer(id);
  const ready = () =>
    waitFor(() => engine.administer(url, ['SELECT 1']).then(() => true), {
      what: `${engine.name} in container ${id} to serve`,
      deadlineMs: startMsMax,
    });
  await ready();
  return {
    url,
    kill: async (signal = 'SIGKILL') => void (await execute('docker', ['kill', '--signal', signal, id])),
    stop: async () => void (await execute('docker', ['stop', id])),
    start: async () => {
      await execute('docker', ['start', id]);
      await ready();
    },
    logs: () => `docker logs ${id}`,
    dispose: async () => void (await execute('docker', ['rm', '-f', '-v', id])),
  };
}

async function runContainer(engine: Engine, port: number): Promise<string> {
  try {
    const run = () => execute('docker', ['run', '-d', ...engine.container(port)]);
    return (await stillAtIt(`starting ${engine.name} in a container`, run)).trim();
  } catch (cause) {
    // Mostly an image that cannot be pulled.
    throw new Unavailable(`Expected ${engine.name} in a container, got:\n${(cause as Error).message}`, {
      cause,
    });
  }
}

const shared = new Map<Engine, Promise<string | undefined>>();

/** URL of an administrator of the server that this process shares; undefined after a skip was announced. */
function sharedServer(engine: Engine): Promise<string | undefined> {
  let url = shared.get(engine);
  url ??= findShared(engine);
  shared.set(engine, url);
  return url;
}

async function findShared(engine: Engine): Promise<string | undefined> {
  const address = process.env[engine.variable];
  if (address === noServer) return undefined;
  if (address !== undefined && address !== '') return address;
  return skipped(async () => (await startServer(engine)).url);
}

/** What has been said once is not repeated. */
const announced = new Set<string>();

/** Runs `start`; what the machine cannot give becomes an announced skip, or an error with CI=true. */
export async function skipped<T>(
  start: () => Promise<T>,
  ci: boolean = process.env['CI'] === 'true',
): Promise<T | undefined> {
  try {
    return await start();
  } catch (error) {
    if (!(error instanceof Unavailable) || ci) throw error;
    if (!announced.has(error.message)) process.stderr.write(`skipped: ${error.message}\n`);
    announced.add(error.message);
    return undefined;
  }
}

/** A fresh, empty database; undefined → a skip was announced (with CI=true it throws instead). */
export async function testDatabase(engine: SqlEngine): Promise<TestDatabase | undefined> {
  if (engine === 'sqlite') return sqliteDatabase();
  const chosen = engines[engine];
  const server = await sharedServer(chosen);
  if (server === undefined) return undefined;
  const database = `switchyard_${randomBytes(6).toString('hex')}`;
  await chosen.administer(server, [chosen.create(database)]);
  const url = new URL(server);
  url.pathname = `/${database}`;
  return { engine, url: url.href, dispose: () => chosen.administer(server, [chosen.drop(database)]) };
}

function sqliteDatabase(): TestDatabase {
  const folder = tempFolder('sqlite');
  return {
    engine: 'sqlite',
    url: `sqlite://${join(folder, 'test.db')}`,
    dispose: () => Promise.resolve(rmSync(folder, { recursive: true, force: true })),
  };
}

/** A private database server that a test may stop, kill and start again; undefined → a skip was announced. */
export async function privateDatabaseServer(
  engine: 'postgres' | 'mysql',
  options: PrivateServerOptions = {},
): Promise<DatabaseServer | undefined> {
  if (process.env[engines[engine].variable] === noServer) return undefined;
  return skipped(() => startServer(engines[engine], options));
}
