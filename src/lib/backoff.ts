// Growing delays between attempts, capped, with jitter so that several gateways do not retry in step.

export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  /** In [0, 1); default Math.random. */
  readonly random?: () => number;
}

export interface Backoff {
  /** Milliseconds to wait before the next attempt: doubles with each call up to the cap, minus up to a quarter. */
  next(): number;
  /** After a success: the next delay is the first one again. */
  reset(): void;
}

/** A sequence of delays for one thing that is retried. */
export function createBackoff({ firstMs, maxMs, random = Math.random }: BackoffOptions): Backoff {
  let delayMs = firstMs;
  return {
    next() {
      const chosen = delayMs * (1 - random() / 4);
      delayMs = Math.min(delayMs * 2, maxMs);
      return chosen;
    },
    reset() {
      delayMs = firstMs;
    },
  };
}
