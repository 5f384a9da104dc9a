// Calls about a lease to the stores beside the default. Used by lease.ts. One that is away is waited for once, then hardly:
// clients renew all their leases every few seconds, and each renewal asks every store.

import { EtcdError } from '../etcd/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { Router } from '../router/router.ts';
import type { Store } from '../store/store.ts';

/** How long a store that did not answer the last time may hold up a call. */
const awayMs = 100;

type Call<T> = (store: Store, signal: AbortSignal) => Promise<T>;

export interface OtherCallOptions {
  /** How long a store may take. */
  readonly waitMs: number;
  /** The caller's, where nothing is left to do once it has gone. */
  readonly signal?: AbortSignal;
}

/** What a store did: `value` undefined = it does not know the lease. */
type Outcome<T> = { readonly value: T | undefined } | { readonly failure: Readonly<Record<string, unknown>> };

export class OtherStores {
  readonly #router: Router;
  readonly #logger: Logger;
  /** Stores that did not answer the last time, with the number of calls they were left out of. */
  readonly #away = new Map<Store, number>();

  constructor(router: Router, logger: Logger) {
    this.#router = router;
    this.#logger = logger;
  }

  /** Runs `call` on every store but the default; the answers that came in time, without those that say leaseNotFound. */
  async call<T>(call: Call<T>, options: OtherCallOptions): Promise<T[]> {
    const others = this.#router.stores().filter((store) => store !== this.#router.defaultStore);
    const answers = await Promise.all(others.map((store) => this.#ask(store, call, options)));
    return answers.filter((answer) => answer !== undefined) as T[];
  }

  async #ask<T>(store: Store, call: Call<T>, options: OtherCallOptions): Promise<T | undefined> {
    const answer = run(store, call, options).then((outcome) => this.#noted(store, outcome, options));
    if (!this.#away.has(store)) return answer;
    // It goes on behind the caller's back and is noted when it succeeds.
    const soon = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => soon.resolve(undefined), awayMs);
    try {
      return await Promise.race([answer, soon.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** One line when a store goes away and one when it is back. */
  #noted<T>(store: Store, outcome: Outcome<T>, { signal }: OtherCallOptions): T | undefined {
    const missed = this.#away.get(store);
    if ('value' in outcome) {
      if (missed !== undefined)
        this.#logger.info('store answers lease calls again', { store: store.name, missed });
      this.#away.delete(store);
      return outcome.value;
    }
    // A caller that has gone says nothing about the store.
    if (signal?.aborted) return undefined;
    if (missed === undefined) {
      this.#logger.warn('store left out of lease calls', { store: store.name, ...outcome.failure });
    }
    this.#away.set(store, (missed ?? 0) + 1);
    return undefined;
  }
}

async function run<T>(
  store: Store,
  call: Call<T>,
  { waitMs, signal }: OtherCallOptions,
): Promise<Outcome<T>> {
  // Not AbortSignal.any: a renewal stream makes thousands of these on one signal that lives for days.
  const bounded = new AbortController();
  const late = Promise.withResolvers<Outcome<T>>();
  // A store that does not heed the signal must not hold the caller either.
  const giveUp = () => {
    bounded.abort();
    late.resolve({ failure: { waitedMs: waitMs } });
  };
  const timer = setTimeout(giveUp, waitMs);
  signal?.addEventListener('abort', giveUp, { once: true });
  const work = async (): Promise<Outcome<T>> => {
    try {
      return { value: await call(store, bounded.signal) };
    } catch (error) {
      if (error instanceof EtcdError && error.reason === 'leaseNotFound') return { value: undefined };
      return { failure: { error } };
    }
  };
  try {
    return await Promise.race([work(), late.promise]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', giveUp);
  }
}
