// One member of an etcd: an HTTP/2 connection that is made when it is asked for and made again when it is lost. Used by
// connection.ts, which chooses among members. Straight on node:http2, since every call of every client passes here: grpc-js'
// client costs several times as much for each.
//
// States: without a connection (an attempt may be under way, or wait for its backoff), connected. A connection that is told to go
// away, or that is worn out, is left at once; calls that it carries end by themselves.

import {
  connect,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type SecureClientSessionOptions,
} from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { createBackoff } from '../../lib/backoff.ts';
import { inTime } from '../../lib/in-time.ts';
import { invariant } from '../../lib/invariant.ts';
import type { RawMetadata } from '../store.ts';

/** How long the other side may take to greet. */
const greetingMsMax = 5_000;
const reconnectBackoffMsMin = 100;
const reconnectBackoffMsMax = 2_000;
/** A connection that has lasted so long was of use: what ended it need not end the next one. */
const steadyMs = 1_000;
/** HTTP/2 has 2^30 streams for a connection; node does not say that they are used up but by failing each call. */
const callsMaxDefault = 2 ** 29;
/** etcd permits pings from 5 s on (`--grpc-keepalive-min-time`), and only while a call is open. */
const keepaliveMs = 6_000;
const keepaliveTimeoutMs = 4_000;
/** Bytes of answers on their way; HTTP/2's own default of 64 KiB makes long lists and busy watches wait for acknowledgements. */
const flowControlWindowBytes = 8 * 1024 * 1024;

export interface MemberOptions {
  /** `http://host:port` or `https://host:port`. */
  readonly url: URL;
  readonly tls: SecureClientSessionOptions;
  /** How many calls are made over one connection before another takes its place. */
  readonly callsMax?: number;
}

/** One connection, with what it carries. */
interface Connected {
  readonly session: ClientHttp2Session;
  /** By performance.now(). */
  readonly since: number;
  /** Calls made so far. */
  made: number;
  /** Calls under way. */
  calls: number;
}

export class EtcdMember {
  /** `host:port`. */
  readonly address: string;
  readonly #options: MemberOptions;
  readonly #backoff = createBackoff({ firstMs: reconnectBackoffMsMin, maxMs: reconnectBackoffMsMax });
  #connected: Connected | undefined;
  #attempt: Promise<void> | undefined;
  /** All that have not closed: the one in use, one being opened, those left whose calls have not ended. */
  readonly #sessions = new Set<ClientHttp2Session>();
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

  /** Opens a call; the caller listens to its errors. Only while `isReady`. */
  request(method: string, metadata: RawMetadata): ClientHttp2Stream {
    const connected = this.#live;
    invariant(connected !== undefined, 'calls are made over a connection');
    const stream = connected.session.request({
      ...metadata,
      ':method': 'POST',
      ':scheme': this.#options.url.protocol.slice(0, -1),
      ':authority': this.address,
      ':path': method,
      te: 'trailers',
      'content-type': 'application/grpc',
    });
    connected.made++;
    connected.calls++;
    const isWornOut = connected.made >= (this.#options.callsMax ?? callsMaxDefault);
    if (isWornOut) this.#connected = undefined;
    stream.once('close', () => {
      connected.calls--;
      // Not before: one who hears of the end early refuses what comes with it.
      if (connected.calls === 0 && connected !== this.#connected) connected.session.close();
    });
    return stream;
  }

  /** Ends the calls under way. */
  close(): void {
    this.#closed = true;
    for (const session of this.#sessions) session.destroy();
  }

  /** One that has been destroyed says so only some time later. */
  get #live(): Connected | undefined {
    const session = this.#connected?.session;
    return session === undefined || session.destroyed || session.closed ? undefined : this.#connected;
  }

  /** Never rejects. */
  #attemptOnce(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    return (this.#attempt ??= this.#connect().finally(() => (this.#attempt = undefined)));
  }

  /** Resolves when there is a connection, or none could be made. */
  #connect(): Promise<void> {
    return new Promise((resolve) => {
      let session: ClientHttp2Session;
      try {
        session = connect(`${this.#options.url.protocol}//${this.address}`, {
          ...this.#options.tls,
          settings: { enablePush: false, initialWindowSize: flowControlWindowBytes },
          // Streams that wait for their readers are bounded by their windows.
          maxSessionMemory: Number.MAX_SAFE_INTEGER,
        });
      } catch (error) {
        this.#lost(undefined, reasonOf(error as Error));
        return resolve();
      }
      this.#sessions.add(session);
      const greeting = setTimeout(
        () => session.destroy(new Error(`no greeting within ${greetingMsMax} ms`)),
        greetingMsMax,
      );
      let reason: string | undefined;
      let connected: Connected | undefined;
      let stopPings: (() => void) | undefined;
      session.on('error', (error) => (reason = reasonOf(error)));
      session.once('remoteSettings', () => {
        clearTimeout(greeting);
        if (session.destroyed) return;
        session.setLocalWindowSize(flowControlWindowBytes);
        connected = { session, since: performance.now(), made: 0, calls: 0 };
        stopPings = pingWhileCalled(connected);
        this.#connected = connected;
        this.#reason = undefined;
        resolve();
      });
      session.once('goaway', () => {
        if (connected !== undefined) this.#lost(connected, 'etcd closed the connection');
      });
      session.once('close', () => {
        clearTimeout(greeting);
        stopPings?.();
        this.#sessions.delete(session);
        this.#lost(connected, reason ?? 'the connection was closed');
        resolve();
      });
    });
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
function pingWhileCalled(connected: Connected): () => void {
  const { session } = connected;
  let late: NodeJS.Timeout | undefined;
  const interval = setInterval(() => {
    if (connected.calls === 0 || late !== undefined || session.destroyed) return;
    const giveUp = () => {
      if (late !== undefined)
        session.destroy(new Error(`no answer to a ping within ${keepaliveTimeoutMs} ms`));
    };
    // After a long pause of this process the answer may have arrived and not been read.
    late = setTimeout(() => setImmediate(giveUp), keepaliveTimeoutMs);
    session.ping((error) => {
      // A ping that is canceled ends with its connection.
      if (error !== null) return;
      clearTimeout(late);
      late = undefined;
    });
  }, keepaliveMs);
  interval.unref();
  return () => {
    clearInterval(interval);
    clearTimeout(late);
  };
}

/** The words of the system; an attempt at several addresses has one error for each. */
function reasonOf(error: Error): string {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error;
  return first instanceof Error ? first.message : error.message;
}
