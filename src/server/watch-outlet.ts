// What the watches of one client stream need of it: the seam between watch.ts and the two kinds of watches it holds.

/** What the parts of a session need of it. */
export interface WatchOutlet {
  readonly signal: AbortSignal;
  readonly progressNotifyIntervalMs: number;
  /** In the order of the calls; resolves when the client's stream has taken it. */
  write(message: Buffer): Promise<void>;
  /** Ends the whole stream with the error's status. */
  fail(error: unknown): void;
}
