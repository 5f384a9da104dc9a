// One watch of a history: what it was given, compared with what the model says was due. It may be left unread for long, and
// is opened again where it was when its gateway has been closed.

import { EtcdError } from '../../src/etcd/errors.ts';
import type { Event, Revision, WatchCreateRequest } from '../../src/etcd/types.ts';
import type { Store, Watch, WatchBatch } from '../../src/store/store.ts';
import { plain } from './explain.ts';
import { eventsOf, revisionOf, type State } from './model.ts';

/** A batch that does not come in this time never will. */
const batchMsMax = 20_000;

export class Recording {
  readonly #request: WatchCreateRequest;
  /** The first revision that it is about. */
  readonly #start: Revision;
  #watch: Watch;
  #batches: AsyncIterator<WatchBatch>;
  #stop: AbortController;
  /** Received and not compared yet. */
  #received: WatchBatch[] = [];
  #failure: EtcdError | undefined;
  /** Everything at or below has been received; compared. */
  #reached: Revision;
  #compared: Revision;
  #told: Revision = 0n;
  #isReading = false;
  /** Its gateway was closed. */
  isLost = false;

  constructor(request: WatchCreateRequest, watch: Watch, stop: AbortController) {
    this.#request = request;
    this.#watch = watch;
    this.#batches = watch[Symbol.asyncIterator]();
    this.#stop = stop;
    this.#start = request.startRevision === 0n ? watch.createdRevision + 1n : request.startRevision;
    this.#reached = this.#start - 1n;
    this.#compared = this.#reached;
  }

  /** @throws EtcdError stopped, when the gateway is being closed. */
  static async open(store: Store, request: WatchCreateRequest): Promise<Recording> {
    const stop = new AbortController();
    return new Recording(request, await store.watch(request, stop.signal), stop);
  }

  get createdRevision(): Revision {
    return this.#watch.createdRevision;
  }

  /** On with it on another gateway, or the same one opened again. */
  async reopen(store: Store): Promise<void> {
    this.#stop.abort();
    this.#stop = new AbortController();
    const startRevision = this.#reached + 1n;
    this.#watch = await store.watch({ ...this.#request, startRevision }, this.#stop.signal);
    this.#batches = this.#watch[Symbol.asyncIterator]();
    this.#told = 0n;
    this.isLost = false;
  }

  /** Reads until everything up to `target` is here, or so many batches. Nothing while somebody else does. */
  async read(target: Revision, batchesMax: number): Promise<void> {
    if (this.#isReading || this.isLost || this.#failure !== undefined) return;
    // Nothing can be due, and not every store gives a mark then.
    if (target < this.#start) return;
    this.#isReading = true;
    try {
      this.#watch.requestProgress();
      for (let count = 0; count < batchesMax; count++) {
        const batch = await this.#next(target);
        if (batch === undefined) return;
        this.#received.push(batch);
        if (batch.revision > this.#reached) this.#reached = batch.revision;
        if (batch.revision >= target) return;
      }
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      if (error.reason === 'compacted') this.#failure = error;
      else if (error.reason === 'stopped') this.isLost = true;
      else throw error;
    } finally {
      this.#isReading = false;
    }
  }

  cancel(): void {
    this.#stop.abort();
  }

  /** Compares what has been received since the last time. @throws Error */
  compare(state: State): void {
    for (const batch of this.#received) this.#compareBatch(state, batch);
    this.#received = [];
    const at = this.#failure?.compactRevision;
    if (this.#failure === undefined) return;
    const isLoss = at !== undefined && at <= state.compactRevision && this.#compared + 1n < at;
    if (!isLoss) {
      throw this.#wrong(
        `compacted only for a loss of what comes after ${this.#compared} (the store is compacted at ` +
          `${state.compactRevision})`,
        `compacted at ${at}`,
      );
    }
  }

  /** True when it can be given nothing more. */
  get isOver(): boolean {
    return this.#failure !== undefined;
  }

  #compareBatch(state: State, { events, revision }: WatchBatch): void {
    if (revision > revisionOf(state))
      throw this.#wrong(`at most ${revisionOf(state)}`, `a batch of ${revision}`);
    if (revision < this.#told) throw this.#wrong(`nothing before ${this.#told}`, `a batch of ${revision}`);
    this.#told = revision;
    const due = eventsOf(state, this.#request, { from: this.#compared + 1n, through: revision });
    const differs =
      due.length !== events.length || due.some((event, index) => !isSame(state, event, events[index]!));
    if (differs) {
      const first = due.findIndex(
        (event, index) => events[index] === undefined || !isSame(state, event, events[index]),
      );
      const from = first < 0 ? due.length : first;
      const some = (list: readonly Event[]) =>
        `${list.length}, from ${from}: ${plain(list.slice(from, from + 3))}`;
      throw this.#wrong(`in (${this.#compared}, ${revision}] ${some(due)}`, some(events));
    }
    if (revision > this.#compared) this.#compared = revision;
  }

  async #next(target: Revision): Promise<WatchBatch | undefined> {
    const { promise, reject } = Promise.withResolvers<never>();
    const late = () => reject(this.#wrong(`a batch towards ${target}`, `none in ${batchMsMax} ms`));
    const timer = setTimeout(late, batchMsMax);
    try {
      const next = await Promise.race([this.#batches.next(), promise]);
      if (next.done === true) this.isLost = true;
      return next.done === true ? undefined : next.value;
    } finally {
      clearTimeout(timer);
    }
  }

  #wrong(expected: string, got: string): Error {
    return new Error(`Watch ${plain(this.#request)} from ${this.#start}: expected ${expected}, got ${got}`);
  }
}

/** The pair before an event may be gone once the revision before is compacted. */
function isSame(state: State, due: Event, got: Event): boolean {
  const mayLack = due.kv.modRevision <= state.compactRevision && got.prevKv === undefined;
  const { prevKv: _, ...rest } = due;
  return plain(mayLack ? rest : due) === plain(got);
}
