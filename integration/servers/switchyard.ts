// switchyard itself as a child process, as an operator would start it: `node src/main.ts serve` with flags.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tempFolder } from './guard.ts';
import { ServerProcess } from './process.ts';
import { accepts, freePort } from './wait.ts';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
/** What Node makes of the sources, kept by their content: they are loaded in half the time. */
const compiled = fileURLToPath(new URL('../../node_modules/.cache/compiled', import.meta.url));

export interface SwitchyardOptions {
  /** Another checkout to run it from. */
  readonly checkout?: string;
  /** Text of a topology file; none: no rules. */
  readonly topology?: string;
  /** Default: an SQLite file in `dataDir`. */
  readonly defaultEndpoint?: string;
  /** Further addresses for metrics. */
  readonly metricsUrls?: readonly string[];
  /** Further flags. */
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** Working folder; the caller removes it. Default: a temp folder that `dispose` removes. */
  readonly dataDir?: string;
  /** When `startSwitchyard` answers: all stores reachable (the default), or as soon as connections are accepted. */
  readonly until?: 'ready' | 'listening';
}

/** A running switchyard. */
export interface Switchyard {
  /** `http://127.0.0.1:PORT`, where etcd's services are. */
  readonly endpoint: string;
  readonly metricsUrl: string;
  readonly pid: number;
  readonly running: boolean;
  /** Of its last end by itself; null: it runs, or a signal has ended it. */
  readonly exitCode: number | null;
  /** SIGKILL by default. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Stops it (cleanly, if it still runs) and starts it with the same flags; `until` as in the options. */
  restart(until?: SwitchyardOptions['until']): Promise<void>;
  logs(): string;
  dispose(): Promise<void>;
}

/** Starts switchyard on free ports and waits for it. */
export async function startSwitchyard(options: SwitchyardOptions = {}): Promise<Switchyard> {
  const own = options.dataDir === undefined;
  const folder = options.dataDir ?? tempFolder('gateway');
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const metricsUrl = `http://127.0.0.1:${await freePort()}`;
  const metricsUrls = [metricsUrl, ...(options.metricsUrls ?? [])].join(',');
  const args = ['serve', '--listen-client-urls', endpoint, '--listen-metrics-urls', metricsUrls];
  args.push('--default-endpoint', options.defaultEndpoint ?? `sqlite://${join(folder, 'default.db')}`);
  if (options.topology !== undefined) {
    const file = join(folder, `topology-${port}.yml`);
    writeFileSync(file, options.topology);
    args.push('--topology', file);
  }
  const readyWhen = {
    ready: async () => (await fetch(`${metricsUrl}/readyz`)).ok,
    listening: () => accepts(port),
  };
  const server = new ServerProcess({
    name: `switchyard-${port}`,
    command: process.execPath,
    args: [
      options.checkout === undefined ? main : join(options.checkout, 'src/main.ts'),
      ...args,
      ...(options.args ?? []),
    ],
    folder,
    cwd: folder,
    env: { NODE_COMPILE_CACHE: compiled, ...options.env },
    ready: readyWhen[options.until ?? 'ready'],
  });
  const dispose = async () => {
    await server.stop();
    if (own) rmSync(folder, { recursive: true, force: true });
  };
  try {
    await server.start();
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    endpoint,
    metricsUrl,
    get pid() {
      return server.pid;
    },
    get running() {
      return server.running;
    },
    get exitCode() {
      return server.exitCode;
    },
    kill: (signal) => server.kill(signal),
    restart: async (until) => {
      await server.stop();
      await server.start(readyWhen[until ?? options.until ?? 'ready']);
    },
    logs: () => server.logs(),
    dispose,
  };
}
