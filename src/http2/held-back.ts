// Streams with something to send that had to wait: for a window, or for the socket.

import type { Outbox } from './outbox.ts';
import type { Http2Stream } from './stream.ts';

export class HeldBack {
  readonly #streams = new Set<Http2Stream>();

  get isEmpty(): boolean {
    return this.#streams.size === 0;
  }

  add(stream: Http2Stream): void {
    this.#streams.add(stream);
  }

  delete(stream: Http2Stream): void {
    this.#streams.delete(stream);
  }

  /** One frame of each stream in turn, while the outbox has room. Who has to wait for its own window is forgotten. */
  sendInto(outbox: Outbox): void {
    for (let sent = true; sent;) {
      sent = false;
      for (const stream of this.#streams) {
        if (!outbox.hasRoom) return;
        if (stream.canSend) sent = stream.sendSome() || sent;
        else this.#streams.delete(stream);
      }
    }
  }
}
