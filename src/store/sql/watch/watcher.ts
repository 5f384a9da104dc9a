// One watch: what is due to it and not taken yet. Its consumer pulls; the watch hub pushes while it is synced.
// States: synced (the hub queues its events as they come) → behind (the queue was full: events are left to history and
// the consumer's pulls read them from the ring or the log) → synced again, in one synchronous step, once it has all
// that the feed has published → ended. Invariants: everything due at or below `#position` (behind) or the feed's
// `applied` (synced) was queued exactly once, in revision order; a batch never splits a revision; a progress mark is
// given only while synced with an empty queue.

import { EtcdError } from '../../../etcd/errors.ts';
import type { KeyRange } from '../../../etcd/range.ts';
import type { Event, Revision, WatchCreateRequest } from '../../../etcd/types.ts';
import { createBackoff } from '../../../lib/backoff.ts';
import type { Clock } from '../../../lib/clock.ts';
import { InvariantError } from '../../../lib/invariant.ts';
import type { Watch, WatchBatch, WatchPace } from '../../store.ts';
import type { EventRing } from './event-ring.ts';
import type { LogQuery } from './log-reader.ts';
import { batchOf, joined, withoutPrevKv, type Publication } from './publication.ts';
import type { Wakes } from './wakes.ts';

/** A consumer that leaves more than this untaken falls behind; a single batch may be larger. */
const queueEventsMax = 1024;
const queueBytesMax = 2 * 1024 * 1024;
/** Events taken from history at once, and their size, about. */
const catchUpEventsMax = 1024;
const catchUpBytesMax = 4 * 1024 * 1024;
const retryFirstMs = 50;
const retryMaxMs = 2000;

export type WatcherState = 'synced' | 'behind' | 'ended';

/** What a watcher needs of its hub. */
export interface WatcherHost {
  readonly clock: Clock;
  readonly ring: EventRing;
  readonly wakes: Wakes;
  /** What the feed has published. */
  readonly applied: Revision;
  history(
    query: LogQuery,
    signal: AbortSignal,
  ): Promise<{ readonly events: readonly Event[]; readonly through: Revision }>;
  askProgress(watcher: Watcher): void;
  /** The watcher's queue is no longer empty. */
  holds(watcher: Watcher): void;
  /** The watcher's queue is empty again. */
  holdsNothing(watcher: Watcher): void;
  leave(watcher: Watcher, failure?: EtcdError): void;
  /** Events were given to the consumer; `knownAt`: when the first of them was known, absent: long ago. */
  delivered(events: number, knownAt?: number): void;
  historyFailed(error: unknown): void;
}

export interface WatcherOptions {
  readonly host: WatcherHost;
  readonly range: KeyRange;
  readonly request: Pick<WatchCreateRequest, 'prevKv' | 'filters'>;
  readonly createdRevision: Revision;
  /** The first revision that it is about. */
  readonly nextRevision: Revision;
  /** Compacted when it was created: pairs from before are not told any more, though memory may still have them. */
  readonly compactRevision: Revision;
  readonly pace: WatchPace;
}

/** A watch and its only iterator. */
export class Watcher implements Watch, AsyncIterator<WatchBatch, undefined> {
  readonly createdRevision: Revision;
  readonly range: KeyRange;
  readonly #host: WatcherHost;
  readonly #request: WatcherOptions['request'];
  readonly #firstRevision: Revision;
  readonly #compactRevision: Revision;
  readonly #backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
  #state: WatcherState;
  #position: Revision;
  readonly #pace: WatchPace;
  /** Gives back the turn in which what its consumer deals with was taken. */
  #endTurn: (() => void) | undefined;
  #queue: WatchBatch[] = [];
  /** Everything at or below has been taken; of use while something is queued. */
  #queuedAfter: Revision = 0n;
  /** When the first of what is queued was known. */
  #queuedSince = 0;
  #queuedEvents = 0;
  #queuedBytes = 0;
  #markDue = false;
  #failure: EtcdError | undefined;
  #wake: (() => void) | undefined;
  #reading: AbortController | undefined;

  constructor(options: WatcherOptions) {
    this.#host = options.host;
    this.range = options.range;
    this.#request = options.request;
    this.#pace = options.pace;
    this.createdRevision = options.createdRevision;
    this.#firstRevision = options.nextRevision;
    this.#compactRevision = options.compactRevision;
    this.#position = options.nextRevision - 1n;
    this.#state = this.#position >= options.host.applied ? 'synced' : 'behind';
  }

  get revision(): Revision {
    const { applied } = this.#host;
    return applied > this.createdRevision ? applied : this.createdRevision;
  }

  get state(): WatcherState {
    return this.#state;
  }

  /** The lowest revision whose events it has not been given, queued ones counted as given. */
  get nextRevision(): Revision {
    const { applied } = this.#host;
    const position = this.#state === 'synced' && applied > this.#position ? applied : this.#position;
    return position + 1n;
  }

  [Symbol.asyncIterator](): AsyncIterator<WatchBatch, undefined> {
    return this;
  }

  requestProgress(): void {
    if (this.#state !== 'ended') this.#host.askProgress(this);
  }

  /** The feed has published what a mark was asked for: it is due after the events. */
  mark(): void {
    this.#markDue = true;
    this.wake();
  }

  /** Queues what is due of a publication, when synced; what does not fit puts the watcher behind. */
  offer(publication: Publication): void {
    if (this.#state !== 'synced') return;
    const batch = this.#batchOf(publication);
    if (batch === undefined) return;
    const isFull =
      this.#queuedEvents + batch.events.length > queueEventsMax ||
      this.#queuedBytes + publication.bytes > queueBytesMax;
    const after = publication.after > this.#position ? publication.after : this.#position;
    if (isFull && this.#queue.length > 0) {
      this.#state = 'behind';
      this.#position = after;
      return;
    }
    if (this.#queue.length === 0) {
      this.#queuedAfter = after;
      this.#queuedSince = publication.knownAt;
      this.#host.holds(this);
    }
    this.#queue.push(batch);
    this.#queuedEvents += batch.events.length;
    this.#queuedBytes += publication.bytes;
    if (this.#wake !== undefined) this.#host.wakes.add(this);
  }

  /** Leaves what is queued to history when it reaches back to `floor`, which memory no longer does. False: it does not. */
  letGo(floor: Revision): boolean {
    if (this.#queuedAfter >= floor) return false;
    this.#state = 'behind';
    this.#position = this.#queuedAfter;
    this.#clear();
    return true;
  }

  /**
   * Ends the watch and frees what it holds. Without `failure` the iteration ends quietly; with it, it throws: at
   * once, or for `compacted` after what was queued before.
   */
  end(failure?: EtcdError): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#failure = failure;
    if (failure?.reason !== 'compacted') this.#clear();
    this.#reading?.abort();
    this.#host.leave(this, failure);
    this.wake();
  }

  /** For one caller at a time. */
  async next(): Promise<IteratorResult<WatchBatch, undefined>> {
    this.#giveBack();
    for (;;) {
      if (this.#queue.length > 0) {
        const turn = this.#pace.turn('memory');
        this.#endTurn = turn instanceof Promise ? await turn : turn;
        const batch = this.#take();
        if (batch !== undefined) return { done: false, value: batch };
        this.#giveBack();
        continue;
      }
      if (this.#failure !== undefined) {
        const failure = this.#failure;
        this.#failure = undefined;
        throw failure;
      }
      if (this.#state === 'ended') return { done: true, value: undefined };
      if (this.#state === 'behind') {
        this.#endTurn = await this.#pace.turn('history');
        const batch = await this.#catchUp();
        if (batch !== undefined) return { done: false, value: batch };
        this.#giveBack();
        continue;
      }
      if (this.#markDue) {
        this.#markDue = false;
        return { done: false, value: { events: [], revision: this.#host.applied } };
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  return(): Promise<IteratorResult<WatchBatch, undefined>> {
    this.end();
    this.#giveBack();
    return Promise.resolve({ done: true, value: undefined });
  }

  #giveBack(): void {
    this.#endTurn?.();
    this.#endTurn = undefined;
  }

  /** Its consumer, if it waits, looks again. */
  wake(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  /** All that is queued, as one batch; undefined when that is nothing any more. */
  #take(): WatchBatch | undefined {
    const queue = this.#queue;
    if (queue.length > 0) this.#host.delivered(this.#queuedEvents, this.#queuedSince);
    this.#clear();
    return queue.length === 0 ? undefined : joined(queue);
  }

  #clear(): void {
    this.#queue = [];
    this.#queuedEvents = 0;
    this.#queuedBytes = 0;
    this.#host.holdsNothing(this);
  }

  /** One step towards the feed. Returns what was found on the way, if any. */
  async #catchUp(): Promise<WatchBatch | undefined> {
    if (this.state !== 'behind') return undefined;
    const query = {
      range: this.range,
      after: this.#position,
      eventsMax: catchUpEventsMax,
      bytesMax: catchUpBytesMax,
    };
    const chunk =
      this.#position >= this.#host.applied
        ? { events: [], through: this.#position }
        : (this.#host.ring.read(query) ?? (await this.#readHistory(query)));
    // Ended, or nothing could be read: the caller looks again.
    if (chunk === undefined || this.state !== 'behind') return undefined;
    this.#position = chunk.through;
    // No await between looking at `applied` and joining: a publication comes either before both or after both.
    if (this.#position >= this.#host.applied) this.#state = 'synced';
    const events = this.#select(chunk.events);
    this.#host.delivered(events.length);
    return events.length > 0 ? { events, revision: chunk.through } : undefined;
  }

  async #readHistory(query: LogQuery): Promise<{ events: readonly Event[]; through: Revision } | undefined> {
    this.#reading = new AbortController();
    const { signal } = this.#reading;
    try {
      const chunk = await this.#host.history({ ...query, through: this.#host.applied }, signal);
      this.#backoff.reset();
      return chunk;
    } catch (error) {
      if (error instanceof InvariantError) throw error;
      if (this.state === 'ended') return undefined;
      if (error instanceof EtcdError && error.reason === 'compacted') {
        this.end(error);
        return undefined;
      }
      this.#host.historyFailed(error);
      await this.#host.clock.sleep(this.#backoff.next(), signal);
      return undefined;
    } finally {
      this.#reading = undefined;
    }
  }

  /** What is due of a publication; shared with others where nothing is this watch's own. */
  #batchOf(publication: Publication): WatchBatch | undefined {
    const { filters, prevKv } = this.#request;
    const first = publication.events[0]!.kv.modRevision;
    if (filters.length === 0 && first >= this.#firstRevision && first > this.#compactRevision)
      return prevKv ? publication.whole : publication.plain;
    const events = this.#select(publication.events);
    return events.length === 0 ? undefined : batchOf(events);
  }

  /** The events that this watch asked for, as it asked for them; the same array when that is all of them. */
  #select(events: readonly Event[]): readonly Event[] {
    const { filters, prevKv } = this.#request;
    let due = events;
    const first = events[0];
    if (first !== undefined && first.kv.modRevision < this.#firstRevision) {
      due = due.filter((event) => event.kv.modRevision >= this.#firstRevision);
    }
    if (filters.length > 0) due = due.filter((event) => !filters.includes(`no${event.type}`));
    if (!prevKv) return due.map(withoutPrevKv);
    const isOldest = (event: Event) => event.kv.modRevision <= this.#compactRevision;
    if (first === undefined || !isOldest(first)) return due;
    return due.map((event) => (isOldest(event) ? withoutPrevKv(event) : event));
  }
}
