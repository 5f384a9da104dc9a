// Two small bounds on what goes to the database at once. Used by the watch hub and the compactor.

import { EtcdError } from '../../etcd/errors.ts';

/** Runs at most `max` tasks at a time, the others in the order they came. */
export interface Slots {
  /** How many were refused since too many waited. */
  readonly refused: number;
  /** Rejects with the signal's reason when it is aborted before the task's turn. @throws EtcdError tooManyRequests */
  run<T>(task: () => Promise<T>, signal: AbortSignal): Promise<T>;
}

/** Slots for `max` tasks; at most `waitingMax` wait for one. */
export function createSlots(max: number, waitingMax = Number.POSITIVE_INFINITY): Slots {
  let running = 0;
  let refused = 0;
  const waiting = new Set<() => void>();
  const turn = (signal: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      if (waiting.size >= waitingMax) {
        refused++;
        return reject(new EtcdError('tooManyRequests'));
      }
      const onTurn = () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = () => {
        waiting.delete(onTurn);
        reject(signal.reason as Error);
      };
      waiting.add(onTurn);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  return {
    get refused() {
      return refused;
    },
    async run(task, signal) {
      signal.throwIfAborted();
      if (running < max) running++;
      // A turn is handed over with its slot, so `running` stays as it is.
      else await turn(signal);
      try {
        return await task();
      } finally {
        const [next] = waiting;
        if (next === undefined) running--;
        else {
          waiting.delete(next);
          next();
        }
      }
    },
  };
}

/**
 * Shares one read among those who ask for it: an answer comes from a read that began after the question, and at most
 * one read runs at a time.
 */
export function createShared<T>(read: () => Promise<T>): () => Promise<T> {
  let current: Promise<T> | undefined;
  let following: Promise<T> | undefined;
  const begin = () => {
    const promise = read().finally(() => {
      if (current === promise) current = undefined;
    });
    current = promise;
    return promise;
  };
  return () => {
    if (following !== undefined) return following;
    if (current === undefined) return begin();
    const over = () => {
      following = undefined;
      return begin();
    };
    // Whoever asked for the read in flight gets its error; these get an answer of their own.
    following = current.then(over, over);
    return following;
  };
}
