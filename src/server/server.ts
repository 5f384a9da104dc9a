// The gRPC server: every service of proto/ on the client addresses, HTTP beside it, and an orderly end. Nothing here knows
// what a request means; the services do. Used by cli/serve.ts.

import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { acceptCall, type IncomingCall } from '../grpc/incoming-call.ts';
import { grpcCode } from '../grpc/codes.ts';
import { ConnectionError, errorCode, LimitError } from '../http2/frame.ts';
import { ServerConnection } from '../http2/server-connection.ts';
import type { Clock } from '../lib/clock.ts';
import { inTime } from '../lib/in-time.ts';
import type { ListenUrl } from '../lib/listen-url.ts';
import type { LogControl, Logger } from '../lib/log.ts';
import type { Observers } from '../lib/observer.ts';
import type { TraceContext } from '../lib/trace-context.ts';
import type { Router } from '../router/router.ts';
import { createAuthService } from './auth.ts';
import { CallAdapters, type Serve } from './call.ts';
import { ClientLoads } from './client-load.ts';
import { createClusterService } from './cluster.ts';
import { FailureLog } from './failure-log.ts';
import { createHealthService } from './health.ts';
import { createHttpHandler, listenHttp, type HttpListener } from './http.ts';
import { createKvService } from './kv.ts';
import { createLeaseService } from './lease.ts';
import { LifeCycle } from './life-cycle.ts';
import { listen, type Listener } from './listener.ts';
import { createMaintenanceService } from './maintenance.ts';
import { CallMetrics } from './metrics/calls.ts';
import { remembered } from './metrics/families.ts';
import { createMetrics } from './metrics/registry.ts';
import type { ConnectionFigures } from './metrics/server-families.ts';
import { createReadiness, type Readiness } from './readiness.ts';
import { createRecipeServices } from './recipes.ts';
import type { Identity, Service, ServiceOptions } from './service.ts';
import { SlowRequests } from './slow-requests.ts';
import { SlowStatements } from './slow-statements.ts';
import { TlsMaterial, type TlsSettings } from './tls-files.ts';
import { createWatchService } from './watch.ts';

/**
 * Most bytes of one request. Above etcd's own limit (1.5 MiB and 512 KiB of overhead), so that what is too large is
 * answered with etcd's text and not with the transport's.
 */
const messageBytesMax = 8 * 1024 * 1024;
/** What a client may send without waiting for us, on one stream and on all of a connection: most requests whole. */
const streamWindowBytes = 1024 * 1024;
const connectionWindowBytes = 16 * 1024 * 1024;
/** How long the status of an ended stream may take to leave before its connection is told to close. */
const statusGraceMs = 100;
/** How long clients may take to close their connections once all calls are done. */
const closeTimeoutMs = 1_000;

export interface ServerOptions {
  readonly router: Router;
  readonly name: string;
  /** See `memberIdOf`. */
  readonly memberId: bigint;
  readonly listenClientUrls: readonly ListenUrl[];
  readonly listenMetricsUrls: readonly ListenUrl[];
  /** What MemberList tells; empty: the addresses listened on. */
  readonly advertiseClientUrls: readonly string[];
  readonly tls?: TlsSettings;
  readonly progressNotifyIntervalMs: number;
  /** How long the server goes on when it is to stop, and only says so, for whoever sends it clients; 0: not at all. */
  readonly shutdownDelayMs: number;
  /** How long running calls may take to finish when the server stops. */
  readonly drainTimeoutMs: number;
  /** switchyard's own version. */
  readonly version: string;
  /** Which of several processes on the same client addresses this is, from 1; undefined: the only one. */
  readonly worker?: number;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Told of every call that was served; the stores tell it of what databases are asked. */
  readonly observers: Observers;
  /** Requests and statements that took as long, in milliseconds, are logged; infinite: none. */
  readonly slowRequestsMs: number;
  readonly slowStatementsMs: number;
  /** See CallOptions. */
  readonly trace?: ((traceParent: string | undefined) => TraceContext | undefined) | undefined;
  /** Undefined: the level of the log stays as it is. */
  readonly log?: LogControl | undefined;
  /** A broken invariant was met in a call: serving on could serve wrong history. */
  readonly onBroken: (error: Error) => void;
}

export interface RunningServer {
  /** Where it listens, with the real ports. */
  readonly clientUrls: readonly string[];
  readonly metricsUrls: readonly string[];
  /**
   * Stops: says so for `shutdownDelayMs`, then takes no new connections, streams end with Unavailable, running calls finish within `drainTimeoutMs`, then every
   * connection is closed. Several calls share one drain. The stores stay open.
   */
  drain(): Promise<void>;
}

/** The member id of a gateway: constant for its name and addresses, never zero. */
export function memberIdOf(name: string, listenClientUrls: readonly ListenUrl[]): bigint {
  const text = [name, ...listenClientUrls.map((url) => url.text)].join('\n');
  const id = createHash('sha256').update(text).digest().readBigUInt64BE();
  return id === 0n ? 1n : id;
}

/** The full name of each service. */
const serviceNames = {
  KV: 'etcdserverpb.KV',
  Watch: 'etcdserverpb.Watch',
  Lease: 'etcdserverpb.Lease',
  Cluster: 'etcdserverpb.Cluster',
  Maintenance: 'etcdserverpb.Maintenance',
  Auth: 'etcdserverpb.Auth',
  Lock: 'v3lockpb.Lock',
  Election: 'v3electionpb.Election',
  Health: 'grpc.health.v1.Health',
} as const;

/** What the parts of one server share. */
interface Parts {
  readonly readiness: Readiness;
  readonly calls: CallMetrics;
  readonly adapters: CallAdapters;
  readonly lifeCycle: LifeCycle;
  /** Aborted when the server drains. */
  readonly shutdown: AbortController;
  readonly identity: Identity;
  readonly tls: TlsMaterial | undefined;
}

/** What serves each method, by its path. */
function methodsOf(options: ServerOptions, parts: Parts): ReadonlyMap<string, Serve> {
  const { router, logger, progressNotifyIntervalMs } = options;
  const { readiness, adapters, identity, lifeCycle } = parts;
  const serviceOptions: ServiceOptions = { router, identity, logger, progressNotifyIntervalMs };
  const services: Record<keyof typeof serviceNames, Service> = {
    KV: createKvService(serviceOptions),
    Watch: createWatchService(serviceOptions),
    Lease: createLeaseService(serviceOptions),
    Cluster: createClusterService(serviceOptions),
    Maintenance: createMaintenanceService(serviceOptions, readiness),
    Auth: createAuthService(serviceOptions),
    ...createRecipeServices(serviceOptions),
    Health: createHealthService({ readiness, lifeCycle, clock: options.clock }),
  };
  const methods = new Map<string, Serve>();
  for (const [name, { unary, bidi, serverStream }] of Object.entries(services)) {
    const pathOf = (method: string) => `/${serviceNames[name as keyof typeof serviceNames]}/${method}`;
    for (const [method, handler] of Object.entries(unary ?? {}))
      methods.set(pathOf(method), adapters.unary(pathOf(method), handler));
    for (const [method, handler] of Object.entries(bidi ?? {}))
      methods.set(pathOf(method), adapters.bidi(pathOf(method), handler));
    for (const [method, handler] of Object.entries(serverStream ?? {}))
      methods.set(pathOf(method), adapters.serverStream(pathOf(method), handler));
  }
  return methods;
}

interface ConnectionsOptions {
  readonly calls: CallMetrics;
  readonly logger: Logger;
}

/** What clients may be refused for, as the metrics name it. */
const limits = [
  'asked',
  'answers',
  'abandoned',
  'watches',
  'streams',
  'connections',
  'greeting',
  'headers',
  'unread',
] as const;

/** The HTTP/2 connections of clients. */
class Connections {
  readonly #methods: ReadonlyMap<string, Serve>;
  readonly #logger: Logger;
  readonly #loads: ClientLoads;
  readonly #open = new Map<ServerConnection, Socket>();
  readonly #refused = new Map<string, number>(limits.map((limit) => [limit, 0]));
  #accepted = 0;
  /** Of connections that are closed. */
  #bytesReceived = 0;
  #bytesSent = 0;
  /** Of all connections. */
  readonly #traffic = remembered(() => {
    let bytesReceived = this.#bytesReceived;
    let bytesSent = this.#bytesSent;
    for (const { bytesRead, bytesWritten, writableLength } of this.#open.values()) {
      bytesReceived += bytesRead;
      // What Node holds has not left, and never does where the connection ends first.
      bytesSent += bytesWritten - writableLength;
    }
    return { bytesReceived, bytesSent };
  });

  constructor(methods: ReadonlyMap<string, Serve>, { calls, logger }: ConnectionsOptions) {
    this.#methods = methods;
    this.#logger = logger;
    this.#loads = new ClientLoads({
      refused: (tooMuch, path) => {
        this.refused(tooMuch);
        // One that was reset got no answer.
        if (path !== undefined && tooMuch !== 'abandoned') calls.refused(path, grpcCode.resourceExhausted);
      },
    });
  }

  /** Something was refused for `limit`. */
  refused(limit: (typeof limits)[number]): void {
    this.#refused.set(limit, (this.#refused.get(limit) ?? 0) + 1);
  }

  figures(): ConnectionFigures {
    const [open, accepted] = [this.#open.size, this.#accepted];
    return { open, accepted, ...this.#traffic(), held: this.#loads.held, refused: this.#refused };
  }

  /** Serves what comes over `socket`. */
  add(socket: Socket): void {
    const load = this.#loads.newClient((error) => connection.fail(error));
    const serve = (call: IncomingCall) => this.#methods.get(call.path)?.(call, load);
    const connection = new ServerConnection({
      socket,
      streamWindowBytes,
      connectionWindowBytes,
      onStream: (stream, fields) => acceptCall(stream, fields, { messageBytesMax, load, serve }),
      onRefused: (limit) => this.refused(limit),
      onClose: (error) => {
        this.#open.delete(connection);
        this.#bytesReceived += socket.bytesRead;
        this.#bytesSent += socket.bytesWritten;
        if (error === undefined) return;
        if (error instanceof LimitError) this.refused(error.limit);
        const isOurs = error instanceof ConnectionError && error.code === errorCode.internalError;
        this.#logger[isOurs ? 'error' : 'debug']('client connection ended', { error });
      },
    });
    this.#open.set(connection, socket);
    this.#accepted++;
  }

  /** Tells every client to go elsewhere; their connections close with their last calls. */
  leave(): void {
    for (const connection of this.#open.keys()) connection.leave();
  }

  destroy(): void {
    for (const connection of this.#open.keys()) connection.destroy();
  }
}

interface Bound {
  readonly clients: readonly Listener[];
  readonly metrics: readonly HttpListener[];
}

/** Every address, or none: what was bound is released when one cannot be. */
async function bindAll(options: ServerOptions, parts: Parts, connections: Connections): Promise<Bound> {
  const { router, logger, version, worker, log } = options;
  const { readiness, calls, lifeCycle, tls } = parts;
  const pages = {
    readiness,
    metrics: createMetrics({
      version,
      worker,
      calls,
      connections: () => connections.figures(),
      certificateEndsAt: () => tls?.endsAt,
      readiness,
      router,
    }),
    router,
    logger,
    version,
    lifeCycle,
    log,
  };
  const handleHttp = createHttpHandler(pages, 'client');
  const handleMetrics = createHttpHandler(pages, 'metrics');
  const onRefused = () => connections.refused('connections');
  const injectHttp2 = (socket: Socket) => connections.add(socket);
  const secure = ({ scheme }: ListenUrl) => (scheme === 'https' && tls !== undefined ? { tls } : {});
  const bound = { clients: [] as Listener[], metrics: [] as HttpListener[] };
  try {
    // The first to be there: who looks after a start sees it.
    for (const url of options.listenMetricsUrls)
      bound.metrics.push(await listenHttp({ url, handler: handleMetrics, ...secure(url), logger }));
    for (const url of options.listenClientUrls) {
      bound.clients.push(await listen({ url, ...secure(url), injectHttp2, handleHttp, logger, onRefused }));
    }
    lifeCycle.enter('serving');
    return bound;
  } catch (error) {
    // Nobody is connected yet.
    await Promise.all(bound.clients.map((listener) => listener.stopAccepting()));
    for (const listener of bound.metrics) listener.close();
    throw error;
  }
}

/** See RunningServer.drain; what is left is released by the caller. */
async function drain(
  options: ServerOptions,
  parts: Parts,
  connections: Connections,
  bound: Bound,
): Promise<void> {
  const { adapters, shutdown, lifeCycle } = parts;
  lifeCycle.enter('stopping');
  // Those who watch the health of the server hear of it before their streams end.
  await new Promise(setImmediate);
  if (options.shutdownDelayMs > 0) await options.clock.sleep(options.shutdownDelayMs);
  const closed = Promise.all(bound.clients.map((listener) => listener.stopAccepting()));
  const streams = adapters.streamsOpen;
  shutdown.abort();
  // A client that is told to go away before its streams have ended takes them for broken.
  if (streams > 0) await inTime(closed, statusGraceMs);
  connections.leave();
  const outcome = await inTime(adapters.idle(), options.drainTimeoutMs);
  if (outcome === 'late') options.logger.warn('calls cut off', { waitedMs: options.drainTimeoutMs });
  else await inTime(closed, closeTimeoutMs);
  for (const listener of bound.clients) listener.destroy();
  for (const listener of bound.metrics) listener.close();
}

/** Registers the services and starts to listen. @throws TlsFileError, or the system's error when an address cannot be bound. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { router, logger, clock } = options;
  const tls = options.tls === undefined ? undefined : new TlsMaterial(options.tls, logger);
  const readiness = createReadiness({ stores: () => router.stores(), clock, logger });
  const shutdown = new AbortController();
  const lifeCycle = new LifeCycle();
  const clientUrls = [...options.advertiseClientUrls];
  const identity: Identity = { name: options.name, memberId: options.memberId, clientUrls };
  const calls = new CallMetrics();
  const failures = new FailureLog({ logger, clock });
  const { observers, slowRequestsMs, slowStatementsMs } = options;
  const isSlowTold = Number.isFinite(slowRequestsMs);
  const slow = isSlowTold
    ? new SlowRequests({ logger, clock, atLeastMs: slowRequestsMs, router })
    : undefined;
  const statements = new SlowStatements({ logger, clock, atLeastMs: slowStatementsMs });
  if (Number.isFinite(slowStatementsMs)) observers.add(statements);
  const adapters = new CallAdapters({
    failures,
    metrics: calls,
    observer: observers,
    slow,
    trace: options.trace,
    shutdown: shutdown.signal,
    onBroken: options.onBroken,
  });
  const parts: Parts = { readiness, calls, adapters, lifeCycle, shutdown, identity, tls };
  const connections = new Connections(methodsOf(options, parts), { calls, logger });
  const release = () => {
    connections.destroy();
    failures.flush();
    slow?.flush();
    statements.flush();
    readiness.close();
    tls?.close();
  };
  let bound: Bound;
  try {
    bound = await bindAll(options, parts, connections);
  } catch (error) {
    release();
    throw error;
  }
  if (clientUrls.length === 0) clientUrls.push(...bound.clients.map(({ url }) => url));

  const stop = () => drain(options, parts, connections, bound).finally(release);
  let stopping: Promise<void> | undefined;
  return {
    clientUrls: bound.clients.map(({ url }) => url),
    metricsUrls: bound.metrics.map(({ url }) => url),
    drain: () => (stopping ??= stop()),
  };
}
