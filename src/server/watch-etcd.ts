// All watches that one client stream has in one etcd: one stream upstream, spliced as bytes. etcd keeps its own progress,
// filters, fragments and compaction answers. Only what a mixed stream needs is touched: the id of a create request, and
// progress answers for all watches, which on a mixed stream go out once for each watch of this etcd.

import { appendWatchId, noWatchId, peekWatchResponse, replaceWatchId } from '../etcd/codec/watch.ts';
import { EtcdError } from '../etcd/errors.ts';
import type { WatchId } from '../etcd/types.ts';
import { type Passthrough, type RawStream } from '../store/store.ts';
import type { CallContext } from './call.ts';
import type { WatchOutlet } from './watch-outlet.ts';
import { StatusError } from '../grpc/status.ts';
import { grpcCode } from '../grpc/codes.ts';

export interface EtcdLegOptions {
  readonly passthrough: Passthrough;
  readonly context: CallContext;
  readonly outlet: WatchOutlet;
  /** True while every live watch of the client's stream is in this etcd. */
  readonly isAlone: () => boolean;
  readonly created: (id: WatchId, leg: EtcdLeg) => void;
  readonly canceled: (id: WatchId) => void;
}

export class EtcdLeg {
  readonly #options: EtcdLegOptions;
  readonly #upstream: RawStream;
  readonly #ids = new Set<WatchId>();
  /** Create requests that etcd has not answered. */
  #pending = 0;
  #settled: PromiseWithResolvers<void> | undefined;

  constructor(options: EtcdLegOptions) {
    this.#options = options;
    const { method, metadata, signal } = options.context;
    this.#upstream = options.passthrough.stream(method, { metadata, signal });
    this.#down().then(
      // etcd does not end a watch stream by itself; if it does, the client's watches must come back elsewhere.
      () => options.outlet.fail(new EtcdError('stopped')),
      (error: unknown) => options.outlet.fail(resumable(error)),
    );
  }

  /** Sends a create request on, with another id where `watchId` is given. */
  create(message: Buffer, watchId?: WatchId): Promise<void> {
    this.#pending++;
    return this.forward(watchId === undefined ? message : appendWatchId(message, watchId));
  }

  /** Sends any request on as it is. */
  async forward(message: Buffer): Promise<void> {
    try {
      await this.#upstream.write(message);
    } catch (error) {
      this.#options.outlet.fail(resumable(error));
    }
  }

  /** Resolves when every create request has been answered. */
  settled(): Promise<void> {
    if (this.#pending === 0) return Promise.resolve();
    return (this.#settled ??= Promise.withResolvers()).promise;
  }

  /** The client sends no more requests. */
  end(): void {
    this.#upstream.end();
  }

  async #down(): Promise<void> {
    for await (const message of this.#upstream) await this.#pass(message);
  }

  async #pass(message: Buffer): Promise<void> {
    const { created, canceled, watchId, hasEvents, compactRevision, fragment } = peekWatchResponse(message);
    if (created) this.#answered(watchId, canceled ? 'refused' : 'created');
    else if (canceled) {
      this.#ids.delete(watchId);
      this.#options.canceled(watchId);
    }
    const forAll = watchId === noWatchId && !created && !canceled && !hasEvents && compactRevision === 0n;
    if (!forAll || this.#options.isAlone()) {
      return this.#options.outlet.write(message, { from: this, isLast: !fragment });
    }
    for (const id of this.#ids) await this.#options.outlet.write(replaceWatchId(message, id));
  }

  #answered(id: WatchId, outcome: 'created' | 'refused'): void {
    if (outcome === 'created') {
      this.#ids.add(id);
      this.#options.created(id, this);
    }
    this.#pending--;
    if (this.#pending > 0) return;
    this.#settled?.resolve();
    this.#settled = undefined;
  }
}

/**
 * A stream that ends with Canceled closes its watches for good; with Unavailable they come back. The client has not canceled,
 * or nobody would look at the status: something on the way to etcd has.
 */
function resumable(error: unknown): unknown {
  const isCanceled = error instanceof StatusError && error.code === grpcCode.canceled;
  return isCanceled ? new EtcdError('stopped', { cause: error }) : error;
}
