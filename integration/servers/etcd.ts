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
  /** `https://127.0.0.1:PORT`, with `tls` only. */
  readonly secureEndpoint: string;
  readonly pid: number;
  /** SIGKILL by default. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  start(): Promise<void>;
  logs(): string;
  dispose(): Promise<void>;
}

export interface TestEtcdOptions {
  /** Default `etcd`. */
  readonly release?: 'etcd' | 'etcd-next';
  readonly args?: readonly string[];
  /** Listens with TLS too, and wants a client certificate of this authority there. */
  readonly tls?: { readonly caFile: string; readonly certFile: string; readonly keyFile: string };
}

/** Starts an empty etcd on a free port. */
export async function testEtcd(options: TestEtcdOptions = {}): Promise<TestEtcd> {
  const command = await binary(options.release ?? 'etcd');
  const folder = tempFolder('etcd');
  const endpoint = `http://127.0.0.1:${await freePort()}`;
  const secureEndpoint = `https://127.0.0.1:${await freePort()}`;
  const { tls } = options;
  const secure =
    tls === undefined
      ? []
      : [
          `--cert-file=${tls.certFile}`,
          `--key-file=${tls.keyFile}`,
          `--trusted-ca-file=${tls.caFile}`,
          '--client-cert-auth',
        ];
  const peer = `http://127.0.0.1:${await freePort()}`;
  const server = new ServerProcess({
    name: 'etcd',
    command,
    args: [
      '--name=test',
      `--data-dir=${join(folder, 'data')}`,
      `--listen-client-urls=${tls === undefined ? endpoint : `${endpoint},${secureEndpoint}`}`,
      `--advertise-client-urls=${endpoint}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=test=${peer}`,
      '--log-level=warn',
      ...secure,
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
    secureEndpoint,
    get pid() {
      return server.pid;
    },
    kill: (signal) => server.kill(signal),
    start: () => server.start(),
    logs: () => server.logs(),
    dispose,
  };
}
