// The HTTP/1 side: /livez, /readyz, /health, /version (health-pages.ts) and /metrics, on the metrics port and on the client port, where
// kubeadm and probes written for etcd look for them; on the metrics port the log's level too, for whoever is on this machine.

import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { isLoopback, listenText, type ListenUrl } from '../lib/listen-url.ts';
import { changeLevel, isLogLevel, logLevels, type LogControl, type Logger } from '../lib/log.ts';
import type { Metrics } from './metrics/registry.ts';
import { health, livez, readyz, version, type HealthOptions, type Page } from './health-pages.ts';
import type { TlsMaterial } from './tls-files.ts';
import { createHttpsServer } from './tls-server.ts';

export interface HttpOptions extends HealthOptions {
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Undefined: the level of the log stays as it is. */
  readonly log?: LogControl | undefined;
}

interface Answer {
  readonly code: number;
  /** For `content-type`. */
  readonly type: string;
  readonly body: string;
}

const text = (code: number, body: string): Answer => ({ code, type: 'text/plain; charset=utf-8', body });
const json = (code: number, value: unknown): Answer => ({
  code,
  type: 'application/json',
  body: `${JSON.stringify(value)}\n`,
});

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
      return { code: 200, type: options.metrics.contentType, body: await options.metrics.text() };
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
    // To its end: one who is still writing would wait for ever, and so would the next request on the connection.
    if (body.length <= levelBytesMax) body += String(chunk);
  }
  const level = body.trim();
  if (!isLogLevel(level)) return text(400, `Expected ${logLevels.join(', ')} as the body\n`);
  changeLevel(logger, log, level);
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
        // Who has left in the middle of a request gets no answer, and nothing is wrong here.
        if (request.destroyed && !request.complete) return;
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

export interface HttpListenerOptions {
  readonly url: ListenUrl;
  readonly handler: RequestListener;
  /** Undefined: plain text. */
  readonly tls?: TlsMaterial;
  readonly logger: Logger;
}

/** Binds one address of the metrics port. @throws Error of the system, for example EADDRINUSE. */
export async function listenHttp(options: HttpListenerOptions): Promise<HttpListener> {
  const { url, handler, tls, logger } = options;
  const server = tls === undefined ? createServer(handler) : createHttpsServer(handler, { tls, logger });
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
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
      // Also those that are not through with their handshake.
      for (const socket of sockets) socket.destroy();
    },
  };
}
