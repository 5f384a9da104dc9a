// The states of a store, one for each revision, put together from its events.

import type { Event, KeyValue, Revision } from '../../src/etcd/types.ts';

export const nameOf = (key: Buffer): string => key.toString('latin1');

export class Timeline {
  /** All events, in order. */
  readonly events: readonly Event[];
  /** The last revision that changed anything. */
  readonly through: Revision;
  readonly #ofKey: ReadonlyMap<string, readonly Event[]>;
  readonly #ofRevision: ReadonlyMap<Revision, readonly Event[]>;
  /** All that there ever were, in order. */
  readonly #keys: readonly string[];

  /** `events`: of a store that was empty at first, in order of their revisions. */
  constructor(events: readonly Event[]) {
    this.events = events;
    this.through = events.at(-1)?.kv.modRevision ?? 0n;
    this.#ofKey = Map.groupBy(events, ({ kv }) => nameOf(kv.key));
    this.#keys = [...this.#ofKey.keys()].toSorted();
    this.#ofRevision = Map.groupBy(events, ({ kv }) => kv.modRevision);
  }

  /** What one revision did, in order. */
  changes(revision: Revision): readonly Event[] {
    return this.#ofRevision.get(revision) ?? [];
  }

  /** The last event of a key at or before a revision. */
  lastChange(key: string, revision: Revision): Event | undefined {
    const events = this.#ofKey.get(key) ?? [];
    let [low, high] = [0, events.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (events[middle]!.kv.modRevision <= revision) low = middle + 1;
      else high = middle;
    }
    return events[low - 1];
  }

  /** The pair as it was at a revision. */
  pair(key: string, revision: Revision): KeyValue | undefined {
    const last = this.lastChange(key, revision);
    return last?.type === 'put' ? last.kv : undefined;
  }

  /** All pairs as they were at a revision, in the order of their keys. */
  pairs(revision: Revision): readonly KeyValue[] {
    return this.#keys.map((key) => this.pair(key, revision)).filter((kv) => kv !== undefined);
  }

  /** The revision at which a key was last changed before this one, 0 where it was not there: what a compare sees. */
  modRevision(key: string, before: Revision): Revision {
    return this.pair(key, before - 1n)?.modRevision ?? 0n;
  }
}
