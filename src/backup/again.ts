// What is done to a store that may not answer just then. All of it may be done twice. Used by restore.ts.

import { EtcdError } from '../etcd/errors.ts';
import { createBackoff } from '../lib/backoff.ts';
import type { Clock } from '../lib/clock.ts';

/** How long a store that does not answer is asked again. */
const retryForMs = 60_000;
const retryFirstMs = 100;
const retryMaxMs = 5_000;

/** Does `work`, again where that may help. @throws what it throws in the end */
export type Again = <T>(work: () => Promise<T>) => Promise<T>;

/** An abort of `signal` ends the waiting. */
export function createAgain(clock: Clock, signal: AbortSignal): Again {
  return async (work) => {
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
    const until = clock.now() + retryForMs;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const mayPass = error instanceof EtcdError && error.reason === 'timeout';
        if (!mayPass || signal.aborted || clock.now() > until) throw error;
      }
      await clock.sleep(backoff.next(), signal);
    }
  };
}
