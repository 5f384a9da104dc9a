// `switchyard serve`: configuration → topology → stores → router → server, then waits for a signal and takes it all down
// in reverse. A database that cannot be reached does not stop the start; a mistake in flags or topology does.

import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { flagHelp, readConfig, UsageError, type Config } from '../config/config.ts';
import { systemClock } from '../lib/clock.ts';
import { isLoopback, listenText, type ListenUrl } from '../lib/listen-url.ts';
import { changeLevel, createLogger, type Logger } from '../lib/log.ts';
import { Observers } from '../lib/observer.ts';
import { version } from '../lib/version.ts';
import { createRouter, type Router } from '../router/router.ts';
import { loadTopology, type Topology } from '../router/topology.ts';
import { memberIdOf, startServer, type RunningServer } from '../server/server.ts';
import { checkFolder, openStore, type OpenOptions } from '../store/open.ts';
import type { Backend, Store } from '../store/store.ts';
import type { Tracing } from '../tracing/tracing.ts';
import { exitCode, type ExitCode, type Io } from './io.ts';
import { LogSwitch } from './log-switch.ts';
import { openTracing } from './open-tracing.ts';
import { ownAddressProblems } from './own-address.ts';
import {
  leaveSupervisor,
  saysServing,
  shareLevel,
  superviseWorkers,
  workerNumber,
  workerStop,
  type Serving,
} from './workers.ts';

/** What --help prints. */
export function serveHelp(): string {
  return [
    'Usage: switchyard serve [flags]',
    '',
    'Serves the etcd v3 API and keeps each resource type in the store that the topology names.',
    '',
    flagHelp(),
    '',
    'Each flag has a twin in the environment: SWITCHYARD_KEY_PREFIX for --key-prefix. A flag wins over its twin, and',
    'a twin that is empty counts as not given. Exit code 2: wrong flags or topology; 1: anything else, files that cannot be read too.',
  ].join('\n');
}

interface Stores {
  readonly byName: ReadonlyMap<string, Store>;
  close(): Promise<void>;
}

function openStores(topology: Topology, options: OpenOptions, tracing: Tracing | undefined): Stores {
  const { logger } = options;
  const open = (backend: Backend, own: OpenOptions) => {
    const store = openStore(backend, own);
    return tracing === undefined ? store : tracing.traced(store);
  };
  const defaultStore = open(topology.default, options);
  const byName = new Map([[topology.default.name, defaultStore]]);
  /** Leases are granted by the default store; the others take them over at the first key. */
  const findLease = async (id: bigint, signal: AbortSignal) => {
    const { ttl, grantedTtl } = await defaultStore.leaseTimeToLive({ id, keys: false }, signal);
    // Seconds are rounded down; no store may end a lease before the one that granted it. Nothing was granted: gone.
    if (grantedTtl === 0) return undefined;
    return { ttlSeconds: grantedTtl, remainingSeconds: Math.min(grantedTtl, Math.max(0, ttl) + 1) };
  };
  for (const backend of topology.backends) {
    if (byName.has(backend.name)) continue;
    byName.set(backend.name, open(backend, { ...options, findLease }));
  }
  const close = async () => {
    const outcomes = await Promise.allSettled(
      [...byName.values()].map((store) => store[Symbol.asyncDispose]()),
    );
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') logger.error('store not closed cleanly', { error: outcome.reason });
    }
  };
  return { byName, close };
}

/** How a gateway is run. */
interface Role {
  /** From 1; undefined: it is the only one. */
  readonly worker: number | undefined;
  readonly logger: Logger;
  readonly log: LogSwitch;
  readonly onBroken: (error: unknown) => void;
}

/** Each worker has metrics of its own. */
function metricsUrlsOf({ listenMetricsUrls }: Config, worker = 1): readonly ListenUrl[] {
  return listenMetricsUrls.map(({ scheme, host, port }) => {
    const own = port === 0 ? 0 : port + worker - 1;
    return { scheme, host, port: own, text: listenText(scheme, host, own) };
  });
}

/** Everything that runs. */
interface Gateway {
  readonly server: RunningServer;
  readonly router: Router;
  readonly stores: Stores;
  readonly tracing: Tracing | undefined;
}

async function start(
  config: Config,
  topology: Topology,
  { worker, logger, log, onBroken }: Role,
): Promise<Gateway> {
  await checkFolder(topology.default);
  const memberId = memberIdOf(config.name, config.listenClientUrls);
  const observers = new Observers();
  const tracing = await openTracing(config, { worker, logger });
  if (tracing !== undefined) observers.add(tracing);
  const { keyPrefix } = config;
  const own = { memberId, keyPrefix, logger, clock: systemClock, observer: observers };
  const stores = openStores(topology, own, tracing);
  const router = createRouter({ topology, stores: stores.byName, keyPrefix, logger, clock: systemClock });
  try {
    const server = await startServer({
      ...config,
      listenMetricsUrls: metricsUrlsOf(config, worker),
      ...(worker === undefined ? {} : { worker }),
      router,
      memberId,
      version,
      logger,
      clock: systemClock,
      observers,
      trace: tracing?.begin,
      log,
      onBroken,
    });
    return { server, router, stores, tracing };
  } catch (error) {
    await router.close();
    await stores.close();
    await tracing?.close();
    throw error;
  }
}

async function stop({ server, router, stores, tracing }: Gateway): Promise<void> {
  await server.drain();
  await router.close();
  await stores.close();
  await tracing?.close();
}

function describe(topology: Topology): string {
  const all = [topology.default, ...topology.backends];
  const unique = [...new Map(all.map((backend) => [backend.name, backend])).values()];
  return unique.map(({ name, displayUrl }) => `${name} = ${displayUrl}`).join(', ');
}

/** Resolves at the first signal; from then on a second one ends the process at once. */
function stopSignal(logger: Logger): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let seen = false;
    for (const name of ['SIGTERM', 'SIGINT'] as const) {
      process.on(name, () => {
        if (seen) {
          logger.warn('stopped at once', { signal: name });
          // eslint-disable-next-line unicorn/no-process-exit -- the operator asked twice
          process.exit(exitCode.failed);
        }
        seen = true;
        resolve(name);
      });
    }
  });
}

/** The reason of the system in the words of someone who typed an address. */
function startFailure(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code, syscall, address, port } = error as NodeJS.ErrnoException & {
    address?: string;
    port?: number;
  };
  if (code === 'EADDRINUSE')
    return `Expected a free address, got ${address}:${port}: another program listens there (--listen-client-urls, --listen-metrics-urls)`;
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return `Expected an address of this machine, got ${address ?? error.message}`;
  if (code === 'EACCES' && (syscall === 'listen' || syscall === 'bind'))
    return `Expected an address this user may listen on, got ${address}:${port}`;
  return error.message;
}

/** Encrypted ones for clients that others than this machine reach, where nobody asks who comes. Of plain text the flags have asked. */
function openAddresses({ listenClientUrls, tls }: Config): readonly string[] {
  if (tls?.trustedCaFile !== undefined) return [];
  const open = listenClientUrls.filter(({ scheme, host }) => scheme === 'https' && !isLoopback(host));
  return open.map(({ text }) => text);
}

interface Prepared {
  readonly config: Config;
  readonly topology: Topology;
}

async function prepare(args: readonly string[], io: Io): Promise<Prepared> {
  const logsTo = process.stderr.isTTY ? 'terminal' : 'elsewhere';
  const config = readConfig(args, io.env, { name: hostname(), logsTo });
  const { path, given } = config.topology;
  const present = given === 'by-name' || existsSync(path);
  const topology = loadTopology({
    ...(present ? { path } : {}),
    ...(config.defaultEndpoint === undefined ? {} : { defaultEndpoint: config.defaultEndpoint }),
    env: io.env,
  });
  const backends = [topology.default, ...topology.backends];
  const problems = await ownAddressProblems(backends, config.listenClientUrls);
  if (problems.length > 0) throw new UsageError(problems);
  return { config, topology };
}

/** Runs until a signal. */
export async function runServe(args: readonly string[], io: Io): Promise<ExitCode> {
  if (args.includes('--help') || args.includes('-h')) {
    io.out(serveHelp());
    return exitCode.done;
  }
  const { config, topology } = await prepare(args, io);
  const worker = workerNumber(io.env);
  const logging = { level: config.logLevel, format: config.logFormat };
  const ownLogger = createLogger(logging);
  const log = new LogSwitch(logging);
  const logger = worker === undefined ? ownLogger : ownLogger.child({ worker });
  const onBroken = endOnBroken(logger);
  const role: Role = { worker, logger, log, onBroken };
  if (worker !== undefined) {
    // The supervisor gets it too, and tells all.
    process.on('SIGUSR2', () => undefined);
    shareLevel(log);
    try {
      return await runGateway({ config, topology }, role, io);
    } finally {
      leaveSupervisor();
    }
  }
  process.on('SIGUSR2', () => {
    changeLevel(logger, log, log.toggled, { signal: 'SIGUSR2' });
  });
  for (const address of openAddresses(config))
    logger.warn('clients need no certificate: whoever reaches the address reads and writes every key', {
      address,
      flag: '--trusted-ca-file',
    });
  for (const warning of topology.warnings) logger.warn('topology should be looked at', { warning });
  if (topology.path !== undefined && topology.defaultFrom === 'nothing')
    logger.warn('topology has no default, embedded SQLite is used', { store: topology.default.displayUrl });
  if (config.workers === 1) return runGateway({ config, topology }, role, io);
  return superviseWorkers({
    workers: config.workers,
    logger,
    log,
    signaled: stopSignal(logger),
    onServing: (serving) => {
      announce(serving, topology, io);
      logger.info('serving', { ...serving, name: config.name, workers: config.workers });
    },
  });
}

function announce({ clientUrls }: Serving, topology: Topology, io: Io): void {
  io.out(`switchyard ${version} serves ${clientUrls.join(', ')} from ${describe(topology)}`);
}

/** Ends the process at anything unforeseen. */
function endOnBroken(logger: Logger): (error: unknown) => void {
  const broken = (error: unknown) => {
    logger.error('a bug in switchyard was met, the process ends rather than serve wrong data', {
      error,
      stack: error instanceof Error ? error.stack : undefined,
    });
    // eslint-disable-next-line unicorn/no-process-exit -- nothing may be answered after this
    process.exit(exitCode.failed);
  };
  process.on('unhandledRejection', broken);
  process.on('uncaughtException', broken);
  return broken;
}

/** One gateway, until it is to stop. */
async function runGateway({ config, topology }: Prepared, role: Role, io: Io): Promise<ExitCode> {
  const { logger, worker } = role;
  const signaled: Promise<string> = worker === undefined ? stopSignal(logger) : workerStop();
  let gateway: Gateway;
  try {
    gateway = await start(config, topology, role);
  } catch (error) {
    io.err(`switchyard: ${startFailure(error)}`);
    return exitCode.failed;
  }
  const { clientUrls, metricsUrls } = gateway.server;
  if (worker === undefined) announce({ clientUrls, metricsUrls }, topology, io);
  else saysServing({ clientUrls, metricsUrls });
  logger.info('serving', { clientUrls, metricsUrls, name: config.name });
  const signal = await signaled;
  logger.info('stopping', { signal });
  await stop(gateway);
  logger.info('stopped');
  return exitCode.done;
}
