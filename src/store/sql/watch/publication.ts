// Events of one publication of the feed, for the watchers of one range. The batches that watchers make of them are shared by all
// that want the same, as the same objects, so that whoever encodes them can do it once. Used by the watch hub and its watchers.

import type { Event, Revision } from '../../../etcd/types.ts';
import type { WatchBatch } from '../../store.ts';
import { eventBytes } from './event-ring.ts';

/** Never empty, never changed. */
export class Publication {
  readonly events: readonly Event[];
  readonly after: Revision;
  readonly through: Revision;
  /** When this process has learned of it, by the clock. */
  readonly knownAt: number;
  /** With previous values. */
  readonly whole: WatchBatch;
  readonly #bytes: number;
  #plain: WatchBatch | undefined;

  constructor(
    events: readonly Event[],
    {
      after,
      through,
      knownAt,
    }: { readonly after: Revision; readonly through: Revision; readonly knownAt: number },
  ) {
    this.events = events;
    this.after = after;
    this.through = through;
    this.knownAt = knownAt;
    this.whole = batchOf(events);
    this.#bytes = events.reduce((sum, event) => sum + eventBytes(event), 0);
  }

  /** Size of the events, about. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Without previous values. */
  get plain(): WatchBatch {
    return (this.#plain ??= batchOf(this.events.map(withoutPrevKv)));
  }
}

/** The event as a watch gets it that asked for no previous values. */
export function withoutPrevKv({ type, kv }: Event): Event {
  return { type, kv };
}

/** Some events of a publication. As etcd does for a watch that is up to date, not the end of it: others may have written the rest. */
export function batchOf(events: readonly Event[]): WatchBatch {
  return { events, revision: events.at(-1)!.kv.modRevision };
}

interface Join {
  readonly last: WatchBatch;
  readonly length: number;
  readonly batch: WatchBatch;
}

/** By the first of those joined: the latest join. */
const joins = new WeakMap<WatchBatch, Join>();

/**
 * One batch of several that follow each other; the same object for the same batches. What is shared between watchers of one
 * range comes to each of them without a gap, so the first, the last and their number tell which they are.
 */
export function joined(batches: readonly WatchBatch[]): WatchBatch {
  const [first] = batches;
  const last = batches.at(-1)!;
  if (first === undefined || first === last) return last;
  const { length } = batches;
  const before = joins.get(first);
  if (before?.last === last && before.length === length) return before.batch;
  const batch = { events: batches.flatMap(({ events }) => events), revision: last.revision };
  joins.set(first, { last, length, batch });
  return batch;
}
