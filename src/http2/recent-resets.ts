// Streams that this side has reset a short while ago. What the other side sent before it heard of that still comes, and means
// nothing (RFC 9113, 5.1): answered, each of its frames would be one more reset.

/** The oldest is forgotten for the newest. */
const idsMax = 1_000;

export class RecentResets {
  readonly #ids = new Set<number>();

  add(streamId: number): void {
    this.#ids.add(streamId);
    if (this.#ids.size <= idsMax) return;
    for (const oldest of this.#ids) {
      this.#ids.delete(oldest);
      return;
    }
  }

  has(streamId: number): boolean {
    return this.#ids.has(streamId);
  }
}
