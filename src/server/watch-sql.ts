// One watch of a client on a store of ours: pulls batches, frames them as etcd does and writes them to the stream. A slow
// client stops the pulling, so that nothing piles up here; the store lets the watch fall behind and catch up.

import { frameOf } from '../etcd/codec/framed-event.ts';
import { encodeWatchResponse } from '../etcd/codec/watch.ts';
import { EtcdError } from '../etcd/errors.ts';
import type { ResponseHeader, Revision, WatchCreateRequest, WatchId } from '../etcd/types.ts';
import type { Store, Watch, WatchBatch } from '../store/store.ts';
import { sharedAnswer } from './watch-answers.ts';
import { fragments } from './watch-fragments.ts';
import type { WatchOutlet } from './watch-outlet.ts';

/** A question for progress that is answered when all watches it was put to have answered. */
export interface Round {
  /** There will be no answer; the round is open until everybody is there. */
  drop(): void;
  /** The watch has got everything up to its mark. */
  arrived(watch: SqlWatch): Promise<void>;
}

export interface SqlWatchOptions {
  readonly id: WatchId;
  readonly store: Store;
  readonly watch: Watch;
  readonly request: WatchCreateRequest;
  /** Ids of the store; the revision is replaced. */
  readonly header: ResponseHeader;
  /** Ends the store's watch. */
  readonly abort: AbortController;
  readonly outlet: WatchOutlet;
}

export class SqlWatch {
  readonly id: WatchId;
  readonly store: Store;
  readonly #options: SqlWatchOptions;
  /** Everything at or below has been given to the stream, which keeps the order. */
  #through: Revision;
  #live = true;
  #ownProgress = false;
  #sentSinceTick = false;
  #round: Round | undefined;

  constructor(options: SqlWatchOptions) {
    this.id = options.id;
    this.store = options.store;
    this.#options = options;
    this.#through = options.watch.createdRevision;
  }

  /** False once it is over: canceled, or ended by a compaction and not canceled yet. */
  get isLive(): boolean {
    return this.#live;
  }

  /** Begins delivery; `ended` is called once, when the watch ends other than by `cancel`. */
  start(ended: () => void): void {
    this.#pump()
      .catch((error: unknown) => this.#broken(error, ended))
      .finally(() => this.#stop());
  }

  /** The stream's notify interval is over: a watch that wants marks and was sent no events meanwhile gets one. */
  tick(): void {
    if (!this.#live || !this.#options.request.progressNotify) return;
    if (!this.#sentSinceTick) this.requestOwnProgress();
    this.#sentSinceTick = false;
  }

  /** A mark under the watch's own id, as soon as it is due. */
  requestOwnProgress(): void {
    this.#ownProgress = true;
    this.#options.watch.requestProgress();
  }

  /** A mark that counts for `round`. */
  joinRound(round: Round): void {
    this.#round = round;
    this.#options.watch.requestProgress();
  }

  /** Ends the watch, if it has not ended yet, at the client's wish and says so. */
  async cancel(): Promise<void> {
    this.#stop();
    const header = this.#headerAt(this.#options.watch.revision);
    await this.#options.outlet.write(encodeWatchResponse({ header, watchId: this.id, canceled: true }));
  }

  /** Everything at or below this has been given to the stream. */
  get through(): Revision {
    return this.#through;
  }

  /** The bytes of a progress mark at `through`, under the watch's own id or -1. */
  mark(watchId: WatchId): Buffer {
    return encodeWatchResponse({ header: this.#headerAt(this.#through), watchId });
  }

  #headerAt(revision: Revision): ResponseHeader {
    return { ...this.#options.header, revision };
  }

  #stop(): void {
    this.#live = false;
    this.#options.abort.abort();
  }

  async #pump(): Promise<void> {
    const batches = this.#options.watch[Symbol.asyncIterator]();
    try {
      while (await this.#pass(batches));
    } finally {
      await batches.return?.();
    }
  }

  /** A function of its own, so that nothing of a batch is held while its watch waits for the next one. */
  async #pass(batches: AsyncIterator<WatchBatch>): Promise<boolean> {
    const { done, value: batch } = await batches.next();
    if (done === true || !this.#live) return false;
    if (batch.events.length > 0) await this.#deliver(batch);
    else await this.#marked(batch);
    return true;
  }

  #deliver(batch: WatchBatch): Promise<unknown> {
    const { header, request, outlet } = this.#options;
    this.#sentSinceTick = true;
    // The stream keeps its order, so from here on a mark of this revision comes after the events.
    this.#advance(batch.revision);
    if (!request.fragment) return outlet.write(sharedAnswer(batch, header, this.id));
    const answer = { header: this.#headerAt(batch.revision), watchId: this.id };
    // Given without a pause in between: clients put the fragments of one answer together and lose what comes among them.
    return Promise.all(fragments(answer, batch.events.map(frameOf)).map((message) => outlet.write(message)));
  }

  async #marked({ revision }: WatchBatch): Promise<void> {
    this.#advance(revision);
    const round = this.#round;
    this.#round = undefined;
    const { request, outlet } = this.#options;
    // Nothing is told to a watch that starts in the future, nor to the stream for its sake, as with etcd.
    const isDue = revision >= request.startRevision;
    if (!isDue) round?.drop();
    if (this.#ownProgress) {
      this.#ownProgress = false;
      if (isDue) await outlet.write(this.mark(this.id));
    }
    await round?.arrived(this);
  }

  #advance(revision: Revision): void {
    if (revision > this.#through) this.#through = revision;
  }

  async #broken(error: unknown, ended: () => void): Promise<void> {
    if (!this.#live || this.#options.outlet.signal.aborted) return;
    if (!(error instanceof EtcdError) || error.reason !== 'compacted')
      return this.#options.outlet.fail(error);
    this.#stop();
    ended();
    const compactRevision = error.compactRevision ?? 0n;
    // The revision of this answer is 0 in etcd too: it must not move the client's resume point.
    const header = this.#headerAt(0n);
    await this.#options.outlet.write(
      encodeWatchResponse({ header, watchId: this.id, canceled: true, compactRevision }),
    );
  }
}
