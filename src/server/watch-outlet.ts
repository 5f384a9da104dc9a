// The way out of one client's watch stream, shared by all its watches: the seam between watch.ts and the two kinds of
// watches it holds.

import type { MessageStream } from './call.ts';

/** A message of several that make one answer. */
export interface Piece {
  /** Whoever gives the pieces, one after the other. */
  readonly from: object;
  readonly isLast: boolean;
}

/** What the parts of a session need of it. */
export interface WatchOutlet {
  readonly signal: AbortSignal;
  /**
   * In the order of the calls; resolves when the client's stream has taken it. After a piece that is not the last one, what
   * others give waits for the rest: clients put the fragments of an answer together and lose what comes among them.
   */
  write(message: Buffer, piece?: Piece): Promise<void>;
  /** Ends the whole stream with the error's status. */
  fail(error: unknown): void;
}

interface Held {
  readonly message: Buffer;
  readonly piece: Piece | undefined;
  readonly taken: () => void;
}

/** The outlet of `stream`. */
export class StreamOutlet implements WatchOutlet {
  readonly signal: AbortSignal;
  readonly fail: (error: unknown) => void;
  readonly #stream: Pick<MessageStream, 'write'>;
  /** Has begun an answer and not given its last piece. */
  #holder: object | undefined;
  /** One message at most for each writer that waits, and the pieces of one that gives them at once. */
  #held: Held[] = [];

  constructor(
    stream: Pick<MessageStream, 'write'>,
    { signal, fail }: { readonly signal: AbortSignal; readonly fail: (error: unknown) => void },
  ) {
    this.#stream = stream;
    this.signal = signal;
    this.fail = fail;
  }

  write(message: Buffer, piece?: Piece): Promise<void> {
    if (this.#holder !== undefined && this.#holder !== piece?.from) {
      return new Promise((taken) => {
        this.#held.push({ message, piece, taken });
      });
    }
    const taken = this.#give(message, piece);
    this.#release();
    return taken;
  }

  #give(message: Buffer, piece: Piece | undefined): Promise<void> {
    this.#holder = piece?.isLast === false ? piece.from : undefined;
    return this.#stream.write(message);
  }

  #release(): void {
    let held: Held | undefined;
    while (this.#mayGoOn() && (held = this.#held.shift()) !== undefined) {
      void this.#give(held.message, held.piece).then(held.taken);
    }
  }

  #mayGoOn(): boolean {
    return this.#holder === undefined || this.#held[0]?.piece?.from === this.#holder;
  }
}
