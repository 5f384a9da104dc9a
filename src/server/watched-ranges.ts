// What the watches of one stream have been put to, and where: so that it is known which moves of types concern it. Used by watch.ts.

import { overlaps, type KeyRange } from '../etcd/range.ts';
import type { Store } from '../store/store.ts';

/** Ranges that are remembered, and characters of them; with more, every move concerns the stream. */
const rangesMax = 1_000;
const textMax = 256 * 1024;

/** A range whose store is being asked for. */
interface AskedRange {
  readonly range: KeyRange;
  /** Where a type of it was told to live meanwhile. */
  moved?: { readonly store: Store | undefined };
}

/** Remembers all ranges that the stream ever had a watch on. */
export class WatchedRanges {
  readonly #asked = new Set<AskedRange>();
  /** By the range's text. */
  readonly #ranges = new Map<string, { readonly range: KeyRange; readonly store: Store }>();
  #text = 0;

  /** The store of `range`, as `find` finds it: again, when a move that is told meanwhile says otherwise. */
  async storeOf(range: KeyRange, find: (range: KeyRange) => Promise<Store>): Promise<Store> {
    for (;;) {
      const asked: AskedRange = { range };
      this.#asked.add(asked);
      try {
        const store = await find(range);
        if (asked.moved !== undefined && asked.moved.store !== store) continue;
        this.#add(range, store);
        return store;
      } finally {
        this.#asked.delete(asked);
      }
    }
  }

  #add(range: KeyRange, store: Store): void {
    if (this.#isFull) return;
    const text = `${range.start.toString('latin1')}\n${range.end?.toString('latin1') ?? ''}`;
    if (!this.#ranges.has(text)) this.#text += text.length;
    this.#ranges.set(text, { range, store });
  }

  /** To be told of every move. True: one of `ranges`, which now live in `store` (undefined: nowhere), was watched elsewhere. */
  moved(ranges: readonly KeyRange[], store: Store | undefined): boolean {
    for (const asked of this.#asked)
      if (ranges.some((range) => overlaps(range, asked.range))) asked.moved = { store };
    if (this.#isFull) return true;
    return [...this.#ranges.values()].some(
      (watched) => watched.store !== store && ranges.some((range) => overlaps(range, watched.range)),
    );
  }

  get #isFull(): boolean {
    return this.#ranges.size > rangesMax || this.#text > textMax;
  }
}
