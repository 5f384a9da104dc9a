// When watchers hear that something is queued for them: at once, as long as telling them is cheap. Once it takes its time (many
// watchers, large events), as much time again is left to everything else before the next round, and what is published
// meanwhile goes out in one answer: the busier it is, the fewer and larger the answers are. Used by the watch hub.

import type { Clock } from '../../../lib/clock.ts';

/** The longest an event is held back, and how long for each watcher that was told: a few are told at once, whatever it took. */
const restMaxMs = 25;
const restMsPerWatcher = 0.05;
/** A shorter rest is none. */
const restMsMin = 0.5;

export interface Waking {
  wake(): void;
}

export class Wakes {
  readonly #clock: Clock;
  #due = new Set<Waking>();
  #notBefore = Number.NEGATIVE_INFINITY;
  #waiting = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Is to be woken in the next round. */
  add(waking: Waking): void {
    this.#due.add(waking);
  }

  /** Begins a round, now or when it is time. */
  flush(): void {
    if (this.#waiting || this.#due.size === 0) return;
    const early = this.#notBefore - this.#clock.now();
    if (early > 0) void this.#flushLater(early);
    else this.#round();
  }

  async #flushLater(ms: number): Promise<void> {
    this.#waiting = true;
    await this.#clock.sleep(ms);
    this.#waiting = false;
    this.#round();
  }

  #round(): void {
    const due = this.#due;
    this.#due = new Set();
    const began = this.#clock.now();
    for (const waking of due) waking.wake();
    const woken = due.size;
    // By then those who were woken have taken what was queued and given it to their streams, and the streams to the network.
    setImmediate(() => {
      const now = this.#clock.now();
      const restMs = Math.min(now - began, woken * restMsPerWatcher, restMaxMs);
      this.#notBefore = restMs < restMsMin ? now : now + restMs;
    });
  }
}
