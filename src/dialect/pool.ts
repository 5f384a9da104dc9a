// A bounded pool of connections, the same for every engine, so that waiting, aborting, ageing and closing behave alike
// whatever the database package offers. Used by driver.ts. Invariant: a connection is idle, lent or being opened,
// never two of them, and their sum never exceeds `connectionsMax`.

import { SqlFault, type PoolOptions, type PoolStats } from './dialect.ts';

/** What the pool must know of a connection. */
export interface Pooled {
  /** False once the package reported it lost. */
  isUsable(): boolean;
  /** Closes it at once; never rejects. */
  close(): Promise<void>;
}

/** Callers that may wait for a connection at the same time. */
const waitersMax = 10_000;
/** Idle connections are closed after this time unless the options say otherwise. */
const defaultIdleLifeTimeMs = 300_000;

interface Waiter<C> {
  readonly resolve: (connection: C) => void;
  readonly reject: (reason: unknown) => void;
}

interface Lifetime {
  readonly openedAt: number;
  idleSince: number;
}

export class Pool<C extends Pooled> {
  readonly #connect: () => Promise<C>;
  readonly #options: PoolOptions;
  readonly #lifetimes = new WeakMap<C, Lifetime>();
  readonly #waiters = new Set<Waiter<C>>();
  /** Most recently used last. */
  #idle: C[] = [];
  #lent = 0;
  #opening = 0;
  /** Closed by the pool and not over yet. */
  readonly #closing = new Set<Promise<void>>();
  #closed: Promise<void> | undefined;
  #sweep: NodeJS.Timeout | undefined;
  /** Connections opened until then are not lent again. */
  #renewedAt = Number.NEGATIVE_INFINITY;
  #onDrained: (() => void) | undefined;
  #opened = 0;
  #failed = 0;
  #refused = 0;
  #late = 0;

  /** `connect` opens one connection and rejects with a SqlFault. */
  constructor(options: PoolOptions, connect: () => Promise<C>) {
    this.#options = options;
    this.#connect = connect;
  }

  get stats(): PoolStats {
    return {
      max: this.#options.connectionsMax,
      idle: this.#idle.length,
      lent: this.#lent,
      opening: this.#opening,
      waiting: this.#waiters.size,
      opened: this.#opened,
      failed: this.#failed,
      refused: this.#refused,
      late: this.#late,
    };
  }

  /** Lends a connection; it must come back by `release`. Rejects with a SqlFault or the abort reason. */
  acquire(signal?: AbortSignal): Promise<C> {
    if (this.#closed) return Promise.reject(closedFault());
    if (signal?.aborted) return Promise.reject(signal.reason);
    const idle = this.#takeIdle();
    if (idle !== undefined) return Promise.resolve(this.#lend(idle));
    if (this.#waiters.size >= waitersMax) {
      this.#refused++;
      return Promise.reject(
        new SqlFault('crowded', `More than ${waitersMax} requests wait for a database connection`),
      );
    }
    return this.#wait(signal);
  }

  /** Takes a lent connection back. A `broken` one is closed: its state is unknown. */
  release(connection: C, state: 'reusable' | 'broken'): void {
    this.#lent--;
    const lifetime = this.#lifetimes.get(connection);
    const { lifeTimeMs = Number.POSITIVE_INFINITY } = this.#options;
    const oldest = Math.max(this.#renewedAt, performance.now() - (lifeTimeMs || Number.POSITIVE_INFINITY));
    const expired = lifetime !== undefined && lifetime.openedAt <= oldest;
    if (state === 'broken' || expired || this.#closed || !connection.isUsable()) this.#discard(connection);
    else this.#offer(connection);
    this.#pump();
    this.#settle();
  }

  /** Closes the connections there are, those that are lent when they come back. */
  renew(): void {
    this.#renewedAt = performance.now();
    for (const connection of this.#idle.splice(0)) this.#discard(connection);
  }

  /** Waits until every lent connection is back, then closes all. */
  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #end(): Promise<void> {
    clearTimeout(this.#sweep);
    for (const waiter of this.#waiters) waiter.reject(closedFault());
    if (this.#lent + this.#opening > 0) {
      await new Promise<void>((resolve) => {
        this.#onDrained = resolve;
      });
    }
    for (const connection of this.#idle.splice(0)) this.#discard(connection);
    await Promise.all(this.#closing);
  }

  #discard(connection: C): void {
    const closing = connection.close().finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  #wait(signal?: AbortSignal): Promise<C> {
    return new Promise<C>((resolve, reject) => {
      const leave = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#waiters.delete(waiter);
      };
      const waiter: Waiter<C> = {
        resolve: (connection) => {
          leave();
          resolve(connection);
        },
        reject: (reason) => {
          leave();
          reject(reason);
        },
      };
      const onAbort = () => waiter.reject(signal?.reason);
      const onLate = () => {
        this.#late++;
        waiter.reject(waitFault(this.#lent, this.#options));
      };
      const timer = setTimeout(onLate, this.#options.connectTimeoutMs);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(waiter);
      this.#pump();
    });
  }

  /** Serves waiters from the idle connections, and opens as many more as are wanted and allowed. */
  #pump(): void {
    for (const waiter of this.#waiters) {
      const connection = this.#takeIdle();
      if (connection === undefined) break;
      waiter.resolve(this.#lend(connection));
    }
    while (this.#opening < this.#waiters.size && this.#lent + this.#opening < this.#options.connectionsMax) {
      this.#opening++;
      void this.#open();
    }
  }

  async #open(): Promise<void> {
    try {
      const connection = await this.#connect();
      this.#opening--;
      this.#opened++;
      const now = performance.now();
      this.#lifetimes.set(connection, { openedAt: now, idleSince: now });
      if (this.#closed) this.#discard(connection);
      else this.#offer(connection);
      this.#pump();
    } catch (error) {
      this.#opening--;
      this.#failed++;
      // While others hold connections, a waiter can still be served by one of them (the server may only be full).
      if (this.#lent === 0) for (const waiter of this.#waiters) waiter.reject(error);
    }
    this.#settle();
  }

  #lend(connection: C): C {
    this.#lent++;
    return connection;
  }

  #takeIdle(): C | undefined {
    for (;;) {
      const connection = this.#idle.pop();
      if (connection === undefined || connection.isUsable()) return connection;
      this.#discard(connection);
    }
  }

  #offer(connection: C): void {
    const { idleConnectionsMax, connectionsMax, idleLifeTimeMs = defaultIdleLifeTimeMs } = this.#options;
    const surplus = this.#waiters.size === 0 && this.#idle.length >= (idleConnectionsMax ?? connectionsMax);
    if (surplus) return this.#discard(connection);
    const lifetime = this.#lifetimes.get(connection);
    if (lifetime) lifetime.idleSince = performance.now();
    this.#idle.push(connection);
    this.#sweep ??= setTimeout(() => this.#closeOld(idleLifeTimeMs), idleLifeTimeMs).unref();
  }

  #closeOld(idleLifeTimeMs: number): void {
    const limit = performance.now() - idleLifeTimeMs;
    const isOld = (connection: C) => (this.#lifetimes.get(connection)?.idleSince ?? 0) <= limit;
    const old = this.#idle.filter(isOld);
    this.#idle = this.#idle.filter((connection) => !isOld(connection));
    for (const connection of old) this.#discard(connection);
    this.#sweep = undefined;
    if (this.#idle.length > 0) {
      this.#sweep = setTimeout(() => this.#closeOld(idleLifeTimeMs), idleLifeTimeMs).unref();
    }
  }

  #settle(): void {
    if (this.#lent + this.#opening === 0) this.#onDrained?.();
  }
}

function closedFault(): SqlFault {
  return new SqlFault('disconnected', 'The database driver is closed');
}

function waitFault(lent: number, options: PoolOptions): SqlFault {
  return lent >= options.connectionsMax
    ? new SqlFault(
        'busy',
        `All ${options.connectionsMax} database connections were in use for ${options.connectTimeoutMs} ms`,
      )
    : new SqlFault(
        'disconnected',
        `No database connection could be made within ${options.connectTimeoutMs} ms`,
      );
}
