// Streams with something to send that had to wait: for a window, or for the socket.

import type { Http2Stream, StreamHost } from './stream.ts';

/** So many streams may wait for the socket at a time before new ones are refused. */
const streamsMax = 16_384;

export class HeldBack {
  readonly #streams = new Set<Http2Stream>();
  /** Those that wait for the window of the connection and nothing else: not looked at until it opens. */
  readonly #starved = new Set<Http2Stream>();

  get isEmpty(): boolean {
    return this.#streams.size + this.#starved.size === 0;
  }

  /** Enough streams for one who does not read. */
  get isFull(): boolean {
    return this.#streams.size + this.#starved.size >= streamsMax;
  }

  add(stream: Http2Stream): void {
    if (!this.#starved.has(stream)) this.#streams.add(stream);
  }

  delete(stream: Http2Stream): void {
    this.#streams.delete(stream);
    this.#starved.delete(stream);
  }

  /**
   * One frame of each stream in turn, while the outbox has room; next time it begins with those that had to wait longest. Who has to
   * wait for its own window is forgotten.
   */
  sendInto(host: StreamHost): void {
    for (const stream of this.#starved) {
      if (host.sendWindow <= 0 || !host.outbox.hasRoom) break;
      this.#starved.delete(stream);
      this.#streams.add(stream);
      this.#send(stream, host);
    }
    // A stream that is put last is met again.
    for (const stream of this.#streams) {
      if (!host.outbox.hasRoom) return;
      this.#send(stream, host);
    }
  }

  #send(stream: Http2Stream, host: StreamHost): void {
    if (!stream.canSend) this.#streams.delete(stream);
    else if (host.sendWindow <= 0 && stream.needsWindow) {
      this.#streams.delete(stream);
      this.#starved.add(stream);
    } else if (stream.sendSome() && this.#streams.delete(stream)) this.#streams.add(stream);
  }
}
