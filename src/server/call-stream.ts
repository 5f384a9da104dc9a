// The messages of a streaming call, both ways, as its handler sees them. Used by call.ts.

import type { CallListener, IncomingCall } from '../grpc/incoming-call.ts';
import type { MethodCalls } from './metrics/calls.ts';

/** The client's half and ours of a streaming call. Iterating ends at the client's half-close, and throws when the call is over before. */
export interface MessageStream extends AsyncIterable<Buffer> {
  /** Resolves when the transport takes more: a slow client makes its writers wait. Never rejects; after an end it does nothing. */
  write(message: Buffer): Promise<void>;
}

/** The reason of every signal of a call: one for all, since to make one costs more than the rest of a cancellation. */
export const callOver = new DOMException('The call is over', 'AbortError');

const takenAtOnce = Promise.resolve();

interface Outgoing {
  readonly message: Buffer;
  readonly taken: () => void;
}

/**
 * MessageStream over a call. Messages leave in the order in which they were given, whoever gives them: progress marks of a watch
 * stream rely on it. What the client does not take waits here, so that it can hold its writers back.
 */
export class CallStream implements MessageStream, CallListener {
  readonly #call: IncomingCall;
  readonly #calls: MethodCalls;
  readonly #readsOn: boolean;
  readonly #abort: AbortController;
  /** One for each writer that waits. */
  #waiting: Outgoing[] = [];
  /** The reader that waits for something to come. */
  #reader: (() => void) | undefined;
  #closed = false;

  /** `readsOn`: false when its only request was read already. */
  constructor(
    call: IncomingCall,
    options: { readonly readsOn: boolean; readonly abort: AbortController; readonly calls: MethodCalls },
  ) {
    this.#call = call;
    this.#calls = options.calls;
    this.#readsOn = options.readsOn;
    this.#abort = options.abort;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, void> {
    while (this.#readsOn) {
      // An end that the client did not mean must not look like its half-close.
      this.#abort.signal.throwIfAborted();
      const message = this.#call.take();
      if (message !== undefined) {
        this.#calls.messagesReceived++;
        yield message;
      } else if (this.#call.isWhole) return;
      else await new Promise<void>((resolve) => (this.#reader = resolve));
    }
  }

  write(message: Buffer): Promise<void> {
    if (!this.#isOpen()) return takenAtOnce;
    this.#calls.messagesSent++;
    if (this.#waiting.length === 0 && !this.#call.isHeldBack) {
      this.#call.write(message);
      return takenAtOnce;
    }
    return new Promise((taken) => {
      this.#waiting.push({ message, taken });
    });
  }

  /** Nothing is written after this: the status that follows is the last word. */
  close(): void {
    this.#closed = true;
    this.#release();
    this.onMessage();
  }

  onMessage(): void {
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.();
  }

  onRoom(): void {
    while (this.#waiting.length > 0 && !this.#call.isHeldBack) {
      const { message, taken } = this.#waiting.shift()!;
      this.#call.write(message);
      taken();
    }
  }

  onCancelled(): void {
    this.#abort.abort(callOver);
    this.#release();
    this.onMessage();
  }

  #isOpen(): boolean {
    return !this.#closed && !this.#abort.signal.aborted;
  }

  /** Nobody waits for a client that is not served any more. */
  #release(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { taken } of waiting) taken();
  }
}
