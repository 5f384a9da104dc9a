// Follows a range of keys in the default store for as long as the gateway runs: a list, then the events after it, and all over
// again whenever the watch is lost. Used by placement.ts and kinds.ts.

import type { KeyRange } from '../etcd/range.ts';
import { watchRequest } from '../etcd/requests.ts';
import type { Event, KeyValue, Revision } from '../etcd/types.ts';
import { createBackoff } from '../lib/backoff.ts';
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';
import type { Store } from '../store/store.ts';
import { readOf, wireRange } from './requests.ts';

const retryFirstMs = 50;
const retryMaxMs = 5_000;

export interface TailOptions {
  readonly store: Store;
  readonly range: KeyRange;
  /** For the log. */
  readonly what: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Everything that is there at `revision`, at first and after each break. */
  readonly onList: (kvs: readonly KeyValue[], revision: Revision) => void;
  readonly onEvents: (events: readonly Event[]) => void;
  /** True where the list is only a mark and its values are not looked at. */
  readonly keysOnly?: boolean;
}

/** Runs until `signal` is aborted; never rejects. */
export async function tail(options: TailOptions, signal: AbortSignal): Promise<void> {
  const { store, range, what, clock, logger, onList, onEvents } = options;
  const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
  while (!signal.aborted) {
    try {
      const { header, kvs } = await store.range(
        readOf(range, { keysOnly: options.keysOnly ?? false }),
        signal,
      );
      const { key, rangeEnd } = wireRange(range);
      const request = watchRequest(key, { rangeEnd, startRevision: header.revision + 1n });
      const watch = await store.watch(request, signal);
      onList(kvs, header.revision);
      backoff.reset();
      for await (const { events } of watch) if (events.length > 0) onEvents(events);
    } catch (error) {
      if (signal.aborted) return;
      logger.warn('default store cannot be followed, trying again', { what, error });
    }
    await clock.sleep(backoff.next(), signal);
  }
}
