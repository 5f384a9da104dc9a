// Follows the store's log and hands every new event, once and in order, to one listener (the watch hub). It reads
// when it is hinted (own commit, the database's notification) and by poll as a safety net, so a lost hint costs time
// and never an event. Invariant: `applied` never goes back, and everything at or below it has been published.
// States: stopped → running (start) → stopped (stop). An outage keeps it running: it retries and `applied` stands still.

import type { Driver } from '../../dialect/dialect.ts';
import { EtcdError } from '../../etcd/errors.ts';
import type { Event, Revision } from '../../etcd/types.ts';
import { createBackoff } from '../../lib/backoff.ts';
import type { Clock } from '../../lib/clock.ts';
import { invariant, InvariantError } from '../../lib/invariant.ts';
import type { Logger } from '../../lib/log.ts';
import type { LogChunk, LogReader } from './log-reader.ts';

/** How long the feed rests without a hint, where the database announces commits and where it does not. */
const pollWithNotifyMs = 1000;
const pollMs = 50;
/** Events read at once. */
const chunkEventsMax = 1024;
const retryFirstMs = 50;
const retryMaxMs = 2000;

/** New events of the log: all those with after < revision <= through. */
export interface FeedBatch {
  readonly events: readonly Event[];
  readonly after: Revision;
  readonly through: Revision;
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
  /** Begins to publish what comes after revision `after`. */
  start(after: Revision, listener: FeedListener): void;
  stop(): void;
  /** A commit may have happened: read soon. Hints coalesce; without effect while stopped. */
  hint(): void;
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
}

/** A stopped feed over the log. */
export function createChangeFeed(options: ChangeFeedOptions): ChangeFeed {
  return new LogChangeFeed(options);
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
  #applied = 0n;
  #listener: FeedListener | undefined;
  #stopping = new AbortController();
  /** Ends the rest between two reads. */
  #rest: AbortController | undefined;
  #hinted = false;
  #failing = false;
  #askers: Asker[] = [];

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

  caughtUp(): Promise<void> {
    if (!this.running) return Promise.reject(new EtcdError('stopped'));
    return new Promise((resolve, reject) => {
      this.#askers.push({ target: undefined, resolve, reject });
      this.hint();
    });
  }

  async #follow(listener: FeedListener, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#hinted = false;
      const asking = this.#askers.filter((asker) => asker.target === undefined);
      let chunk: LogChunk;
      try {
        // oxlint-disable-next-line no-await-in-loop -- each read starts where the one before ended
        chunk = await this.#options.reader.read({ after: this.#applied, eventsMax: chunkEventsMax }, signal);
      } catch (error) {
        if (signal.aborted) return;
        await this.#recover(error, { listener, signal });
        continue;
      }
      if (signal.aborted) return;
      this.#publish(chunk, listener);
      for (const asker of asking) asker.target = chunk.revision;
      this.#answer();
      if (chunk.through >= chunk.revision && !this.#hinted) await this.#idle(signal);
    }
  }

  #publish(chunk: LogChunk, listener: FeedListener): void {
    if (this.#failing) this.#options.logger.info('The change feed reads the log again');
    this.#failing = false;
    this.#backoff.reset();
    const after = this.#applied;
    // A counter that went back means that the database lost commits which watchers have seen.
    invariant(
      chunk.through >= after,
      `Expected the store at revision ${after} or above, got ${chunk.revision}`,
    );
    if (chunk.through === after) return;
    this.#applied = chunk.through;
    listener.publish({ events: chunk.events, after, through: chunk.through });
  }

  async #recover(
    error: unknown,
    { listener, signal }: { listener: FeedListener; signal: AbortSignal },
  ): Promise<void> {
    if (error instanceof InvariantError) throw error;
    if (error instanceof EtcdError && error.compactRevision !== undefined) {
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
    const restMs = this.#options.driver.listen === undefined ? pollMs : pollWithNotifyMs;
    // stop() aborts #rest too, so one signal is enough.
    await this.#options.clock.sleep(restMs, this.#rest.signal);
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
