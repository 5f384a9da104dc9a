// One watch of a client on a store of ours: pulls batches, frames them as etcd does and writes them to the stream. A slow
// client stops the pulling, so that nothing piles up here; the store lets the watch fall behind and catch up.

import { encodeEvent, encodeWatchResponse, type EncodedEvent } from '../etcd/codec/watch.ts';
import { EtcdError } from '../etcd/errors.ts';
import type { Event, ResponseHeader, Revision, WatchCreateRequest, WatchId } from '../etcd/types.ts';
import type { Store, Watch, WatchBatch } from '../store/store.ts';
import { requestBytesMax } from './validate.ts';
import type { WatchOutlet } from './watch-outlet.ts';

/** Answers above this many bytes of events are split where the client asked for fragments; etcd: `--max-request-bytes`. */
const fragmentBytesMax = requestBytesMax;

/** An event goes out in the same bytes to every watch that got the same event object. */
const encodedEvents = new WeakMap<Event, EncodedEvent>();

function encoded(event: Event): EncodedEvent {
  let bytes = encodedEvents.get(event);
  if (bytes === undefined) encodedEvents.set(event, (bytes = encodeEvent(event)));
  return bytes;
}

/** Events in pieces of at most `fragmentBytesMax`, one event at least. */
function* pieces(events: readonly EncodedEvent[]): Generator<readonly EncodedEvent[]> {
  let start = 0;
  let bytes = 0;
  for (const [index, event] of events.entries()) {
    if (index > start && bytes + event.length > fragmentBytesMax) {
      yield events.slice(start, index);
      start = index;
      bytes = 0;
    }
    bytes += event.length;
  }
  yield events.slice(start);
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
  #sentSinceNotify = true;
  #timer: NodeJS.Timeout | undefined;
  #round: ProgressRound | undefined;

  constructor(options: SqlWatchOptions) {
    this.id = options.id;
    this.store = options.store;
    this.#options = options;
    this.#through = options.watch.createdRevision;
  }

  /** Begins delivery; `ended` is called once, when the watch ends other than by `cancel`. */
  start(ended: () => void): void {
    const { request, outlet } = this.#options;
    if (request.progressNotify) {
      this.#timer = setInterval(() => this.#notifyIfSilent(), outlet.progressNotifyIntervalMs).unref();
    }
    this.#pump()
      .catch((error: unknown) => this.#broken(error, ended))
      .finally(() => this.#stop());
  }

  /** A mark under the watch's own id, as soon as it is due. */
  requestOwnProgress(): void {
    this.#ownProgress = true;
    this.#options.watch.requestProgress();
  }

  /** A mark that counts for `round`. */
  joinRound(round: ProgressRound): void {
    this.#round = round;
    this.#options.watch.requestProgress();
  }

  /** Ends the watch at the client's wish and says so. */
  async cancel(): Promise<void> {
    this.#stop();
    const header = this.#headerAt(this.#through);
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
    clearInterval(this.#timer);
    this.#options.abort.abort();
  }

  #notifyIfSilent(): void {
    if (!this.#sentSinceNotify) this.requestOwnProgress();
    this.#sentSinceNotify = false;
  }

  async #pump(): Promise<void> {
    for await (const batch of this.#options.watch) {
      if (!this.#live) return;
      if (batch.events.length > 0) await this.#deliver(batch);
      else await this.#marked(batch);
    }
  }

  async #deliver({ events, revision }: WatchBatch): Promise<void> {
    const { request, outlet } = this.#options;
    const all = events.map(encoded);
    const parts = request.fragment ? [...pieces(all)] : [all];
    const header = this.#headerAt(revision);
    this.#sentSinceNotify = true;
    // Given without a pause in between: clients put the fragments of one answer together and lose what comes among them.
    const written = parts.map((part, index) => {
      const fragment = index < parts.length - 1;
      return outlet.write(encodeWatchResponse({ header, watchId: this.id, events: part, fragment }));
    });
    // The stream keeps its order, so from here on a mark of this revision comes after the events.
    this.#advance(revision);
    await Promise.all(written);
  }

  async #marked({ revision }: WatchBatch): Promise<void> {
    this.#advance(revision);
    const round = this.#round;
    this.#round = undefined;
    if (this.#ownProgress) {
      this.#ownProgress = false;
      this.#sentSinceNotify = true;
      await this.#options.outlet.write(this.mark(this.id));
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

/** What a round needs of its stream. */
export interface ProgressRoundHost {
  readonly outlet: WatchOutlet;
  /** True while the stream has these watches and no other: only then may one mark speak for all. */
  areAll(watches: ReadonlyMap<WatchId, SqlWatch>): boolean;
  /** The round has been answered. */
  answered(): void;
}

/**
 * One progress request to all watches of a stream, all in one store. Answered when each has had its mark: with one mark
 * for all (id -1) when they are level and nothing has joined them, else with one for each, because a mark must not be
 * behind what its watch was sent, nor speak for a watch that was not asked.
 */
export class ProgressRound {
  readonly #waiting = new Map<WatchId, SqlWatch>();
  readonly #members = new Map<WatchId, SqlWatch>();
  readonly #host: ProgressRoundHost;
  #done = false;

  constructor(watches: readonly SqlWatch[], host: ProgressRoundHost) {
    this.#host = host;
    for (const watch of watches) {
      this.#waiting.set(watch.id, watch);
      this.#members.set(watch.id, watch);
    }
    for (const watch of watches) watch.joinRound(this);
  }

  /** True when every one of `watches` takes part and the round is still open. */
  covers(watches: readonly SqlWatch[]): boolean {
    return !this.#done && watches.every((watch) => this.#members.get(watch.id) === watch);
  }

  /** The watch has got everything up to its mark. */
  arrived(watch: SqlWatch): Promise<void> {
    this.#waiting.delete(watch.id);
    return this.#answerWhenAllThere();
  }

  /** The watch is gone and waits for nothing. */
  leave(id: WatchId): void {
    this.#waiting.delete(id);
    this.#members.delete(id);
    this.#answerWhenAllThere().catch((error: unknown) => this.#host.outlet.fail(error));
  }

  async #answerWhenAllThere(): Promise<void> {
    if (this.#done || this.#waiting.size > 0) return;
    this.#done = true;
    const { outlet } = this.#host;
    const watches = [...this.#members.values()];
    const [first] = watches;
    const level = watches.every((watch) => watch.through === first?.through);
    const speaksForAll = level && this.#host.areAll(this.#members);
    // Written without a pause in between, so that no event gets in front of a mark that does not cover it.
    const marks = speaksForAll
      ? watches.slice(0, 1).map((watch) => watch.mark(-1n))
      : watches.map((watch) => watch.mark(watch.id));
    const written = marks.map((mark) => outlet.write(mark));
    this.#host.answered();
    await Promise.all(written);
  }
}
