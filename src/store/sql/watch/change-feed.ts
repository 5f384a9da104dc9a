// Follows the store's log and hands every new event, once and in order, to one listener (the watch hub). Own commits are
// offered by the committer and published without a read when they follow what was published; the rest is read: when hinted
// (the database's notification, an offer that does not fit) and by poll as a safety net, so a lost hint costs time and
// never an event. Invariant: `applied` never goes back, and everything at or below it has been published.
// States: stopped → running (start) → stopped (stop). An outage keeps it running: it retries and `applied` stands still.

import type { Driver } from '../../../dialect/dialect.ts';
import { EtcdError } from '../../../etcd/errors.ts';
import type { Event, Revision } from '../../../etcd/types.ts';
import { createBackoff } from '../../../lib/backoff.ts';
import type { Clock } from '../../../lib/clock.ts';
import { invariant, InvariantError } from '../../../lib/invariant.ts';
import type { Logger } from '../../../lib/log.ts';
import type { LogReader } from './log-reader.ts';

/** How long the feed rests without a hint, where the database announces commits. */
const pollWithNotifyMs = 1000;
/** Where it does not: while another process is writing, and when none has for a while. What others write is seen that much later. */
const pollBusyMs = 5;
const pollQuietMs = 10;
const quietAfterMs = 30_000;
/** Events read at once. */
const chunkEventsMax = 1024;
/** Offers kept while a read closes the gap before them; more are dropped and read from the log. */
const offersMax = 64;
const retryFirstMs = 50;
const retryMaxMs = 500;

/** New events of the log: all those with after < revision <= through, in (revision, sub) order. */
export interface FeedBatch {
  readonly events: readonly Event[];
  readonly after: Revision;
  readonly through: Revision;
  /** When this process has learned of it, by the clock; absent: just now. */
  readonly knownAt?: number;
}

/** Called synchronously; must not throw. */
export interface FeedListener {
  /** `applied` is `batch.through` already. */
  publish(batch: FeedBatch): void;
  /** The feed fell behind a compaction: events above `applied` and below `compactRevision` are lost. */
  compacted(compactRevision: Revision): void;
}

export interface ChangeFeed {
  readonly running: boolean;
  /** Everything at or below this revision has been published; 0 before the first start. */
  readonly applied: Revision;
  /** Events published: offered by this process, and read from the log. */
  readonly published: Readonly<Record<'own' | 'log', number>>;
  /** Begins to publish what comes after revision `after`. */
  start(after: Revision, listener: FeedListener): void;
  stop(): void;
  /** A commit may have happened: read soon. Hints coalesce; without effect while stopped. */
  hint(): void;
  /**
   * A commit of this process with all its events, `prevKv` filled in, offered in commit order after COMMIT was answered.
   * Published at once when nothing is missing between it and `applied`, else after a read that closes the gap.
   */
  offer(batch: FeedBatch): void;
  /**
   * Resolves when everything committed before the call has been published; waits through outages.
   * @throws EtcdError stopped when the feed stops first.
   */
  caughtUp(): Promise<void>;
}

export interface ChangeFeedOptions {
  readonly reader: LogReader;
  /** For its `listen` only. */
  readonly driver: Pick<Driver, 'listen'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told of every batch beside the listener, for who follows along while the feed runs. */
  readonly published?: (batch: FeedBatch) => void;
  /**
   * The database was found below `seen`, which watchers have been given: it has lost commits. Lifts it above and compacts
   * it there. Gives that revision; undefined when it is not below `seen` (any more).
   */
  readonly lift: (seen: Revision) => Promise<Revision | undefined>;
}

/** A stopped feed over the log. */
export function createChangeFeed(options: ChangeFeedOptions): ChangeFeed {
  return new LogChangeFeed(options);
}

/** What a look at the database has found, once it is published. */
interface Look {
  readonly revision: Revision;
  /** There is more to read than was. */
  readonly hasMore: boolean;
}

interface Asker {
  /** What must be published first; unknown until a read begun after the question returns. */
  target: Revision | undefined;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

class LogChangeFeed implements ChangeFeed {
  readonly #options: ChangeFeedOptions;
  readonly #backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
  readonly published = { own: 0, log: 0 };
  #applied = 0n;
  #listener: FeedListener | undefined;
  #stopping = new AbortController();
  /** Ends the rest between two reads. */
  #rest: AbortController | undefined;
  #hinted = false;
  #failing = false;
  /** While the database's revision is being lifted; what is offered meanwhile is read later. */
  #lifting = false;
  #askers: Asker[] = [];
  /** When a read last brought commits of others. */
  #othersAt = Number.NEGATIVE_INFINITY;
  /** Offers that begin above `applied`, oldest first. */
  #offers: FeedBatch[] = [];

  constructor(options: ChangeFeedOptions) {
    this.#options = options;
  }

  get running(): boolean {
    return this.#listener !== undefined;
  }

  get applied(): Revision {
    return this.#applied;
  }

  start(after: Revision, listener: FeedListener): void {
    invariant(this.#listener === undefined, 'A running change feed is started again');
    this.#applied = after;
    this.#listener = listener;
    this.#stopping = new AbortController();
    this.#failing = false;
    this.#backoff.reset();
    // Not awaited: it ends with stop(). Only a broken invariant makes it reject, and that ends the process.
    void this.#follow(listener, this.#stopping.signal);
    void this.#listen(this.#stopping.signal);
  }

  stop(): void {
    this.#listener = undefined;
    this.#offers = [];
    this.#stopping.abort();
    this.#rest?.abort();
    const askers = this.#askers;
    this.#askers = [];
    for (const asker of askers) asker.reject(new EtcdError('stopped'));
  }

  hint(): void {
    this.#hinted = true;
    this.#rest?.abort();
  }

  offer(batch: FeedBatch): void {
    const listener = this.#listener;
    if (listener === undefined || this.#lifting || batch.through <= this.#applied) return;
    if (batch.after > this.#applied) {
      if (this.#offers.length < offersMax) this.#offers.push(batch);
      this.hint();
      return;
    }
    // A read in flight is no obstacle: what it brings is cut to what is above `applied` by then.
    this.#advance(batch, listener, 'own');
    this.#answer();
  }

  caughtUp(): Promise<void> {
    if (!this.running) return Promise.reject(new EtcdError('stopped'));
    return new Promise((resolve, reject) => {
      this.#askers.push({ target: undefined, resolve, reject });
      this.hint();
    });
  }

  async #follow(listener: FeedListener, signal: AbortSignal): Promise<void> {
    let hasMore = false;
    while (!signal.aborted) {
      this.#hinted = false;
      const asking = this.#askers.filter((asker) => asker.target === undefined);
      let look: Look | undefined;
      try {
        // oxlint-disable-next-line no-await-in-loop -- each look starts where the one before ended
        look = await this.#look(hasMore, { listener, signal });
      } catch (error) {
        if (signal.aborted) return;
        hasMore = false;
        await this.#recover(error, { listener, signal });
        continue;
      }
      if (signal.aborted) return;
      if (this.#failing) this.#options.logger.info('The change feed reads the log again');
      this.#failing = false;
      if (look === undefined) continue;
      this.#backoff.reset();
      this.#takeOffers(listener);
      for (const asker of asking) asker.target = look.revision;
      this.#answer();
      ({ hasMore } = look);
      if (!hasMore && !this.#hinted) await this.#idle(signal);
    }
  }

  /**
   * Publishes what there is to read, if anything. Mostly there is not: own commits are offered, and who asks for progress mostly
   * asks for what is published; so the counter is looked at first, unless it is known that there is more. Undefined: look again.
   */
  async #look(
    hasMore: boolean,
    { listener, signal }: { listener: FeedListener; signal: AbortSignal },
  ): Promise<Look | undefined> {
    const { reader } = this.#options;
    const after = this.#applied;
    if (!hasMore) {
      const { revision } = await reader.revisions(signal);
      if (revision >= after && revision <= this.#applied) return { revision, hasMore: false };
      if (signal.aborted) return undefined;
    }
    const from = this.#applied;
    const { events, through, revision } = await reader.read(
      { after: from, eventsMax: chunkEventsMax },
      signal,
    );
    if (signal.aborted) return undefined;
    if (through < from) {
      await this.#lift(from, { listener, signal });
      return undefined;
    }
    if (through > this.#applied) this.#othersAt = this.#options.clock.now();
    this.#advance({ events, after: from, through }, listener, 'log');
    return { revision, hasMore: through < revision };
  }

  /**
   * A backup was restored, or a replica that was behind has taken over. Watchers must hear that their history is gone:
   * what they know and what comes next do not belong together, and numbers they have seen are not to come again.
   */
  async #lift(
    seen: Revision,
    { listener, signal }: { listener: FeedListener; signal: AbortSignal },
  ): Promise<void> {
    this.#lifting = true;
    try {
      const lifted = await this.#options.lift(seen);
      if (signal.aborted) return;
      if (lifted === undefined) return await this.#options.clock.sleep(this.#backoff.next(), signal);
      this.#options.logger.error('The database has lost commits; every watch starts anew', { seen, lifted });
      listener.compacted(lifted);
      this.#applied = lifted - 1n;
    } finally {
      this.#lifting = false;
    }
  }

  /** Publishes what of `batch` is above `applied`; `batch.after` is not above it. */
  #advance(batch: FeedBatch, listener: FeedListener, from: 'own' | 'log'): void {
    const after = this.#applied;
    const { through } = batch;
    if (through <= after) return;
    // Reads and offers overlap while both are under way. `applied` is always the end of a revision.
    const events =
      batch.after === after ? batch.events : batch.events.filter(({ kv }) => kv.modRevision > after);
    this.#applied = through;
    this.published[from] += events.length;
    const published = { ...batch, events, after };
    this.#options.published?.(published);
    listener.publish(published);
  }

  /** Publishes the offers that follow now; those beyond a gap wait for the next read. */
  #takeOffers(listener: FeedListener): void {
    let taken = 0;
    for (const offer of this.#offers) {
      if (offer.after > this.#applied) break;
      this.#advance(offer, listener, 'own');
      taken++;
    }
    this.#offers.splice(0, taken);
  }

  async #recover(
    error: unknown,
    { listener, signal }: { listener: FeedListener; signal: AbortSignal },
  ): Promise<void> {
    if (error instanceof InvariantError) throw error;
    if (error instanceof EtcdError && error.compactRevision !== undefined) {
      // An offer has overtaken the read that failed: nothing is missing.
      if (this.#applied >= error.compactRevision - 1n) return;
      this.#options.logger.warn('The change feed fell behind a compaction', { ...this.#position(), error });
      listener.compacted(error.compactRevision);
      this.#applied = error.compactRevision - 1n;
      return;
    }
    if (!this.#failing)
      this.#options.logger.warn('The change feed cannot read the log', { ...this.#position(), error });
    this.#failing = true;
    await this.#options.clock.sleep(this.#backoff.next(), signal);
  }

  #position(): { applied: Revision } {
    return { applied: this.#applied };
  }

  /** Resolves those whose revision is published. */
  #answer(): void {
    const isDue = (asker: Asker) => asker.target !== undefined && asker.target <= this.#applied;
    const due = this.#askers.filter(isDue);
    if (due.length === 0) return;
    this.#askers = this.#askers.filter((asker) => !isDue(asker));
    for (const asker of due) asker.resolve();
  }

  async #idle(signal: AbortSignal): Promise<void> {
    this.#rest = new AbortController();
    const { clock, driver } = this.#options;
    const isQuiet = clock.now() - this.#othersAt > quietAfterMs;
    const pollMs = isQuiet ? pollQuietMs : pollBusyMs;
    // stop() aborts #rest too, so one signal is enough.
    await clock.sleep(driver.listen === undefined ? pollMs : pollWithNotifyMs, this.#rest.signal);
    if (!signal.aborted) this.#rest = undefined;
  }

  /** Keeps the database's notifications coming. The poll covers every moment in which they do not. */
  async #listen(signal: AbortSignal): Promise<void> {
    const { driver, logger, clock } = this.#options;
    if (driver.listen === undefined) return;
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
    while (!signal.aborted) {
      try {
        await driver.listen(() => this.hint(), signal);
        backoff.reset();
      } catch (error) {
        if (signal.aborted) return;
        logger.debug('The change feed gets no notifications for now', { error });
      }
      if (!signal.aborted) await clock.sleep(backoff.next(), signal);
    }
  }
}
