// The gRPC channels to the members of one etcd: bytes out, bytes in. Calls go round robin over members that are connected;
// while none is, a call waits for one up to `connectWaitMs` and then fails with Unavailable, so a member's restart goes
// unnoticed and an etcd that is down is said to be down.

import {
  Client,
  connectivityState,
  credentials,
  Metadata,
  type ChannelCredentials,
  type ChannelOptions,
  type ClientDuplexStream,
  type ServiceError,
} from '@grpc/grpc-js';
import { readFileSync } from 'node:fs';
import { etcdErrors } from '../../etcd/errors.ts';
import { inTime } from '../../lib/in-time.ts';
import type { Logger } from '../../lib/log.ts';
import { RawStatusError, type BackendTls, type RawCallOptions, type RawStream } from '../store.ts';
import { EtcdRawStream } from './raw-stream.ts';

/** Answered by every etcd, of interest only where none answers. */
const probeMethod = '/etcdserverpb.Maintenance/Status';
/** How long a call waits for a member to be connected. */
const connectWaitMs = 3_000;
/** How long a call that has failed waits for the reason, which is for the log. */
const reasonWaitMs = 100;
const reconnectBackoffMsMin = 100;
const reconnectBackoffMsMax = 2_000;
/** etcd permits pings from 5 s on (`--grpc-keepalive-min-time`), and only while a call is open. */
const keepaliveMs = 6_000;
const keepaliveTimeoutMs = 4_000;
/** Bytes of answers on their way; HTTP/2's own default of 64 KiB makes long lists and busy watches wait for acknowledgements. */
const flowControlWindowBytes = 8 * 1024 * 1024;

const channelOptions: ChannelOptions = {
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  'grpc.keepalive_time_ms': keepaliveMs,
  'grpc.keepalive_timeout_ms': keepaliveTimeoutMs,
  'grpc.keepalive_permit_without_calls': 0,
  'grpc.initial_reconnect_backoff_ms': reconnectBackoffMsMin,
  'grpc.max_reconnect_backoff_ms': reconnectBackoffMsMax,
  // Connections of one store must not be shared with, or slowed by, another's.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.service_config_disable_resolution': 1,
  'grpc-node.flow_control_window': flowControlWindowBytes,
};

const identity = (bytes: Buffer) => bytes;

export interface ConnectionOptions {
  /** Comma-separated `http(s)://host:port`. */
  readonly url: string;
  readonly tls?: BackendTls;
  readonly logger: Logger;
}

/** The members of one etcd. Connects at the first call. */
export class EtcdConnection {
  readonly #members: readonly Client[];
  readonly #logger: Logger;
  #next = 0;
  /** Shared by all calls that wait. */
  #connecting: Promise<void> | undefined;
  #unreachable = false;
  /** Why no member could be reached when that was last tried. */
  #reason: string | undefined;
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.#logger = options.logger;
    this.#members = options.url.split(',').map((member) => {
      const url = new URL(member.trim());
      const port = url.port || '2379';
      return new Client(`${url.hostname}:${port}`, channelCredentials(url, options.tls), channelOptions);
    });
  }

  /** @throws RawStatusError as etcd answered, Unavailable while no member can be reached; the signal's reason when aborted. */
  async unary(method: string, request: Buffer, options: RawCallOptions): Promise<Buffer> {
    const member = this.#connected() ?? (await this.#connect(options.signal));
    options.signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const call = member.makeUnaryRequest(
        method,
        identity,
        identity,
        request,
        metadataOf(options),
        (error: ServiceError | null, response?: Buffer) => {
          options.signal.removeEventListener('abort', abort);
          if (error === null && response !== undefined) resolve(response);
          else if (options.signal.aborted) reject(options.signal.reason as Error);
          else reject(rawStatus(error));
        },
      );
      const abort = () => call.cancel();
      options.signal.addEventListener('abort', abort, { once: true });
    });
  }

  /** Client, server and bidirectional streams alike: on the wire they differ only in how many messages each side sends. */
  stream(method: string, options: RawCallOptions): RawStream {
    const open = (member: Client): ClientDuplexStream<Buffer, Buffer> =>
      member.makeBidiStreamRequest(method, identity, identity, metadataOf(options));
    const member = this.#connected();
    const call = member === undefined ? this.#connect(options.signal).then(open) : open(member);
    return new EtcdRawStream(call, options.signal);
  }

  close(): void {
    this.#closed = true;
    for (const member of this.#members) member.close();
  }

  /** The next connected member. */
  #connected(): Client | undefined {
    for (let tried = 0; tried < this.#members.length; tried++) {
      const member = this.#members[this.#next]!;
      this.#next = (this.#next + 1) % this.#members.length;
      // `true`: a member that was lost is connected again in the background while the others serve.
      if (member.getChannel().getConnectivityState(true) === connectivityState.READY) return member;
    }
    return undefined;
  }

  async #connect(signal: AbortSignal): Promise<Client> {
    signal.throwIfAborted();
    this.#connecting ??= this.#anyReady().finally(() => (this.#connecting = undefined));
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    try {
      await Promise.race([this.#connecting, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
    const member = this.#connected();
    if (member !== undefined) return member;
    const cause = this.#reason === undefined ? {} : { cause: new Error(this.#reason) };
    throw new RawStatusError(etcdErrors.timeout[0], etcdErrors.timeout[1], cause);
  }

  /** Asks each member without waiting for it to be connected: the answer is why it is not. */
  async #sayWhy(): Promise<void> {
    const deadline = Date.now() + connectWaitMs;
    const noMessage = Buffer.alloc(0);
    const answers = this.#members.map(async (member) => {
      const error = await new Promise<ServiceError | null>((resolve) =>
        member.makeUnaryRequest(probeMethod, identity, identity, noMessage, { deadline }, resolve),
      );
      // Calls that the end of the gateway cuts off are no news.
      if (error === null || this.#closed) return;
      const details = error.details.replace(/\.? Resolution note: $/u, '');
      this.#reason = details;
      this.#logger.warn('etcd cannot be reached', { member: member.getChannel().getTarget(), details });
    });
    await Promise.all(answers);
  }

  /** Resolves when a member is connected or the wait is over. */
  async #anyReady(): Promise<void> {
    const deadline = Date.now() + connectWaitMs;
    const waits = this.#members.map(
      (member) =>
        new Promise<void>((resolve, reject) =>
          member.waitForReady(deadline, (error) => (error === undefined ? resolve() : reject(error))),
        ),
    );
    try {
      await Promise.any(waits);
      if (this.#unreachable && !this.#closed) this.#logger.info('etcd is reachable again');
      this.#reason = undefined;
      this.#unreachable = false;
    } catch {
      // Each member said only that its time was up; the reason is in the status of a call that does not wait.
      if (!this.#unreachable && !this.#closed) await inTime(this.#sayWhy(), reasonWaitMs);
      this.#unreachable = true;
    }
  }
}

function channelCredentials(url: URL, tls: BackendTls | undefined): ChannelCredentials {
  if (url.protocol === 'http:') return credentials.createInsecure();
  if (url.protocol !== 'https:')
    throw new Error(`Expected http:// or https:// for etcd, got ${url.protocol}//`);
  const read = (path: string | undefined) => (path === undefined ? null : readFileSync(path));
  return credentials.createSsl(read(tls?.caFile), read(tls?.keyFile), read(tls?.certFile), {
    rejectUnauthorized: tls?.skipVerify !== true,
  });
}

function metadataOf(options: RawCallOptions): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(options.metadata)) metadata.set(name, value);
  return metadata;
}

function rawStatus(error: ServiceError | null): RawStatusError {
  if (error === null) return new RawStatusError(etcdErrors.timeout[0], etcdErrors.timeout[1]);
  return new RawStatusError(error.code, error.details, { cause: error });
}
