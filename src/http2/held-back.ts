// Streams with something to send that had to wait: for a window, or for the socket.

import type { Outbox } from './outbox.ts';
import type { Http2Stream } from './stream.ts';

/** So many streams may wait for the socket at a time before new ones are refused. */
const streamsMax = 16_384;

export class HeldBack {
  readonly #streams = new Set<Http2Stream>();

  get isEmpty(): boolean {
    return this.#streams.size === 0;
  }

  /** Enough streams for one who does not read. */
  get isFull(): boolean {
    return this.#streams.size >= streamsMax;
  }

  add(stream: Http2Stream): void {
    this.#streams.add(stream);
  }

  delete(stream: Http2Stream): void {
    this.#streams.delete(stream);
  }

  /**
   * One frame of each stream in turn, while the outbox has room; next time it begins with those that had to wait longest. Who has to
   * wait for its own window is forgotten.
   */
  sendInto(outbox: Outbox): void {
    // A stream that is put last is met again.
    for (const stream of this.#streams) {
      if (!outbox.hasRoom) return;
      if (!stream.canSend) this.#streams.delete(stream);
      else if (stream.sendSome() && this.#streams.delete(stream)) this.#streams.add(stream);
    }
  }
}
