// Bytes that are held for somebody: counted for each part (a client's connection, say) and for all of them together, against a bound.
// While all together hold more than they should, a part may still hold a small share, so that those who hold much do not keep
// others from going on.

/** In bytes. */
export interface HeldLimits {
  /** What one part may hold. */
  readonly partMax: number;
  /** What all together should hold. */
  readonly allMax: number;
  /** What one part may hold while all together hold more than that. */
  readonly share: number;
}

/** All parts. */
export class HeldBytes {
  readonly limits: HeldLimits;
  /** What all parts hold. */
  bytes = 0;
  /** What they have in `onLess`. */
  readonly waiting = new Set<() => void>();

  constructor(limits: HeldLimits) {
    this.limits = limits;
  }

  /** One that holds nothing yet. What it holds is to be dropped before it is forgotten. */
  newPart(): HeldPart {
    return new HeldPart(this);
  }
}

/** What is held for one. */
export class HeldPart {
  readonly #all: HeldBytes;
  #bytes = 0;
  #onLess: (() => void) | undefined;

  constructor(all: HeldBytes) {
    this.#all = all;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** What it may hold now. */
  get bytesMax(): number {
    const { bytes, limits } = this.#all;
    return bytes < limits.allMax ? limits.partMax : limits.share;
  }

  get isFull(): boolean {
    return this.#bytes >= this.bytesMax;
  }

  /** Called when it holds less, or may hold more since all together do not hold too much any more. */
  set onLess(tell: (() => void) | undefined) {
    const { waiting } = this.#all;
    if (this.#onLess !== undefined) waiting.delete(this.#onLess);
    if (tell !== undefined) waiting.add(tell);
    this.#onLess = tell;
  }

  add(bytes: number): void {
    this.#bytes += bytes;
    this.#all.bytes += bytes;
  }

  drop(bytes: number): void {
    const all = this.#all;
    const wasTooMuch = all.bytes >= all.limits.allMax;
    this.#bytes -= bytes;
    all.bytes -= bytes;
    if (!wasTooMuch || all.bytes >= all.limits.allMax) this.#onLess?.();
    else for (const tell of all.waiting) tell();
  }
}
