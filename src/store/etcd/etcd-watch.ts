// One watch on an etcd as a Watch of the seam: its own stream, opened again after a loss at the revision after the last
// one seen, as clientv3 does. Used where events have to be understood (placements, CRDs, tests); watches of clients that are all in
// one etcd are spliced as bytes and never come here.
//
// Invariant: #next is the smallest revision not yet yielded; every (re)created watch starts there.

import { decodeWatchResponse, encodeWatchRequest, type WatchResponse } from '../../etcd/codec/watch.ts';
import { EtcdError } from '../../etcd/errors.ts';
import type { Revision, WatchCreateRequest } from '../../etcd/types.ts';
import type { Clock } from '../../lib/clock.ts';
import type { Logger } from '../../lib/log.ts';
import { type Passthrough, type RawStream, type Watch, type WatchBatch } from '../store.ts';
import { etcdErrorOf, translateStatus } from './status.ts';
import { StatusError } from '../../grpc/status.ts';
import { grpcCode } from '../../grpc/codes.ts';

const method = '/etcdserverpb.Watch/Watch';
const resumeDelayMsMin = 50;
const resumeDelayMsMax = 2_000;
/** etcd drops a progress request silently while a watch is catching up, so it is repeated, as kube-apiserver does. */
const progressRepeatMs = 100;

export interface EtcdWatchOptions {
  readonly passthrough: Passthrough;
  readonly request: WatchCreateRequest;
  readonly signal: AbortSignal;
  readonly logger: Logger;
  readonly clock: Clock;
  /** The store's revision by a linearizable read. */
  readonly currentRevision: (signal: AbortSignal) => Promise<Revision>;
}

/** Opens the watch. @throws EtcdError what etcd refuses it with; timeout when etcd cannot be reached. */
export async function openEtcdWatch(options: EtcdWatchOptions): Promise<Watch> {
  const watch = new EtcdWatch(options);
  await watch.open();
  return watch;
}

interface Opened {
  readonly stream: RawStream;
  readonly responses: AsyncIterator<Buffer>;
  readonly created: WatchResponse;
}

class EtcdWatch implements Watch {
  readonly #options: EtcdWatchOptions;
  #next: Revision;
  #createdRevision: Revision = 0n;
  #opened: Opened | undefined;
  /** A mark below this does not answer the requests made so far; 0 = not known yet, undefined = none asked for. */
  #progressFrom: Revision | undefined;
  #progressRequests = 0;
  #asking = false;
  readonly #ended = new AbortController();

  constructor(options: EtcdWatchOptions) {
    this.#options = options;
    this.#next = options.request.startRevision;
  }

  get createdRevision(): Revision {
    return this.#createdRevision;
  }

  get revision(): Revision {
    return this.#next > this.#createdRevision ? this.#next - 1n : this.#createdRevision;
  }

  async open(): Promise<void> {
    try {
      this.#opened = await this.#create();
    } catch (error) {
      throw translateStatus(error);
    }
    this.#createdRevision = this.#opened.created.header.revision;
    if (this.#next === 0n) this.#next = this.#createdRevision + 1n;
  }

  requestProgress(): void {
    this.#progressFrom = 0n;
    this.#progressRequests++;
    if (this.#asking) return;
    this.#asking = true;
    void this.#askForProgress();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<WatchBatch, void, void> {
    const { signal } = this.#options;
    try {
      while (!signal.aborted) {
        const response = await this.#read();
        if (response === undefined) return;
        const batch = this.#batch(response);
        if (batch !== undefined) yield batch;
      }
    } catch (error) {
      if (!signal.aborted) throw translateStatus(error);
    } finally {
      this.#ended.abort();
      this.#opened?.stream.cancel();
    }
  }

  /** The next answer, over as many streams as it takes; undefined when the watch has been aborted. */
  async #read(): Promise<WatchResponse | undefined> {
    const { signal, clock, logger } = this.#options;
    for (let delayMs = resumeDelayMsMin; !signal.aborted;) {
      try {
        this.#opened ??= await this.#create();
        const { done, value } = await this.#opened.responses.next();
        if (done !== true) return decodeWatchResponse(value);
        logger.debug('etcd ended a watch stream', { next: this.#next });
      } catch (error) {
        if (signal.aborted) return undefined;
        if (!isLost(error)) throw error;
        logger.debug('A watch stream to etcd was lost', { error, next: this.#next });
      }
      this.#opened?.stream.cancel();
      this.#opened = undefined;
      await clock.sleep(delayMs, signal);
      delayMs = Math.min(delayMs * 2, resumeDelayMsMax);
    }
    return undefined;
  }

  async #create(): Promise<Opened> {
    const { passthrough, request, signal } = this.#options;
    const stream = passthrough.stream(method, { metadata: { hasleader: 'true' }, signal });
    try {
      const create = { ...request, startRevision: this.#next, watchId: 0n, fragment: false };
      await stream.write(encodeWatchRequest({ type: 'create', request: create }));
      const responses = stream[Symbol.asyncIterator]();
      const first = await responses.next();
      if (first.done === true) throw new StatusError(grpcCode.unavailable, 'The watch stream ended');
      const created = decodeWatchResponse(first.value);
      if (created.canceled) throw canceled(created);
      return { stream, responses, created };
    } catch (error) {
      stream.cancel();
      throw error;
    }
  }

  #batch(response: WatchResponse): WatchBatch | undefined {
    if (response.canceled) throw canceled(response);
    const last = response.events.at(-1);
    if (last !== undefined) {
      // While catching up the header is ahead of the events, so only the last event says how far this batch reaches.
      this.#next = last.kv.modRevision + 1n;
      return { events: response.events, revision: last.kv.modRevision };
    }
    const { revision } = response.header;
    if (response.created || revision === 0n) return undefined;
    if (revision >= this.#next) this.#next = revision + 1n;
    if (this.#progressFrom !== undefined && this.#progressFrom > 0n && revision >= this.#progressFrom) {
      this.#progressFrom = undefined;
    }
    return { events: [], revision };
  }

  /** Repeats the request until a mark at or above the store's revision of now has come. */
  async #askForProgress(): Promise<void> {
    const { clock, signal, currentRevision, logger } = this.#options;
    const until = AbortSignal.any([signal, this.#ended.signal]);
    try {
      while (!until.aborted && this.#progressFrom !== undefined) {
        try {
          const requests = this.#progressRequests;
          const revision = this.#progressFrom === 0n ? await currentRevision(until) : this.#progressFrom;
          if (requests === this.#progressRequests) this.#progressFrom = revision;
          await this.#opened?.stream.write(encodeWatchRequest({ type: 'progress' }));
        } catch (error) {
          logger.debug('A progress request could not be sent and is repeated', { error });
        }
        await clock.sleep(progressRepeatMs, until);
      }
    } finally {
      this.#asking = false;
    }
  }
}

/** Errors after which the watch goes on over another stream; the same that clientv3 retries. */
function isLost(error: unknown): boolean {
  return (
    error instanceof StatusError &&
    (error.code === grpcCode.unavailable ||
      error.code === grpcCode.internal ||
      error.code === grpcCode.canceled)
  );
}

function canceled(response: WatchResponse): Error {
  if (response.compactRevision !== 0n) {
    return new EtcdError('compacted', { compactRevision: response.compactRevision });
  }
  const known = etcdErrorOf(response.cancelReason);
  if (known !== undefined) return known;
  return response.cancelReason === ''
    ? new EtcdError('watchCanceled')
    : new EtcdError('watchCanceled', { message: response.cancelReason });
}
