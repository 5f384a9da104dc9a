// Servers that speak TLS, and whom they let in: the one place where a handshake is judged. Used by listener.ts and http.ts. New
// material is taken as it comes, until a server is closed; connections that exist keep theirs.

import type { RequestListener } from 'node:http';
import { createServer as createHttps, type Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls';
import type { Logger } from '../lib/log.ts';
import { refusalOf } from './client-names.ts';
import type { TlsMaterial } from './tls-files.ts';

/** Whoever is refused may come again at once; a line is written at most this often, with how many came meanwhile. */
const tellEveryMs = 1_000;
/** Of who asks for pages. */
const pageHandshakeMsMax = 20_000;

export interface TlsServerOptions {
  readonly tls: TlsMaterial;
  readonly logger: Logger;
  readonly socketOptions: {
    readonly noDelay: boolean;
    readonly keepAlive: boolean;
    readonly keepAliveInitialDelay: number;
  };
  readonly handshakeTimeoutMs: number;
  /** Takes a connection whose client may be here; nothing has been read from it. */
  readonly onConnection: (socket: TLSSocket) => void;
}

/** For clients of keys, who are let in by name. */
export function createTlsServer(options: TlsServerOptions): Server {
  const { tls, logger, onConnection } = options;
  const server = createServer({
    ...optionsOf(tls),
    ...options.socketOptions,
    ALPNProtocols: ['h2', 'http/1.1'],
    handshakeTimeout: options.handshakeTimeoutMs,
  });
  const tell = attend(server, { tls, logger });
  server.on('secureConnection', (socket) => {
    const refusal = tls.allowedClients && refusalOf(socket, tls.allowedClients);
    if (refusal === undefined) return onConnection(socket);
    tell('client certificate refused', socket, refusal);
    socket.on('error', () => undefined);
    socket.destroy();
  });
  return server;
}

/**
 * For what is told of the server itself. Where clients show certificates, any of the authority will do: a monitor has one of its
 * own, whose name is not among those that may read and write keys.
 */
export function createHttpsServer(
  handler: RequestListener,
  { tls, logger }: { readonly tls: TlsMaterial; readonly logger: Logger },
): HttpsServer {
  const options = { ALPNProtocols: ['http/1.1'], handshakeTimeout: pageHandshakeMsMax };
  const server = createHttps({ ...optionsOf(tls), ...options }, handler);
  attend(server, { tls, logger });
  return server;
}

function optionsOf(tls: TlsMaterial): TlsOptions {
  const { context, demandsClientCertificate: demands } = tls;
  return { ...context, requestCert: demands, rejectUnauthorized: demands };
}

type Tell = (message: string, socket: Socket, error: unknown) => void;

/** Keeps the server's material up to date, and tells of handshakes that fail. */
function attend(
  server: Server,
  { tls, logger }: { readonly tls: TlsMaterial; readonly logger: Logger },
): Tell {
  const tell = rarely(logger);
  server.on('tlsClientError', (error, socket) => {
    // Where a certificate is refused, the error says only that the connection was ended.
    const reason = socket.authorizationError as unknown;
    // kube-apiserver begins dozens of handshakes when it starts, and leaves them.
    if (reason === null && hasLeft(error)) logger.debug('client left within its TLS handshake');
    else tell('TLS handshake failed', socket, reason ?? error);
    // One that took too long is still open.
    socket.destroy();
  });
  tls.onChange(server);
  server.once('close', () => tls.offChange(server));
  return tell;
}

const hasLeft = (error: Error) => 'code' in error && error.code === 'ECONNRESET';

/** Writes one line a while for each message, and with the next one how many were left out. */
function rarely(logger: Logger): Tell {
  const told = new Map<string, { readonly atMs: number; repeats: number }>();
  return (message, { remoteAddress }, error) => {
    const last = told.get(message) ?? { atMs: Number.NEGATIVE_INFINITY, repeats: 0 };
    if (performance.now() - last.atMs < tellEveryMs) {
      last.repeats++;
      return;
    }
    const more = last.repeats === 0 ? {} : { repeats: last.repeats };
    logger.warn(message, { client: remoteAddress ?? 'gone', error, ...more });
    told.set(message, { atMs: performance.now(), repeats: 0 });
  };
}
