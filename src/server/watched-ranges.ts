// What the watches of one stream have been put to, and where: so that it is known which moves of types concern it. Used by watch.ts.

import { overlaps, type KeyRange } from '../etcd/range.ts';
import type { Store } from '../store/store.ts';

/** Ranges that are remembered, and characters of them; with more, every move concerns the stream. */
const rangesMax = 1_000;
const textMax = 256 * 1024;

/** Remembers all ranges that the stream ever had a watch on. */
export class WatchedRanges {
  /** By the range's text. */
  readonly #ranges = new Map<string, { readonly range: KeyRange; readonly store: Store }>();
  #text = 0;

  add(range: KeyRange, store: Store): void {
    if (this.#isFull) return;
    const text = `${range.start.toString('latin1')}\n${range.end?.toString('latin1') ?? ''}`;
    if (!this.#ranges.has(text)) this.#text += text.length;
    this.#ranges.set(text, { range, store });
  }

  /** Whether one of `ranges`, which now live in `store` (undefined: nowhere), was watched elsewhere. */
  areElsewhere(ranges: readonly KeyRange[], store: Store | undefined): boolean {
    if (this.#isFull) return true;
    return [...this.#ranges.values()].some(
      (watched) => watched.store !== store && ranges.some((range) => overlaps(range, watched.range)),
    );
  }

  get #isFull(): boolean {
    return this.#ranges.size > rangesMax || this.#text > textMax;
  }
}
