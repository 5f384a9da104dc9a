// The members of one etcd: bytes out, bytes in. Calls go round robin over members that are connected;
// while none is, a call waits for one up to `connectWaitMs` and then fails with Unavailable, so a member's restart goes
// unnoticed and an etcd that is down is said to be down.

import { createSecureContext, type ConnectionOptions as TlsOptions } from 'node:tls';
import { EtcdError, etcdErrors } from '../../etcd/errors.ts';
import { orAborted } from '../../lib/abort.ts';
import type { Logger } from '../../lib/log.ts';
import { certificatesIn } from '../../lib/pem.ts';
import { readRegularFile } from '../../lib/regular-file.ts';
import { type BackendTls, type RawCallOptions, type RawStream } from '../store.ts';
import { isTokenOver, loginOf, type EtcdLogin } from './login.ts';
import { EtcdMember } from './member.ts';
import type { OpenStream } from './outgoing-call.ts';
import { rawCall } from './raw-call.ts';
import { EtcdRawStream } from './raw-stream.ts';
import { StatusError } from '../../grpc/status.ts';

/** How long a call waits for a member to be connected. */
const connectWaitMs = 3_000;
/** How often a call may be sent that members refuse before they do anything: they are stopping. */
const sendingsMax = 3;

export interface ConnectionOptions {
  /** Comma-separated `http(s)://host:port`; the first may have a login, `user:password@`, for all of them. */
  readonly url: string;
  readonly tls?: BackendTls;
  /** Of the login, read each time a connection is opened. */
  readonly passwordFile?: string;
  readonly logger: Logger;
}

/** The members of one etcd. Connects at the first call. */
export class EtcdConnection {
  readonly #members: readonly EtcdMember[];
  readonly #logger: Logger;
  readonly #login: EtcdLogin | undefined;
  #next = 0;
  /** Shared by all calls that wait. */
  #connecting: Promise<void> | undefined;
  #unreachable = false;
  /** Why no member could be reached when that was last tried. */
  #reason: string | undefined;
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.#logger = options.logger;
    this.#login = loginOf(options);
    this.#members = options.url.split(',').map((member) => {
      const url = new URL(member.trim());
      const tls = () => tlsOptions(url, options.tls);
      // Fails here, with the operator, and not at the first connection.
      tls();
      return new EtcdMember({ url, tls, ...(this.#login && { login: this.#login }) });
    });
  }

  /** @throws StatusError as etcd answered, Unavailable while no member can be reached; the signal's reason when aborted. */
  async unary(method: string, request: Buffer, { metadata, signal }: RawCallOptions): Promise<Buffer> {
    for (let sent = 0; sent < sendingsMax; sent++) {
      const member = this.#connected() ?? (await this.#connect(signal));
      signal.throwIfAborted();
      const open: OpenStream = (listener) => member.open(method, metadata, listener);
      try {
        const answer = await rawCall(open, request, signal);
        if (answer !== undefined) return answer;
      } catch (error) {
        // Who is asked for a token that counts has done nothing yet.
        const isOver = this.#login !== undefined && metadata['token'] === undefined && isTokenOver(error);
        if (!isOver || !(await orAborted(member.logInAgain(), signal))) throw error;
      }
    }
    throw new StatusError(...etcdErrors.timeout);
  }

  /** Client, server and bidirectional streams alike: on the wire they differ only in how many messages each side sends. */
  stream(method: string, { metadata, signal }: RawCallOptions): RawStream {
    const openAt =
      (member: EtcdMember): OpenStream =>
      (listener) =>
        member.open(method, metadata, listener);
    const member = this.#connected();
    return new EtcdRawStream(
      member === undefined ? this.#connect(signal).then(openAt) : openAt(member),
      signal,
    );
  }

  close(): void {
    this.#closed = true;
    for (const member of this.#members) member.close();
  }

  /** The next connected member. One that was lost is connected again in the background while the others serve. */
  #connected(): EtcdMember | undefined {
    for (let tried = 0; tried < this.#members.length; tried++) {
      const member = this.#members[this.#next]!;
      this.#next = (this.#next + 1) % this.#members.length;
      if (member.isReady()) return member;
    }
    return undefined;
  }

  async #connect(signal: AbortSignal): Promise<EtcdMember> {
    signal.throwIfAborted();
    if (this.#closed) throw new EtcdError('stopped');
    this.#connecting ??= this.#anyReady().finally(() => (this.#connecting = undefined));
    await orAborted(this.#connecting, signal);
    const member = this.#connected();
    if (member !== undefined) return member;
    const cause = this.#reason === undefined ? {} : { cause: new Error(this.#reason) };
    throw new StatusError(...etcdErrors.timeout, cause);
  }

  /** Resolves when a member is connected or the wait is over. */
  async #anyReady(): Promise<void> {
    const deadline = performance.now() + connectWaitMs;
    const ready = async (member: EtcdMember) => {
      if (!(await member.ready(deadline))) throw new Error(member.reason ?? 'no connection in time');
    };
    try {
      await Promise.any(this.#members.map(ready));
      if (this.#unreachable && !this.#closed) this.#logger.info('etcd is reachable again');
      this.#reason = undefined;
      this.#unreachable = false;
    } catch {
      if (!this.#unreachable && !this.#closed) this.#sayWhy();
      this.#unreachable = true;
      this.#reason = this.#members.at(-1)?.reason;
    }
  }

  #sayWhy(): void {
    for (const { address, reason } of this.#members)
      this.#logger.warn('etcd cannot be reached', {
        member: address,
        details: reason ?? 'no answer in time',
      });
  }
}

/** From the files as they are now. @throws Error when one cannot be read, or used with the others. */
function tlsOptions(url: URL, tls: BackendTls | undefined): TlsOptions {
  if (url.protocol === 'http:') return {};
  if (url.protocol !== 'https:')
    throw new Error(`Expected http:// or https:// for etcd, got ${url.protocol}//`);
  const file = (path: string | undefined) => (path === undefined ? undefined : readRegularFile(path));
  const [ca, key, cert] = [file(tls?.caFile), file(tls?.keyFile), file(tls?.certFile)];
  try {
    const options = {
      ...(ca === undefined ? {} : { ca: [...certificatesIn(ca)] }),
      ...(key === undefined ? {} : { key }),
      ...(cert === undefined ? {} : { cert }),
    };
    return { secureContext: createSecureContext(options), rejectUnauthorized: tls?.skipVerify !== true };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`Expected TLS files in PEM that fit together for etcd ${url.host}, got ${reason}`, {
      cause,
    });
  }
}
