// A private etcd with its own defaults (every write is synced to disk).

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { binary } from './binaries.ts';
import { tempFolder } from './guard.ts';
import { ServerProcess } from './process.ts';
import { freePort } from './wait.ts';

/** A single-member etcd, which a test may stop, kill and start again. */
export interface TestEtcd {
  /** `http://127.0.0.1:PORT`. */
  readonly endpoint: string;
  /** SIGKILL by default. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  start(): Promise<void>;
  logs(): string;
  dispose(): Promise<void>;
}

/** Starts an empty etcd on a free port. */
export async function testEtcd(options: { readonly args?: readonly string[] } = {}): Promise<TestEtcd> {
  const command = await binary('etcd');
  const folder = tempFolder('etcd');
  const endpoint = `http://127.0.0.1:${await freePort()}`;
  const peer = `http://127.0.0.1:${await freePort()}`;
  const server = new ServerProcess({
    name: 'etcd',
    command,
    args: [
      '--name=test',
      `--data-dir=${join(folder, 'data')}`,
      `--listen-client-urls=${endpoint}`,
      `--advertise-client-urls=${endpoint}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=test=${peer}`,
      '--log-level=warn',
      ...(options.args ?? []),
    ],
    folder,
    ready: async () => (await fetch(`${endpoint}/readyz`)).ok,
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
    endpoint,
    kill: (signal) => server.kill(signal),
    start: () => server.start(),
    logs: () => server.logs(),
    dispose,
  };
}
