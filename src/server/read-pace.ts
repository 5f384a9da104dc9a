// When the reads of a client connection begin: at once, unless the client has not taken the answers that are there, or those under
// way may already bring as much as it should be given. How much a read brings is learned from those before it. A client that does
// not read its answers so keeps its own reads waiting, and nothing else.

import type { HeldPart } from '../lib/held-bytes.ts';

/** An answer that is smaller than expected changes what is expected by one in so many of the difference. */
const forgetting = 8;

/** What an answer is expected to bring. */
export interface ExpectedBytes {
  /** Before any has come. */
  readonly first: number;
  /** However small those before were: the next may be larger. */
  readonly least: number;
}

/** Reads of one kind. */
export class ReadPace {
  /** Their answers that the client has not taken. */
  readonly held: HeldPart;
  readonly #least: number;
  /** Bytes of an answer. */
  #expected: number;
  #underWay = 0;
  /** In the order in which they came. */
  readonly #waiting = new Set<() => void>();

  constructor(held: HeldPart, { first, least }: ExpectedBytes) {
    this.held = held;
    this.#expected = first;
    this.#least = least;
  }

  /** Undefined: the read may begin now; else when the promise says so. It rejects with the signal's reason. Then `done` is to follow. */
  begin(signal: AbortSignal): Promise<void> | undefined {
    if (this.#waiting.size > 0 || !this.#mayBegin) return this.#turn(signal);
    this.#underWay++;
    return undefined;
  }

  /** The read is over, and has brought so many bytes. */
  done(bytes: number): void {
    this.#underWay--;
    const more = Math.max(bytes, this.#least) - this.#expected;
    if (bytes > 0) this.#expected += more > 0 ? more : more / forgetting;
    this.#admit();
  }

  get #mayBegin(): boolean {
    const { bytes, bytesMax } = this.held;
    if (bytes >= bytesMax) return false;
    return this.#underWay === 0 || bytes + (this.#underWay + 1) * this.#expected <= bytesMax;
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error);
      const go = () => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const leave = () => {
        this.#waiting.delete(go);
        reject(signal.reason as Error);
        // Those behind it may not have to wait.
        this.#admit();
      };
      signal.addEventListener('abort', leave, { once: true });
      this.#waiting.add(go);
      this.held.onLess = () => this.#admit();
    });
  }

  #admit(): void {
    for (const go of this.#waiting) {
      if (!this.#mayBegin) return;
      this.#waiting.delete(go);
      this.#underWay++;
      go();
    }
    this.held.onLess = undefined;
  }
}
