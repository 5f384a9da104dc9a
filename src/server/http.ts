// The HTTP/1 side: /livez, /readyz, /health, /version (health-pages.ts) and /metrics, on the metrics port and on the client port, where
// kubeadm and probes written for etcd look for them; on the metrics port the log's level too, for whoever is on this machine.

import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { isLoopback, listenText, type ListenUrl } from '../lib/listen-url.ts';
import { isLogLevel, logLevels, type Logger, type LogLevel } from '../lib/log.ts';
import { metricHead, type RpcMetrics } from './metrics.ts';
import { health, livez, readyz, version, type HealthOptions, type Page } from './health-pages.ts';

/** What the log writes, for those who change it. */
export interface LogControl {
  readonly level: LogLevel;
  /** Also for the other processes of the same server. */
  change(level: LogLevel): void;
}

export interface HttpOptions extends HealthOptions {
  readonly metrics: RpcMetrics;
  /** How many connections clients have. */
  readonly connections: () => number;
  readonly logger: Logger;
  /** Which of several processes this is, from 1; undefined: the only one. */
  readonly worker?: number;
  /** Undefined: the level of the log stays as it is. */
  readonly log?: LogControl | undefined;
}

interface Answer {
  readonly code: number;
  readonly type: 'text/plain; charset=utf-8' | 'application/json';
  readonly body: string;
}

const text = (code: number, body: string): Answer => ({ code, type: 'text/plain; charset=utf-8', body });
const json = (code: number, value: unknown): Answer => ({
  code,
  type: 'application/json',
  body: `${JSON.stringify(value)}\n`,
});

/** A value between the quotes of a label. */
function label(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function metrics(options: HttpOptions): Answer {
  const { metrics: rpc, readiness, router, connections, version: own, worker } = options;
  const which = worker === undefined ? '' : `,worker="${worker}"`;
  const lines = [
    ...metricHead('switchyard_build_info', 'gauge', 'The running version; always 1.'),
    `switchyard_build_info{version="${own}"${which}} 1`,
    ...metricHead('switchyard_connections', 'gauge', 'HTTP/2 connections of clients that are open.'),
    `switchyard_connections ${connections()}`,
    ...metricHead('switchyard_store_up', 'gauge', 'Whether the store answered when it was last asked.'),
  ];
  for (const { store, failure } of readiness.latest()) {
    lines.push(
      `switchyard_store_up{store="${store.name}",engine="${store.engine}"} ${failure === undefined ? 1 : 0}`,
    );
  }
  for (const [name, field, help] of [
    ['switchyard_store_revision', 'revision', 'The latest revision of the store.'],
    ['switchyard_store_bytes', 'dbSize', 'Size of the store, as it tells itself.'],
  ] as const) {
    lines.push(...metricHead(name, 'gauge', help));
    for (const { store, status } of readiness.latest()) {
      if (status !== undefined) lines.push(`${name}{store="${store.name}"} ${status[field]}`);
    }
  }
  const mismatch = 'switchyard_placement_mismatch';
  lines.push(
    ...metricHead(mismatch, 'gauge', 'Types that live elsewhere than the topology wishes; always 1.'),
  );
  for (const { root, recorded, wished } of router.mismatches())
    lines.push(
      `${mismatch}{root="${label(root)}",recorded="${label(recorded)}",wished="${label(wished)}"} 1`,
    );
  const unserved = 'switchyard_type_unserved';
  lines.push(...metricHead(unserved, 'gauge', 'Types whose store is not in the topology; always 1.'));
  for (const { root, store } of router.unserved())
    lines.push(`${unserved}{root="${label(root)}",store="${label(store)}"} 1`);
  return text(200, `${rpc.render()}${lines.join('\n')}\n`);
}

const levelPath = '/debug/flags/log-level';
/** More than any level has. */
const levelBytesMax = 100;

function asAnswer({ code, body }: Page): Answer {
  return typeof body === 'string' ? text(code, body) : json(code, body);
}

/** A part of a path; one that is not well encoded is nothing that there is. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function answer({ pathname, searchParams }: URL, options: HttpOptions): Promise<Answer> {
  const [, page, rest = ''] = /^\/(livez|readyz)(?:\/(.*))?$/u.exec(pathname) ?? [];
  if (page === 'livez') return asAnswer(livez(rest, searchParams));
  if (page === 'readyz') return asAnswer(await readyz(decoded(rest), searchParams, options));
  switch (pathname) {
    case '/health':
      return asAnswer(await health(options));
    case '/version':
      return asAnswer(await version(options));
    case '/metrics':
      return metrics(options);
    default:
      return text(404, 'Expected /livez, /readyz, /health, /version or /metrics\n');
  }
}

function send(response: ServerResponse, { code, type, body }: Answer): void {
  response.writeHead(code, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}

/** Reads, or with PUT sets, how much is logged. As `/debug/flags/v` of Kubernetes, with the flag's own name and values. */
async function levelAnswer(request: IncomingMessage, { log, logger }: HttpOptions): Promise<Answer> {
  if (log === undefined) return text(404, 'Expected a log whose level can be changed\n');
  // On a socket of IPv6 an address of IPv4 is written in its way.
  const client = request.socket.remoteAddress?.replace(/^::ffff:/u, '') ?? '';
  if (!isLoopback(client)) return text(403, `Expected a client on this machine, got ${client}\n`);
  if (request.method === 'GET') return text(200, `${log.level}\n`);
  if (request.method !== 'PUT') return text(405, 'Expected GET or PUT\n');
  let body = '';
  for await (const chunk of request.setEncoding('utf8')) {
    body += String(chunk);
    if (body.length > levelBytesMax) break;
  }
  const level = body.trim();
  if (!isLogLevel(level)) return text(400, `Expected ${logLevels.join(', ')} as the body\n`);
  const before = log.level;
  log.change(level);
  logger.warn('log level changed', { level, before });
  return text(200, `successfully set log-level to ${level}\n`);
}

/** The handler of a port. On `metrics` there is the log's level, too. Else GET and HEAD requests are answered. */
export function createHttpHandler(options: HttpOptions, port: 'client' | 'metrics'): RequestListener {
  const answerTo = async (request: IncomingMessage): Promise<Answer> => {
    const url = URL.parse(request.url ?? '/', 'http://localhost');
    if (url === null) return text(400, 'Expected a path\n');
    if (port === 'metrics' && url.pathname === levelPath && request.method !== 'HEAD')
      return await levelAnswer(request, options);
    if (request.method !== 'GET' && request.method !== 'HEAD') return text(405, 'Expected GET or HEAD\n');
    return await answer(url, options);
  };
  return (request, response) => {
    answerTo(request).then(
      (found) => send(response, found),
      (error: unknown) => {
        options.logger.error('HTTP request failed', { path: request.url, error });
        send(response, text(500, 'internal error\n'));
      },
    );
  };
}

export interface HttpListener {
  readonly url: string;
  close(): void;
}

/** Binds one address of the metrics port. @throws Error of the system, for example EADDRINUSE. */
export async function listenHttp(url: ListenUrl, handler: RequestListener): Promise<HttpListener> {
  const server: Server = createServer(handler);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: url.host, port: url.port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : url.port;
  return {
    url: listenText(url.scheme, url.host, port),
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
