// The window of what the other side may send without waiting for us (RFC 9113, 5.2): of a stream, or of all together.

/** Counts what comes, and what was given back. */
export class ReceiveWindow {
  readonly #bytesMax: number;
  #left: number;
  /** Given back, and the other side does not know yet. */
  #credit = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#left = bytesMax;
  }

  /** False: more came than was permitted. */
  take(bytes: number): boolean {
    this.#left -= bytes;
    return this.#left >= 0;
  }

  /** Gives `bytes` back; by how much the window is to be widened now: 0 until it is worth a frame. */
  credit(bytes: number): number {
    this.#credit += bytes;
    if (this.#credit < this.#bytesMax / 2) return 0;
    const step = this.#credit;
    this.#credit = 0;
    this.#left += step;
    return step;
  }
}
