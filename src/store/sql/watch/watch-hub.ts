// All watches of one SQL store. It takes the change feed's batches and hands each event to the watchers whose range has
// its key; only those are touched. The feed runs while there are watchers, and a while longer, so that clients that
// reconnect find recent history in the ring. Invariant: the ring, the feed's `applied` and the watchers' states change
// together, in synchronous steps.

import { frameEvents } from '../../../etcd/codec/framed-event.ts';
import { EtcdError } from '../../../etcd/errors.ts';
import { keyRange } from '../../../etcd/range.ts';
import type { Event, Revision, WatchCreateRequest } from '../../../etcd/types.ts';
import type { Clock } from '../../../lib/clock.ts';
import { Histogram, latencyBounds } from '../../../lib/histogram.ts';
import type { Logger } from '../../../lib/log.ts';
import type { WatchStats } from '../../stats.ts';
import type { Watch, WatchPace } from '../../store.ts';
import type { ChangeFeed, FeedBatch, FeedListener } from './change-feed.ts';
import { EventRing } from './event-ring.ts';
import { InterestIndex, type Interest } from './interest-index.ts';
import { createShared, createSlots } from '../limits.ts';
import type { LogQuery, LogReader, Revisions } from './log-reader.ts';
import { Publication } from './publication.ts';
import { Wakes } from './wakes.ts';
import { Watcher, type WatcherHost } from './watcher.ts';

const ringEventsMax = 16_384;
const ringBytesMax = 32 * 1024 * 1024;
/** Watchers that read history from the database at the same time; the rest wait their turn. */
const historyReadsMax = 4;
/** How long the feed goes on without watchers. */
const feedLingerMs = 30_000;

/** Watchers by state. */
export interface WatcherCounts {
  readonly synced: number;
  readonly behind: number;
}

export interface WatchHub {
  /**
   * Registers a watch; it ends with `signal`. The revision is read from the database, so that a watch from 0 gets
   * nothing that was acknowledged before the call and everything acknowledged after it. Without `pace` its consumer takes
   * whatever there is.
   * @throws EtcdError stopped when the hub is closed; what the reader throws when the database cannot be read.
   */
  watch(request: WatchCreateRequest, signal: AbortSignal, pace?: WatchPace): Promise<Watch>;
  counts(): WatcherCounts;
  stats(): WatchStats;
  /** Every iteration throws EtcdError stopped. */
  close(): void;
}

export interface WatchHubOptions {
  readonly reader: LogReader;
  readonly feed: ChangeFeed;
  readonly clock: Clock;
  readonly logger: Logger;
  /** For tests; default: 16384 events, 32 MiB. */
  readonly ring?: { readonly eventsMax: number; readonly bytesMax: number };
}

/** A hub without watchers over a stopped feed, which it starts and stops. */
export function createWatchHub(options: WatchHubOptions): WatchHub {
  return new FeedWatchHub(options);
}

/** For a consumer that has nothing to share. */
const atOnce: WatchPace = { turn: () => () => undefined };

class FeedWatchHub implements WatchHub, WatcherHost, FeedListener {
  readonly clock: Clock;
  readonly ring: EventRing;
  readonly wakes: Wakes;
  readonly #feed: ChangeFeed;
  readonly #reader: LogReader;
  readonly #logger: Logger;
  readonly #revisions: () => Promise<Revisions>;
  readonly #slots = createSlots(historyReadsMax);
  readonly #watchers = new Map<Watcher, () => void>();
  readonly #index = new InterestIndex<Watcher>();
  /** Have something queued; those whose oldest event came first are first. */
  readonly #holding = new Set<Watcher>();
  /** Asked for progress, and the question has not gone to the feed yet. */
  #progressAskers = new Set<Watcher>();
  #progressAsked = false;
  #linger: AbortController | undefined;
  readonly #lagSeconds = new Histogram(latencyBounds);
  #delivered = 0;
  #compacted = 0;
  #historyFailing = false;
  #closed = false;

  constructor(options: WatchHubOptions) {
    this.clock = options.clock;
    this.ring = new EventRing(options.ring ?? { eventsMax: ringEventsMax, bytesMax: ringBytesMax });
    this.wakes = new Wakes(options.clock);
    this.#feed = options.feed;
    this.#reader = options.reader;
    this.#logger = options.logger;
    this.#revisions = createShared(() => options.reader.revisions());
  }

  get applied(): Revision {
    return this.#feed.applied;
  }

  async watch(request: WatchCreateRequest, signal: AbortSignal, pace = atOnce): Promise<Watch> {
    signal.throwIfAborted();
    const { revision, compactRevision } = await this.#revisions();
    // From here on synchronous: what the feed publishes next finds the watcher registered.
    signal.throwIfAborted();
    if (this.#closed) throw new EtcdError('stopped');
    this.#linger?.abort();
    if (!this.#feed.running) {
      this.ring.reset(revision);
      this.#feed.start(revision, this);
    }
    const { startRevision } = request;
    const watcher = new Watcher({
      host: this,
      range: keyRange(request.key, request.rangeEnd),
      request,
      createdRevision: revision,
      nextRevision: startRevision === 0n ? revision + 1n : startRevision,
      compactRevision,
      pace,
    });
    const onAbort = () => watcher.end();
    signal.addEventListener('abort', onAbort, { once: true });
    this.#watchers.set(watcher, () => signal.removeEventListener('abort', onAbort));
    this.#index.add(watcher.range, watcher);
    if (startRevision !== 0n && startRevision < compactRevision) {
      watcher.end(new EtcdError('compacted', { compactRevision }));
    }
    if (revision > this.#feed.applied) this.#feed.hint();
    return watcher;
  }

  counts(): WatcherCounts {
    let synced = 0;
    for (const watcher of this.#watchers.keys()) if (watcher.state === 'synced') synced++;
    return { synced, behind: this.#watchers.size - synced };
  }

  stats(): WatchStats {
    let next = this.applied + 1n;
    for (const watcher of this.#watchers.keys())
      if (watcher.state === 'behind' && watcher.nextRevision < next) next = watcher.nextRevision;
    return {
      feedRunning: this.#feed.running,
      events: this.#feed.published,
      watchers: { ...this.counts() },
      behindRevisions: Number(this.applied + 1n - next),
      delivered: this.#delivered,
      lagSeconds: this.#lagSeconds,
      compacted: this.#compacted,
      ringEvents: this.ring.size,
      ringBytes: this.ring.bytes,
    };
  }

  close(): void {
    this.#closed = true;
    for (const watcher of this.#watchers.keys()) watcher.end(new EtcdError('stopped'));
    this.#linger?.abort();
    if (this.#feed.running) this.#feed.stop();
  }

  // What the feed calls.

  publish(batch: FeedBatch): void {
    // What is queued lives in the ring too; what has left the ring is not kept for those who have not taken it since.
    for (const watcher of this.#holding) if (!watcher.letGo(this.ring.floor)) break;
    const framed = frameEvents(batch.events);
    this.ring.append(framed, batch.through);
    const { after, through, knownAt = this.clock.now() } = batch;
    const due = new Map<Interest<Watcher>, Event[]>();
    for (const event of framed) {
      this.#index.match(event.kv.key, (interest) => {
        const events = due.get(interest);
        if (events === undefined) due.set(interest, [event]);
        else events.push(event);
      });
    }
    for (const [interest, events] of due) {
      const publication = new Publication(events, { after, through, knownAt });
      for (const watcher of interest.members) watcher.offer(publication);
    }
    this.wakes.flush();
  }

  compacted(compactRevision: Revision): void {
    for (const watcher of this.#watchers.keys()) {
      if (watcher.nextRevision < compactRevision)
        watcher.end(new EtcdError('compacted', { compactRevision }));
    }
    this.ring.reset(compactRevision - 1n);
  }

  // What watchers call.

  async history(query: LogQuery, signal: AbortSignal) {
    const chunk = await this.#slots.run(() => this.#reader.read(query, signal), signal);
    this.#historyFailing = false;
    return chunk;
  }

  historyFailed(error: unknown): void {
    if (!this.#historyFailing) this.#logger.warn('Watchers cannot catch up from the log', { error });
    this.#historyFailing = true;
  }

  delivered(events: number, knownAt?: number): void {
    this.#delivered += events;
    if (knownAt !== undefined) this.#lagSeconds.observe((this.clock.now() - knownAt) / 1000);
  }

  holds(watcher: Watcher): void {
    this.#holding.add(watcher);
  }

  holdsNothing(watcher: Watcher): void {
    this.#holding.delete(watcher);
  }

  askProgress(watcher: Watcher): void {
    this.#progressAskers.add(watcher);
    if (this.#progressAsked) return;
    this.#progressAsked = true;
    // Asks of one turn share a question, so that one mark can speak for all watches of a stream; so do those gathered while it is on its way.
    queueMicrotask(() => void this.#answerProgress());
  }

  leave(watcher: Watcher, failure?: EtcdError): void {
    if (failure?.reason === 'compacted') this.#compacted++;
    this.#watchers.get(watcher)?.();
    this.#watchers.delete(watcher);
    this.#index.delete(watcher.range, watcher);
    this.#progressAskers.delete(watcher);
    this.#holding.delete(watcher);
    if (this.#watchers.size === 0 && !this.#closed) void this.#stopFeedLater();
  }

  async #answerProgress(): Promise<void> {
    try {
      while (this.#progressAskers.size > 0) {
        const askers = this.#progressAskers;
        this.#progressAskers = new Set();
        await this.#feed.caughtUp();
        for (const watcher of askers) if (watcher.state !== 'ended') watcher.mark();
      }
    } catch (error) {
      // The feed stops only when no watcher is left that could be answered.
      if (!(error instanceof EtcdError)) throw error;
    } finally {
      this.#progressAsked = false;
    }
  }

  async #stopFeedLater(): Promise<void> {
    const linger = new AbortController();
    this.#linger?.abort();
    this.#linger = linger;
    await this.clock.sleep(feedLingerMs, linger.signal);
    if (!linger.signal.aborted && this.#feed.running) this.#feed.stop();
  }
}
