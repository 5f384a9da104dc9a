// The newest events of a store in memory, bounded by count and bytes. The watch hub fills it from the change feed;
// watchers that fell behind, or start a little in the past, catch up from it without asking the database.
// Invariant: it holds every event with floor < revision <= through, and whole revisions only.

import { contains, type KeyRange } from '../../../etcd/range.ts';
import type { Event, Revision } from '../../../etcd/types.ts';

export interface EventRingOptions {
  readonly eventsMax: number;
  readonly bytesMax: number;
}

/** What an event weighs in memory, about. */
export function eventBytes({ kv, prevKv }: Event): number {
  return 256 + kv.key.length + kv.value.length + (prevKv?.value.length ?? 0);
}

/** Bounded history: appended at the new end, dropped at the old one. */
export class EventRing {
  readonly #options: EventRingOptions;
  #events: Event[] = [];
  /** Index of the oldest event held; those before it are dropped and their slots not yet reclaimed. */
  #head = 0;
  #bytes = 0;
  #floor = 0n;
  #through = 0n;

  constructor(options: EventRingOptions) {
    this.#options = options;
  }

  /** The ring reaches back to just above this revision. */
  get floor(): Revision {
    return this.#floor;
  }

  /** The ring is complete up to this revision. */
  get through(): Revision {
    return this.#through;
  }

  get size(): number {
    return this.#events.length - this.#head;
  }

  /** What the events weigh, about. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Forgets everything; history begins above `revision`. */
  reset(revision: Revision): void {
    this.#events = [];
    this.#head = 0;
    this.#bytes = 0;
    this.#floor = revision;
    this.#through = revision;
  }

  /** Adds all events of the revisions above the ring's `through` up to the given one. */
  append(events: readonly Event[], through: Revision): void {
    for (const event of events) {
      this.#events.push(event);
      this.#bytes += eventBytes(event);
    }
    this.#through = through;
    while (this.size > this.#options.eventsMax || this.#bytes > this.#options.bytesMax)
      this.#dropOldestRevision();
    if (this.#head > 1024 && this.#head * 2 > this.#events.length) {
      this.#events = this.#events.slice(this.#head);
      this.#head = 0;
    }
  }

  /**
   * Events of `range` above `after`, stopping at a revision's end after about `eventsMax` of them or `bytesMax`; `through`
   * tells how far the answer is complete. Undefined when the ring does not reach back to `after`.
   */
  read(query: {
    readonly range: KeyRange;
    readonly after: Revision;
    readonly eventsMax: number;
    readonly bytesMax: number;
  }): { readonly events: readonly Event[]; readonly through: Revision } | undefined {
    if (query.after < this.#floor) return undefined;
    const found: Event[] = [];
    let bytes = 0;
    for (let index = this.#firstAbove(query.after); index < this.#events.length; index++) {
      const event = this.#events[index]!;
      if (found.length >= query.eventsMax || bytes >= query.bytesMax) {
        const before = this.#events[index - 1]!.kv.modRevision;
        if (event.kv.modRevision !== before) return { events: found, through: before };
      }
      if (!contains(query.range, event.kv.key)) continue;
      found.push(event);
      bytes += eventBytes(event);
    }
    return { events: found, through: this.#through };
  }

  #firstAbove(revision: Revision): number {
    let low = this.#head;
    let high = this.#events.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#events[middle]!.kv.modRevision > revision) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #dropOldestRevision(): void {
    const oldest = this.#events[this.#head]!.kv.modRevision;
    for (
      let event = this.#events[this.#head];
      event?.kv.modRevision === oldest;
      event = this.#events[this.#head]
    ) {
      this.#bytes -= eventBytes(event);
      // A hole rather than a reference, so that the dropped event can be collected before the slots are.
      this.#events[this.#head] = droppedEvent;
      this.#head++;
    }
    this.#floor = oldest;
  }
}

const droppedEvent: Event = {
  type: 'delete',
  kv: {
    key: Buffer.alloc(0),
    createRevision: 0n,
    modRevision: 0n,
    version: 0n,
    value: Buffer.alloc(0),
    lease: 0n,
  },
};
