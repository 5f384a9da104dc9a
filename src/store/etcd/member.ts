// One member of an etcd: an HTTP/2 connection that is made when it is asked for and made again when it is lost. Used by
// connection.ts, which chooses among members.
//
// States: without a connection (an attempt may be under way, or wait for its backoff), connected, and logged in where there is a
// login. A connection that is told to go away, or that is worn out, is left at once; calls that it carries end by themselves.

import { connect as connectPlain, isIP, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, type ConnectionOptions as TlsOptions } from 'node:tls';
import { StatusError } from '../../grpc/status.ts';
import { ClientConnection } from '../../http2/client-connection.ts';
import type { HeaderFields } from '../../http2/hpack.ts';
import type { Http2Stream, StreamListener } from '../../http2/stream.ts';
import { createBackoff } from '../../lib/backoff.ts';
import { inTime } from '../../lib/in-time.ts';
import type { RawMetadata } from '../store.ts';
import { authenticateMethod, logIn, type EtcdLogin } from './login.ts';
import { statusOfEnd, type OpenStream } from './outgoing-call.ts';

/** How long the other side may take to greet. */
const greetingMsMax = 5_000;
const reconnectBackoffMsMin = 100;
const reconnectBackoffMsMax = 2_000;
/** A connection that has lasted so long was of use: what ended it need not end the next one. */
const steadyMs = 1_000;
/** HTTP/2 has 2^30 streams for a connection. */
const callsMaxDefault = 2 ** 29;
/** etcd permits pings from 5 s on (`--grpc-keepalive-min-time`), and only while a call is open. */
const keepaliveMs = 6_000;
const keepaliveTimeoutMs = 4_000;
/** etcd forgets a token that nobody has used for five minutes (`--auth-token-ttl`). */
const renewEveryMs = 120_000;
/** Bytes of answers on their way; HTTP/2's own default of 64 KiB makes long lists and busy watches wait for acknowledgements. */
const flowControlWindowBytes = 8 * 1024 * 1024;

export interface MemberOptions {
  /** `http://host:port` or `https://host:port`; a login in it is not looked at. */
  readonly url: URL;
  /** Asked before each connection. @throws Error when they cannot be had: then there is no connection. */
  readonly tls: () => TlsOptions;
  /** Who speaks over the connection where a client does not say. */
  readonly login?: EtcdLogin;
  /** How many calls are made over one connection before another takes its place. */
  readonly callsMax?: number;
}

/** One connection, with what it carries. */
interface Connected {
  readonly http2: ClientConnection;
  /** By performance.now(). */
  readonly since: number;
  /** Calls made so far. */
  made: number;
  /** Of the login; undefined: etcd wants none. */
  token: string | undefined;
  renewal: Promise<boolean> | undefined;
}

export class EtcdMember {
  /** `host:port`. */
  readonly address: string;
  readonly #options: MemberOptions;
  readonly #backoff = createBackoff({ firstMs: reconnectBackoffMsMin, maxMs: reconnectBackoffMsMax });
  #connected: Connected | undefined;
  #attempt: Promise<void> | undefined;
  /** All that have not closed: the one in use, one being opened, those left whose calls have not ended. */
  readonly #connections = new Set<ClientConnection>();
  readonly #fields = new Map<string, HeaderFields>();
  /** No attempt begins before; by performance.now(). */
  #notBefore = 0;
  #closed = false;
  /** Why the last attempt failed, or the last connection ended. */
  #reason: string | undefined;

  constructor(options: MemberOptions) {
    this.#options = options;
    const { hostname, port, protocol } = options.url;
    // A URL does not tell its scheme's own port.
    const ownPort = protocol === 'https:' ? '443' : '80';
    this.address = `${hostname}:${port === '' ? ownPort : port}`;
  }

  /** Why there is no connection, as far as that is known. */
  get reason(): string | undefined {
    return this.#reason;
  }

  /** Whether calls can be made now. Where not, a connection is made in the background. */
  isReady(): boolean {
    if (this.#live !== undefined) return true;
    if (performance.now() >= this.#notBefore) void this.#attemptOnce();
    return false;
  }

  /** Resolves with whether there is a connection, when there is one or `deadline` (by performance.now()) is over. */
  async ready(deadline: number): Promise<boolean> {
    while (this.#live === undefined && !this.#closed) {
      const left = deadline - performance.now();
      if (left <= 0) return false;
      const pause = this.#notBefore - performance.now();
      if (this.#attempt === undefined && pause > 0) await sleep(Math.min(pause, left));
      else await inTime(this.#attemptOnce(), left);
    }
    return this.#live !== undefined;
  }

  /** Opens a call. @throws StatusError Unavailable when there is no connection. */
  open(method: string, metadata: RawMetadata, listener: StreamListener): Http2Stream {
    const connected = this.#live;
    if (connected === undefined) {
      // Lost since the caller has looked.
      const { code, details } = statusOfEnd(undefined);
      throw new StatusError(code, details);
    }
    const varying = Object.entries(metadata).flat();
    if (connected.token !== undefined && metadata['token'] === undefined)
      varying.push('token', connected.token);
    const stream = connected.http2.open(this.#fieldsOf(method), varying, listener);
    connected.made++;
    if (connected.made >= (this.#options.callsMax ?? callsMaxDefault)) {
      this.#connected = undefined;
      connected.http2.leave();
    }
    return stream;
  }

  /** Asks for a token in the place of one that counts no more; answers whether there is another. Never rejects. */
  logInAgain(): Promise<boolean> {
    const connected = this.#live;
    if (connected === undefined) return Promise.resolve(false);
    const renew = async () => {
      try {
        connected.token = await this.#logIn(connected.http2);
        return true;
      } catch (error) {
        this.#reason = reasonOf(error as Error);
        return false;
      } finally {
        connected.renewal = undefined;
      }
    };
    return (connected.renewal ??= renew());
  }

  /** Ends the calls under way. */
  close(): void {
    this.#closed = true;
    for (const http2 of this.#connections) http2.destroy();
  }

  get #live(): Connected | undefined {
    return this.#connected?.http2.isOpen === true ? this.#connected : undefined;
  }

  /** The headers that all calls of a method have. */
  #fieldsOf(method: string): HeaderFields {
    let fields = this.#fields.get(method);
    if (fields === undefined) {
      fields = [
        ':method',
        'POST',
        ':scheme',
        this.#options.url.protocol.slice(0, -1),
        ':path',
        method,
        ':authority',
        this.address,
        'te',
        'trailers',
        'content-type',
        'application/grpc',
      ];
      this.#fields.set(method, fields);
    }
    return fields;
  }

  /** Never rejects. */
  #attemptOnce(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    return (this.#attempt ??= this.#connect().finally(() => (this.#attempt = undefined)));
  }

  /** Resolves when there is a connection, or none could be made. */
  #connect(): Promise<void> {
    let socket: Socket;
    try {
      socket = this.#socket();
    } catch (error) {
      this.#lost(undefined, reasonOf(error as Error));
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      let connected: Connected | undefined;
      let stopTimers: (() => void) | undefined;
      const begin = (token: string | undefined) => {
        // It may have ended while it was logged in.
        if (!http2.isOpen) return;
        connected = { http2, since: performance.now(), made: 0, token, renewal: undefined };
        stopTimers = this.#startTimers(http2);
        this.#connected = connected;
        this.#reason = undefined;
        resolve();
      };
      const greeting = setTimeout(
        () => http2.destroy(new Error(`no greeting within ${greetingMsMax} ms`)),
        greetingMsMax,
      );
      const http2 = new ClientConnection({
        socket,
        streamWindowBytes: flowControlWindowBytes,
        connectionWindowBytes: flowControlWindowBytes,
        onReady: () => {
          clearTimeout(greeting);
          if (this.#options.login === undefined) return begin(undefined);
          this.#logIn(http2).then(begin, (error: unknown) => http2.destroy(error as Error));
        },
        onGoaway: () => {
          if (connected !== undefined) this.#lost(connected, 'etcd closed the connection');
        },
        onClose: (error) => {
          clearTimeout(greeting);
          stopTimers?.();
          this.#connections.delete(http2);
          // One who hangs up within the TLS handshake has said no more than that; the socket knows when it was.
          const cause = error ?? socket.errored;
          this.#lost(connected, cause === null ? 'the connection was closed' : reasonOf(cause));
          resolve();
        },
      });
      this.#connections.add(http2);
    });
  }

  /** @throws Error when there is no password, or etcd does not take it. */
  async #logIn(http2: ClientConnection): Promise<string | undefined> {
    const open: OpenStream = (listener) => http2.open(this.#fieldsOf(authenticateMethod), [], listener);
    const { login } = this.#options;
    return login && (await logIn(login, open, AbortSignal.timeout(greetingMsMax)));
  }

  /** Of a connection in use; answers what ends them. */
  #startTimers(http2: ClientConnection): () => void {
    const stopPings = pingWhileCalled(http2);
    if (this.#options.login === undefined) return stopPings;
    const renewal = setInterval(() => void this.logInAgain(), renewEveryMs).unref();
    return () => {
      clearInterval(renewal);
      stopPings();
    };
  }

  /** @throws Error when TLS files cannot be used. */
  #socket(): Socket {
    const { url, tls } = this.#options;
    const host = url.hostname.replace(/^\[(.*)\]$/u, '$1');
    const port = Number(this.address.slice(this.address.lastIndexOf(':') + 1));
    const socket =
      url.protocol === 'https:'
        ? connectTls({
            ...tls(),
            host,
            port,
            ALPNProtocols: ['h2'],
            ...(isIP(host) === 0 ? { servername: host } : {}),
          })
        : connectPlain({ host, port });
    return socket.setNoDelay(true);
  }

  /** There is no connection now. `connected`: the one that was; undefined: none could be made. */
  #lost(connected: Connected | undefined, reason: string): void {
    // One that was left before has another in its place, or soon will.
    if (connected !== undefined && connected !== this.#connected) return;
    this.#connected = undefined;
    this.#reason = reason;
    const isSteady = connected !== undefined && performance.now() - connected.since >= steadyMs;
    if (isSteady) this.#backoff.reset();
    else this.#notBefore = performance.now() + this.#backoff.next();
  }
}

/** Ends a connection whose calls wait for one who is no longer there. Answers what ends the pings. */
function pingWhileCalled(http2: ClientConnection): () => void {
  let late: NodeJS.Timeout | undefined;
  const interval = setInterval(() => {
    if (http2.streamCount === 0 || late !== undefined) return;
    const giveUp = () => {
      if (late !== undefined) http2.destroy(new Error(`no answer to a ping within ${keepaliveTimeoutMs} ms`));
    };
    // After a long pause of this process the answer may have arrived and not been read.
    late = setTimeout(() => setImmediate(giveUp), keepaliveTimeoutMs);
    http2.ping(() => {
      clearTimeout(late);
      late = undefined;
    });
  }, keepaliveMs);
  interval.unref();
  return () => {
    clearInterval(interval);
    clearTimeout(late);
    late = undefined;
  };
}

/** The words of the system; an attempt at several addresses has one error for each. */
function reasonOf(error: Error): string {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error;
  return first instanceof Error ? first.message : error.message;
}
