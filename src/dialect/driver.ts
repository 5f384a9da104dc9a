// The Driver over any engine's connections: statements and transactions with abort, time limit, classification and
// the tracking of unknown outcomes. Used by the three dialects. Invariants: a connection whose state is not known
// never returns to its pool; a transaction with a failed statement never commits.

import {
  SqlFault,
  type Driver,
  type DriverOptions,
  type PoolOptions,
  type QueryResult,
  type Session,
  type SqlFaultKind,
  type SqlValue,
  type Statement,
  type Step,
} from './dialect.ts';
import { Pool, type Pooled } from './pool.ts';

export type TransactionMode = 'read' | 'write';

/** One connection of an engine; every rejection is the package's own error, not yet classified. */
export interface Connection extends Pooled {
  run(text: string, params: readonly SqlValue[]): Promise<QueryResult>;
  /** A statement that begins or ends a transaction. */
  control(text: string): Promise<void>;
  /** `begin`, the steps in order, COMMIT, in as few round trips as can be. When it rejects, no transaction is left open. */
  script(begin: string, steps: readonly Step[]): Promise<void>;
  /** The same without the beginning: in the transaction that is open. */
  finish(steps: readonly Step[]): Promise<void>;
}

/** What a dialect gives to get a Driver. */
export interface Engine {
  readonly classify: (error: unknown) => SqlFaultKind;
  readonly begin: Readonly<Record<TransactionMode, string>>;
  /** False where a running statement cannot be left alone: an abort then takes effect when it ends. */
  readonly interruptible: boolean;
  /** The pool for this use. Lanes with the same name share one pool. */
  readonly lane: (mode: TransactionMode, use: 'statement' | 'transaction') => string;
  /** Limits of a lane's pool. */
  readonly pool: (lane: string, options: PoolOptions) => PoolOptions;
  readonly connect: (options: DriverOptions, lane: string) => Promise<Connection>;
}

/** The lane of servers' connections for write transactions and scripts. */
export const writeLane = 'write';
/**
 * The longest that a gateway may be silent within a write transaction (stopped, swapped out, cut off): then its database is to end the
 * transaction, so that others can write. A gateway at work is silent for milliseconds.
 */
export const writePauseMaxMs = 3_000;
/** Connections kept for write transactions: those of the committer, and of a compaction beside it. */
const writersMax = 2;

/**
 * For servers: write transactions have connections of their own, so that a crowd of readers does not hold up the one
 * committer. They count towards the limit, unless that is 1.
 */
export const serverLanes: Pick<Engine, 'lane' | 'pool'> = {
  lane: (mode, use) => (mode === 'write' && use === 'transaction' ? writeLane : 'all'),
  pool: (lane, options) => {
    const writers = Math.max(1, Math.min(writersMax, options.connectionsMax - 1));
    const others = Math.max(1, options.connectionsMax - writers);
    return { ...options, connectionsMax: lane === writeLane ? writers : others };
  },
};

/** All connections are made anew at most this often when a server says that it is read-only. */
const renewEveryMs = 1_000;

/** How long the client waits beyond the statement timeout, so that the server's own answer comes first. */
const answerGraceMs = 1_000;

/** Errors after which the server may have committed although the client saw a failure. */
const uncertain: ReadonlySet<SqlFaultKind> = new Set(['disconnected', 'timeout', 'other']);

type Doing = 'connect' | 'read' | 'write' | 'commit' | 'script';

/** The classified form of any error; a SqlFault passes unchanged. */
export function toFault(engine: Pick<Engine, 'classify'>, error: unknown, doing: Doing): SqlFault {
  if (error instanceof SqlFault) return error;
  const kind = engine.classify(error);
  const outcomeUnknown =
    doing === 'commit' || doing === 'script'
      ? uncertain.has(kind)
      : doing === 'write' && (kind === 'disconnected' || kind === 'timeout');
  return new SqlFault(kind, messageOf(error), { cause: error, outcomeUnknown });
}

/** The text of an error. An AggregateError (every address refused) has none of its own. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.message !== '') return error.message;
  if (error instanceof AggregateError && error.errors.length > 0)
    return error.errors.map(messageOf).join('; ');
  return 'code' in error ? String(error.code) : error.name;
}

const writing = /\b(?:insert|update|delete|replace|merge)\b/i;

/** Whether a statement only reads. Decides its lane, and what its failure leaves unknown. */
export function isReading(text: string): boolean {
  if (/^\s*(?:select|values|explain|show|pragma)\b/i.test(text)) return true;
  return /^\s*with\b/i.test(text) && !writing.test(text);
}

/** A driver that opens its connections when they are first needed. */
export function createDriver(engine: Engine, options: DriverOptions): Driver {
  return new PooledDriver(engine, options);
}

interface Limits {
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** `work`, or a rejection as soon as the signal or the time limit says so; `work` is then left alone. */
function within<T>(work: Promise<T>, limits: Limits, onEarly: () => void): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const { signal, timeoutMs } = limits;
    const leave = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    const early = (reason: unknown) => {
      leave();
      onEarly();
      reject(reason);
    };
    const onAbort = () => early(signal?.reason);
    const timer = setTimeout(() => early(new UnansweredError(timeoutMs)), timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(leave);
  });
}

/** The server said nothing in time; classified as `timeout` for every engine. */
class UnansweredError extends Error {
  constructor(timeoutMs: number) {
    super(`The database did not answer within ${timeoutMs} ms`);
  }
}

/** A lent connection with its limits; remembers whether it may be used again. */
class Lease {
  state: 'reusable' | 'broken' = 'reusable';
  readonly #engine: Engine;
  readonly #connection: Connection;
  readonly #timeoutMs: number;

  constructor(engine: Engine, connection: Connection, timeoutMs: number) {
    this.#engine = engine;
    this.#connection = connection;
    this.#timeoutMs = timeoutMs;
  }

  async run(
    text: string,
    params: readonly SqlValue[],
    doing: Doing,
    signal?: AbortSignal,
  ): Promise<QueryResult> {
    // While the connection was being lent; no event will tell of it any more.
    signal?.throwIfAborted();
    return await this.#guard(this.#connection.run(text, params), doing, signal);
  }

  control(text: string, doing: Doing): Promise<void> {
    return this.#guard(this.#connection.control(text), doing);
  }

  script(begin: string, steps: readonly Step[]): Promise<void> {
    return this.#guard(this.#connection.script(begin, steps), 'script');
  }

  finish(steps: readonly Step[]): Promise<void> {
    return this.#guard(this.#connection.finish(steps), 'script');
  }

  async #guard<T>(work: Promise<T>, doing: Doing, signal?: AbortSignal): Promise<T> {
    const limits = { timeoutMs: this.#timeoutMs, signal: this.#engine.interruptible ? signal : undefined };
    try {
      return await within(work, limits, () => {
        this.state = 'broken';
      });
    } catch (error) {
      if (signal?.aborted && error === signal.reason) throw error;
      const fault =
        error instanceof UnansweredError
          ? new SqlFault('timeout', error.message, {
              outcomeUnknown: doing !== 'read' && doing !== 'connect',
            })
          : toFault(this.#engine, error, doing);
      if (fault.kind === 'disconnected' || fault.outcomeUnknown || doing === 'commit') this.state = 'broken';
      throw fault;
    }
  }
}

/** Statements of one transaction, one at a time in the order of the calls. */
class TransactionSession implements Session {
  readonly #lease: Lease;
  readonly #signal: AbortSignal | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #ended = false;
  /** The first failed statement; the engines differ in what could follow it, so nothing may. */
  failure: { readonly error: unknown } | undefined;
  /** What is to go with the commit. */
  last: readonly Step[] = [];

  constructor(lease: Lease, signal: AbortSignal | undefined) {
    this.#lease = lease;
    this.#signal = signal;
  }

  query(statement: Statement, params: readonly SqlValue[]): Promise<QueryResult> {
    const result = this.#tail.then(() => this.#run(statement, params));
    this.#tail = result.catch(() => undefined);
    return result;
  }

  finish(steps: readonly Step[]): void {
    if (this.#ended || this.last.length > 0)
      throw new SqlFault('other', 'The steps that end a transaction came after its end');
    this.last = steps;
  }

  /** No statement may follow; resolves when the last one is answered. */
  async end(): Promise<void> {
    this.#ended = true;
    await this.#tail;
  }

  async #run(statement: Statement, params: readonly SqlValue[]): Promise<QueryResult> {
    if (this.failure) throw this.failure.error;
    if (this.#ended)
      throw new SqlFault('other', `Statement ${statement.name} came after its transaction had ended`);
    try {
      this.#signal?.throwIfAborted();
      // Inside a transaction nothing is committed, so a failure never leaves the outcome unknown.
      const result = await this.#lease.run(statement.text, params, 'read', this.#signal);
      this.#signal?.throwIfAborted();
      return result;
    } catch (error) {
      this.failure = { error };
      throw error;
    }
  }
}

class PooledDriver implements Driver {
  readonly #engine: Engine;
  readonly #options: DriverOptions;
  readonly #pools = new Map<string, Pool<Connection>>();
  #closed = false;
  #renewedAt = Number.NEGATIVE_INFINITY;

  constructor(engine: Engine, options: DriverOptions) {
    this.#engine = engine;
    this.#options = options;
  }

  async query(statement: Statement, params: readonly SqlValue[], signal?: AbortSignal): Promise<QueryResult> {
    const mode = isReading(statement.text) ? 'read' : 'write';
    return await this.#borrow(this.#pool(mode, 'statement'), signal, async (lease) => {
      const result = await lease.run(statement.text, params, mode, signal);
      signal?.throwIfAborted();
      return result;
    });
  }

  async queryForWriter(statement: Statement, params: readonly SqlValue[]): Promise<QueryResult> {
    const pool = this.#pool('write', 'transaction');
    return await this.#borrow(pool, undefined, (lease) => lease.run(statement.text, params, 'read'));
  }

  async transaction<T>(
    mode: TransactionMode,
    body: (session: Session) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    return await this.#borrow(this.#pool(mode, 'transaction'), signal, async (lease) => {
      await lease.control(this.#engine.begin[mode], 'read');
      const session = new TransactionSession(lease, signal);
      let value: T;
      try {
        value = await body(session);
        await session.end();
        if (session.failure) throw session.failure.error;
        signal?.throwIfAborted();
      } catch (error) {
        await session.end();
        await this.#rollback(lease);
        throw error;
      }
      if (session.last.length > 0) await lease.finish(session.last);
      else await lease.control('COMMIT', mode === 'write' ? 'commit' : 'read');
      return value;
    });
  }

  async script(steps: readonly Step[]): Promise<void> {
    await this.#borrow(this.#pool('write', 'transaction'), undefined, (lease) =>
      lease.script(this.#engine.begin.write, steps),
    );
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
  }

  /** A rollback that fails costs the connection and nothing else: the server rolls back when it is gone. */
  async #rollback(lease: Lease): Promise<void> {
    if (lease.state === 'broken') return;
    try {
      await lease.control('ROLLBACK', 'read');
    } catch {
      lease.state = 'broken';
    }
  }

  /**
   * After a failover the former primary may go on serving the connections it has: writes would fail for as long as they
   * live, and reads would be old. New ones follow the address.
   */
  #renew(): void {
    const now = performance.now();
    if (now - this.#renewedAt < renewEveryMs) return;
    this.#renewedAt = now;
    for (const pool of this.#pools.values()) pool.renew();
  }

  async #borrow<T>(
    pool: Pool<Connection>,
    signal: AbortSignal | undefined,
    body: (lease: Lease) => Promise<T>,
  ) {
    const connection = await pool.acquire(signal);
    const lease = new Lease(this.#engine, connection, this.#options.pool.statementTimeoutMs + answerGraceMs);
    try {
      return await body(lease);
    } catch (error) {
      if (error instanceof SqlFault && error.kind === 'read-only') this.#renew();
      throw error;
    } finally {
      pool.release(connection, lease.state);
    }
  }

  #pool(mode: TransactionMode, use: 'statement' | 'transaction'): Pool<Connection> {
    if (this.#closed) throw new SqlFault('disconnected', 'The database driver is closed');
    const lane = this.#engine.lane(mode, use);
    let pool = this.#pools.get(lane);
    if (pool === undefined) {
      const limits = this.#engine.pool(lane, this.#options.pool);
      pool = new Pool(limits, () => this.#connect(lane));
      this.#pools.set(lane, pool);
    }
    return pool;
  }

  async #connect(lane: string): Promise<Connection> {
    try {
      return await this.#engine.connect(this.#options, lane);
    } catch (error) {
      throw toFault(this.#engine, error, 'connect');
    }
  }
}
