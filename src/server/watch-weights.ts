// What the watches of one stream weigh, as far as that is counted against what its client may make the gateway hold. Used by watch.ts.

import type { HeldPart } from '../lib/held-bytes.ts';

/** What a watch weighs beside its keys, about. */
const watchBytes = 2_048;
/** The keys of a watch are kept as bytes and as text, here and in the store. */
const keyCopies = 4;

export class WatchWeights {
  readonly #held: HeldPart;
  #bytes = 0;
  #isOver = false;

  constructor(held: HeldPart) {
    this.#held = held;
  }

  /** Counts a watch with keys of so many bytes, and tells what it weighs; undefined: the client has too much already. */
  take(keyBytes: number): number | undefined {
    return this.#held.isFull ? undefined : this.add(keyBytes);
  }

  /** As `take`, for a watch that is there. */
  add(keyBytes: number): number {
    const weight = watchBytes + keyCopies * keyBytes;
    if (this.#isOver) return 0;
    this.#bytes += weight;
    this.#held.add(weight);
    return weight;
  }

  /** The watch of this weight is gone. */
  drop(weight: number): void {
    if (this.#isOver || weight === 0) return;
    this.#bytes -= weight;
    this.#held.drop(weight);
  }

  /** All watches are gone. */
  end(): void {
    this.drop(this.#bytes);
    this.#isOver = true;
  }
}
