// Turns of the SQL watches of one stream: what they have taken from their stores and the client has not is bounded by the
// stream, however many watches it has. A few may hold history, and some of all streams of a connection; of what comes live, one at a
// time.

import type { Store, WatchPace } from '../store/store.ts';

/** Watches of one stream and store that hold, or are reading, history. */
const historyTurnsMax = 2;

/** At most `max` turns at a time, given in the order they were asked for. */
export class Turns {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(max: number) {
    this.#free = max;
  }

  take(): (() => void) | Promise<() => void> {
    if (this.#free > 0) {
      this.#free--;
      return this.#taken();
    }
    return new Promise<void>((resolve) => this.#waiting.add(resolve)).then(() => this.#taken());
  }

  #taken(): () => void {
    let isBack = false;
    return () => {
      if (isBack) return;
      isBack = true;
      const [next] = this.#waiting;
      if (next === undefined) this.#free++;
      else {
        this.#waiting.delete(next);
        next();
      }
    };
  }
}

/** The turns of one stream. */
export class StreamPace {
  readonly #memory = new Turns(1);
  /** Apart for each store: one that is slow to read holds up its own only. */
  readonly #history = new Map<Store, Turns>();
  /** Of all streams of the connection. */
  readonly #shared: (store: Store) => Turns;

  constructor(shared: (store: Store) => Turns) {
    this.#shared = shared;
  }

  of(store: Store): WatchPace {
    let history = this.#history.get(store);
    if (history === undefined) this.#history.set(store, (history = new Turns(historyTurnsMax)));
    const shared = this.#shared(store);
    return { turn: (from) => (from === 'memory' ? this.#memory.take() : bothOf(history, shared)) };
  }
}

/** A turn of a stream, and one of its connection. */
async function bothOf(stream: Turns, connection: Turns): Promise<() => void> {
  const own = await stream.take();
  const shared = await connection.take();
  return () => {
    shared();
    own();
  };
}
