// Getting a SQL store ready: the database and its tables are created when missing, and this is tried again until it works
// or the store is closed. Used by sql-store.ts. States: connecting → ready. Requests meanwhile fail rather than pile up.

import type { Dialect, Driver, DriverOptions } from '../../dialect/dialect.ts';
import { EtcdError } from '../../etcd/errors.ts';
import { createBackoff } from '../../lib/backoff.ts';
import type { Clock } from '../../lib/clock.ts';
import type { Logger } from '../../lib/log.ts';
import { newHolder } from './schema/schema-turn.ts';
import { ensureSchema, type StoreIdentity } from './schema/schema.ts';

const retryFirstMs = 100;
const retryMaxMs = 1_000;
/** How long a request waits for a store that has only just begun to connect. */
const firstAttemptMs = 2_000;

export interface PreparationOptions {
  readonly dialect: Dialect;
  readonly driver: Driver;
  readonly driverOptions: DriverOptions;
  /** See SqlStoreOptions. */
  readonly keyPrefix?: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called once, before anybody is told that the store is ready. */
  readonly onReady: () => void;
}

/** One store on its way to being ready. */
export class Preparation {
  readonly #options: PreparationOptions;
  readonly #stop = new AbortController();
  readonly #ready = Promise.withResolvers<StoreIdentity>();
  readonly #done: Promise<void>;
  #identity: StoreIdentity | undefined;
  /** Why the latest attempt failed. */
  #failure: unknown;

  /** Begins at once, in the background. */
  constructor(options: PreparationOptions) {
    this.#options = options;
    // Nobody may be waiting when the store is closed before it was ready.
    this.#ready.promise.catch(() => undefined);
    this.#done = this.#prepare(this.#stop.signal);
  }

  get isReady(): boolean {
    return this.#identity !== undefined;
  }

  /** Resolves when the store is ready, however long that takes. @throws the abort reason; EtcdError stopped. */
  async whenReady(signal: AbortSignal): Promise<void> {
    await this.#race(signal);
  }

  /**
   * For requests: waits only while the first attempt is under way.
   * @throws EtcdError timeout, with the reason as its cause; the abort reason.
   */
  async identity(signal: AbortSignal): Promise<StoreIdentity> {
    if (this.#identity !== undefined) return this.#identity;
    if (this.#failure !== undefined) throw new EtcdError('timeout', { cause: this.#failure });
    const late = AbortSignal.timeout(firstAttemptMs);
    try {
      return await this.#race(AbortSignal.any([signal, late]));
    } catch (error) {
      if (late.aborted && !signal.aborted) throw new EtcdError('timeout', { cause: this.#failure ?? error });
      throw error;
    }
  }

  /** Gives up, if still at it. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#ready.reject(new EtcdError('stopped'));
    await this.#done;
  }

  async #race(signal: AbortSignal): Promise<StoreIdentity> {
    signal.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await Promise.race([this.#ready.promise, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #prepare(signal: AbortSignal): Promise<void> {
    const { dialect, driver, driverOptions, keyPrefix, clock, logger, onReady } = this.#options;
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
    const holder = newHolder();
    let told = '';
    while (!signal.aborted) {
      try {
        await dialect.createDatabase(driverOptions);
        const identity = await ensureSchema(driver, dialect, { keyPrefix, logger, signal, holder });
        onReady();
        this.#identity = identity;
        this.#ready.resolve(identity);
        logger.info('The store is ready');
        return;
      } catch (error) {
        if (signal.aborted) return;
        this.#failure = error;
        const message = error instanceof Error ? error.message : String(error);
        if (message !== told) logger.error('The store cannot be reached and is tried again', { error });
        told = message;
      }
      await clock.sleep(backoff.next(), signal);
    }
  }
}
