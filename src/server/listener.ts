// One address of the client port. HTTP/2 connections go to gRPC, HTTP/1 ones (kubeadm, probes, curl) to a plain HTTP
// handler, anything else gets a 400 from that handler and is closed: the first bytes decide. With TLS the certificate is
// replaced while running (tls-files.ts); connections that exist keep theirs.

import type { RequestListener } from 'node:http';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createNetServer, type Server as NetServer, type Socket } from 'node:net';
import { listenText, type ListenUrl } from '../lib/listen-url.ts';
import type { Logger } from '../lib/log.ts';
import { connectionsMax as defaultConnectionsMax } from './client-load.ts';
import type { TlsMaterial } from './tls-files.ts';
import { createTlsServer } from './tls-server.ts';

/** How every HTTP/2 connection begins (RFC 9113, 3.4); no HTTP/1 method begins like this. */
const http2Preface = Buffer.from('PRI * HTTP/2.0');
/** How long a connection may be silent before its first bytes, TLS handshake included, and within an HTTP/1 request. */
const silenceTimeoutMs = 20_000;
/** When the system begins to ask a silent peer whether it is still there: a watch may be silent for days, a dead client too. */
const keepAliveDelayMs = 30_000;
/** Refused connections are told of at most this often. */
const tellEveryMs = 10_000;

export interface ListenerOptions {
  readonly url: ListenUrl;
  readonly tls?: TlsMaterial;
  /** Takes a connection that speaks HTTP/2. */
  readonly injectHttp2: (socket: Socket) => void;
  readonly handleHttp: RequestListener;
  readonly logger: Logger;
  /** A connection was closed at once, since there are too many. */
  readonly onRefused?: () => void;
  /** For tests; default 20 s. */
  readonly silenceTimeoutMs?: number;
  /** For tests. */
  readonly connectionsMax?: number;
}

export interface Listener {
  /** Where it listens: with the real port where 0 was asked for. */
  readonly url: string;
  /** Takes no new connections and ends those that do not speak HTTP/2; resolves when the last connection is closed. */
  stopAccepting(): Promise<void>;
  /** Ends every connection there is, at once. */
  destroy(): void;
}

/** Binds the address. @throws Error of the system, for example EADDRINUSE. */
export async function listen(options: ListenerOptions): Promise<Listener> {
  const { url, logger } = options;
  const sockets = new Set<Socket>();
  /** Those that do not speak HTTP/2, or not yet. */
  const others = new Set<Socket>();
  const silenceMs = options.silenceTimeoutMs ?? silenceTimeoutMs;
  const http = createHttpServer(options.handleHttp);
  // The timeouts for requests are checked only by an HTTP server that listens itself.
  http.setTimeout(silenceMs);
  const injectHttp2 = (socket: Socket) => {
    others.delete(socket);
    options.injectHttp2(socket);
  };
  const server = createServer(options, (socket) => {
    others.add(socket);
    socket.once('close', () => others.delete(socket));
    classify(socket, { silenceMs, injectHttp2, handOverHttp: () => http.emit('connection', socket) });
  });
  const { connectionsMax = defaultConnectionsMax } = options;
  // One worker of several would else hand what is too much for it to the next one, and so on for ever, and tell nobody.
  Object.assign(server, { maxConnections: connectionsMax, dropMaxConnection: true });
  let toldAt = Number.NEGATIVE_INFINITY;
  server.on('drop', () => {
    options.onRefused?.();
    if (performance.now() - toldAt < tellEveryMs) return;
    toldAt = performance.now();
    logger.warn('client connections refused: there are too many', { connectionsMax });
  });
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    // A connection that breaks is the client's affair; whoever serves it learns of it by its end.
    socket.on('error', (error) => logger.debug('client connection failed', { error }));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: url.host, port: url.port }, () => {
      server.off('error', reject);
      server.on('error', (error) => logger.error('listening failed', { url: url.text, error }));
      resolve();
    });
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : url.port;
  return {
    url: listenText(url.scheme, url.host, port),
    stopAccepting: () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of others) socket.destroy();
      return closed;
    },
    destroy: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
}

function createServer(options: ListenerOptions, onConnection: (socket: Socket) => void): NetServer {
  const { tls, logger } = options;
  const socketOptions = { noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveDelayMs };
  if (tls === undefined) return createNetServer(socketOptions, onConnection);
  return createTlsServer({
    tls,
    logger,
    socketOptions,
    handshakeTimeoutMs: options.silenceTimeoutMs ?? silenceTimeoutMs,
    onConnection: (socket) => {
      socket.on('error', (error) => logger.debug('client connection failed', { error }));
      onConnection(socket);
    },
  });
}

/** Looks at the first bytes without taking them. */
function classify(
  socket: Socket,
  options: {
    readonly silenceMs: number;
    readonly injectHttp2: (socket: Socket) => void;
    readonly handOverHttp: () => void;
  },
): void {
  const giveUp = () => socket.destroy();
  socket.setTimeout(options.silenceMs, giveUp);
  let seen: Buffer = Buffer.alloc(0);
  const look = () => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) {
      if (!socket.readableEnded && !socket.destroyed) socket.once('readable', look);
      return;
    }
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const length = Math.min(seen.length, http2Preface.length);
    const matches = seen.subarray(0, length).equals(http2Preface.subarray(0, length));
    // What may still become either is kept until it is decided; given back at once it would be readable again at once.
    if (matches && length < http2Preface.length) {
      socket.once('readable', look);
      return;
    }
    socket.unshift(seen);
    socket.setTimeout(0);
    socket.off('timeout', giveUp);
    if (matches) options.injectHttp2(socket);
    else options.handOverHttp();
  };
  socket.once('readable', look);
}
