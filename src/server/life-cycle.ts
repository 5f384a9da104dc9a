// Where a server is between its start and its end, for those who tell others of it: the health pages and the health service.

/** `starting`: not all addresses are listened on; `stopping`: clients are to go elsewhere. In this order. */
export type Phase = 'starting' | 'serving' | 'stopping';

/** One server's. */
export class LifeCycle {
  #phase: Phase = 'starting';
  readonly #listeners = new Set<() => void>();

  get phase(): Phase {
    return this.#phase;
  }

  /** Tells everybody who listens, at once. */
  enter(phase: Phase): void {
    this.#phase = phase;
    for (const listener of this.#listeners) listener();
  }

  /** Calls `listener` at every change; answers the function that ends the calls. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
