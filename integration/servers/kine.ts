// kine, the etcd server on SQL databases that the benchmark compares with. Nothing else starts it.

import { rmSync } from 'node:fs';
import { binary } from './binaries.ts';
import { tempFolder } from './guard.ts';
import { ServerProcess } from './process.ts';
import { accepts, freePort } from './wait.ts';

/** A running kine. */
export interface Kine {
  /** `http://127.0.0.1:PORT`. */
  readonly endpoint: string;
  readonly pid: number;
  logs(): string;
  dispose(): Promise<void>;
}

/** What kine gives SQLite by itself, but every commit on the disk before it is acknowledged, as the others do. */
const sqliteParameters =
  '_journal_mode=WAL&_busy_timeout=30000&_synchronous=FULL&_txlock=immediate&_stmt_cache_size=20&cache=shared';

/** Fewer than the databases of the tests take: kine has no limit, and a thousand watchers would each open one. */
const connectionsMax = 150;

/** kine's way to write the URL of a database. */
export function kineEndpoint(databaseUrl: string): string {
  const url = new URL(databaseUrl);
  switch (url.protocol) {
    case 'mysql:':
      return `mysql://${url.username}:${url.password}@tcp(${url.host})${url.pathname}`;
    case 'sqlite:':
      return `sqlite://${url.pathname}?${sqliteParameters}`;
    default:
      // Its driver would ask for TLS first and log that there is none.
      return `${databaseUrl}?sslmode=disable`;
  }
}

/** Starts kine in front of a database. */
export async function startKine(options: { readonly databaseUrl: string }): Promise<Kine> {
  const command = await binary('kine');
  const folder = tempFolder('kine');
  const port = await freePort();
  const server = new ServerProcess({
    name: 'kine',
    command,
    args: [
      `--listen-address=127.0.0.1:${port}`,
      `--endpoint=${kineEndpoint(options.databaseUrl)}`,
      '--metrics-bind-address=0',
      `--datastore-max-open-connections=${connectionsMax}`,
    ],
    folder,
    cwd: folder,
    ready: () => accepts(port),
  });
  const dispose = async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await server.start();
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    endpoint: `http://127.0.0.1:${port}`,
    get pid() {
      return server.pid;
    },
    logs: () => server.logs(),
    dispose,
  };
}
