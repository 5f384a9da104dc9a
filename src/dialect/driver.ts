// The Driver over any engine's connections: statements and transactions with abort, time limit, classification and
// the tracking of unknown outcomes. Used by the three dialects. Invariants: a connection whose state is not known
// never returns to its pool; a transaction with a failed statement never commits.

import {
  SqlFault,
  type Driver,
  type DriverOptions,
  type DriverStats,
  type Enter,
  type Epoch,
  type QueryResult,
  type Session,
  type SqlValue,
  type Statement,
  type Step,
} from './dialect.ts';
import type { Connection, Engine, TransactionMode } from './engine.ts';
import { toFault } from './faults.ts';
import { Hosts, type Leaving } from './hosts.ts';
import { Loan, TransactionSession } from './loan.ts';
import { Pool } from './pool.ts';
import { StatementTimes } from './statement-times.ts';

/** Hosts tried for one connection. */
const connectAttemptsMax = 3;

/** All connections are made anew at most this often when a server says that it is read-only, or nothing. */
const renewEveryMs = 1_000;

/** How long the client waits beyond the statement timeout, so that the server's own answer comes first. */
const answerGraceMs = 1_000;

const writing = /\b(?:insert|update|delete|replace|merge)\b/i;

/** Whether a statement only reads. Decides its lane, and what its failure leaves unknown. */
export function isReading(text: string): boolean {
  if (/^\s*(?:select|values|explain|show|pragma)\b/i.test(text)) return true;
  return /^\s*with\b/i.test(text) && !writing.test(text);
}

/** A driver that opens its connections when they are first needed. Without `hosts` there is one server. */
export function createDriver(engine: Engine, options: DriverOptions, hosts = oneHost(engine)): Driver {
  return new PooledDriver(engine, { ...options, hosts });
}

function oneHost(engine: Engine): Hosts {
  const open = () => Promise.reject(new SqlFault('other', 'A single server is not looked at'));
  return new Hosts({ names: () => [''], open, faultOf: (error) => toFault(engine, error, 'connect') });
}

interface Begun {
  readonly loan: Loan;
  readonly mode: TransactionMode;
  readonly signal: AbortSignal | undefined;
}

class PooledDriver implements Driver {
  readonly #engine: Engine;
  readonly #options: DriverOptions;
  readonly #hosts: Hosts;
  readonly #pools = new Map<string, Pool<Connection>>();
  /** Those under way. */
  readonly #loans = new Set<Loan>();
  readonly #statements = new StatementTimes();
  #closed = false;
  #renewedAt = Number.NEGATIVE_INFINITY;
  /** The latest that a server was of. */
  #epoch: Epoch | undefined;
  #enter: Enter | undefined;
  #entered: Epoch | undefined;
  #entering: Promise<void> | undefined;

  constructor(engine: Engine, { hosts, ...options }: DriverOptions & { readonly hosts: Hosts }) {
    this.#engine = engine;
    this.#options = options;
    this.#hosts = hosts;
    hosts.onMove((leaving) => this.#leave(leaving, 'another host has taken over'));
  }

  async query(statement: Statement, params: readonly SqlValue[], signal?: AbortSignal): Promise<QueryResult> {
    const mode = isReading(statement.text) ? 'read' : 'write';
    return await this.#borrow(this.#pool(mode, 'statement'), signal, async (loan) => {
      const result = await loan.run(statement, params, mode, signal);
      signal?.throwIfAborted();
      return result;
    });
  }

  async queryForWriter(statement: Statement, params: readonly SqlValue[]): Promise<QueryResult> {
    const pool = this.#pool('write', 'transaction');
    return await this.#borrow(pool, undefined, (loan) => loan.run(statement, params, 'read'));
  }

  async transaction<T>(
    mode: TransactionMode,
    body: (session: Session) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const pool = this.#pool(mode, 'transaction');
    return await this.#borrow(pool, signal, (loan) => this.#transact({ loan, mode, signal }, body));
  }

  async #transact<T>(begun: Begun, body: (session: Session) => Promise<T>): Promise<T> {
    await begun.loan.control('begin', this.#engine.begin[begun.mode], 'read');
    return await this.#toItsEnd(begun, body);
  }

  async writeAfter<T>(
    opening: readonly Step[],
    body: (session: Session, opened: readonly QueryResult[]) => Promise<T>,
  ): Promise<T> {
    const mode = 'write';
    return await this.#borrow(this.#pool(mode, 'transaction'), undefined, async (loan) => {
      const opened = await loan.begin(this.#engine.begin[mode], opening);
      return await this.#toItsEnd({ loan, mode, signal: undefined }, (session) => body(session, opened));
    });
  }

  /** The rest of a transaction that has begun. */
  async #toItsEnd<T>({ loan, mode, signal }: Begun, body: (session: Session) => Promise<T>): Promise<T> {
    const session = new TransactionSession(loan, signal);
    let value: T;
    try {
      value = await body(session);
      await session.end();
      if (session.failure) throw session.failure.error;
      signal?.throwIfAborted();
    } catch (error) {
      await session.end();
      await this.#rollback(loan);
      throw error;
    }
    if (session.last.length > 0) await loan.finish(session.last);
    else await loan.control('commit', 'COMMIT', mode === 'write' ? 'commit' : 'read');
    return value;
  }

  async script(steps: readonly Step[]): Promise<void> {
    await this.#borrow(this.#pool('write', 'transaction'), undefined, (loan) =>
      loan.script(this.#engine.begin.write, steps),
    );
  }

  readonly entering = (enter: Enter): void => {
    this.#enter = enter;
    this.#entered = undefined;
  };

  stats(): DriverStats {
    const pools = new Map([...this.#pools].map(([lane, pool]) => [lane, pool.stats]));
    return { pools, statements: this.#statements.byName };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#hosts.close();
    await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
  }

  /** A rollback that fails costs the connection and nothing else: the server rolls back when it is gone. */
  async #rollback(loan: Loan): Promise<void> {
    if (loan.state === 'broken') return;
    try {
      await loan.control('rollback', 'ROLLBACK', 'read');
    } catch {
      loan.state = 'broken';
    }
  }

  /**
   * After a failover the former primary may go on serving the connections it has: writes would fail for as long as they
   * live, and reads would be old. Or its host is gone without a word, and each connection would be found out by a statement that
   * waits in vain. New ones follow the address, or go to another host.
   */
  #renew(): void {
    const now = performance.now();
    if (now - this.#renewedAt < renewEveryMs) return;
    this.#renewedAt = now;
    this.#leave('gently', 'the server is to be looked for anew');
  }

  #leave(leaving: Leaving, why: string): void {
    for (const pool of this.#pools.values()) pool.renew();
    if (leaving === 'at once') for (const loan of this.#loans) loan.cut(why);
  }

  async #borrow<T>(
    pool: Pool<Connection>,
    signal: AbortSignal | undefined,
    body: (loan: Loan) => Promise<T>,
  ) {
    const connection = await pool.acquire(signal);
    const loan = new Loan(this.#engine, connection, {
      timeoutMs: this.#options.pool.statementTimeoutMs + answerGraceMs,
      statements: this.#statements,
      answered: this.#options.answered,
    });
    this.#loans.add(loan);
    try {
      if (this.#enter !== undefined && connection.epoch !== undefined)
        await this.#enterBy(loan, this.#enter, connection.epoch);
      return await body(loan);
    } catch (error) {
      const isReadOnly = error instanceof SqlFault && error.kind === 'read-only';
      if (isReadOnly || loan.isUnanswered) this.#renew();
      // There may be another one that is not.
      throw isReadOnly && this.#hosts.isSeveral
        ? new SqlFault('disconnected', error.message, { cause: error })
        : error;
    } finally {
      this.#loans.delete(loan);
      pool.release(connection, loan.state);
    }
  }

  /** Whoever comes meanwhile waits. */
  async #enterBy(loan: Loan, enter: Enter, epoch: Epoch): Promise<void> {
    while (!isSame(epoch, this.#entered)) {
      const begun: Begun = { loan, mode: 'write', signal: undefined };
      this.#entering ??= this.#transact(begun, (session) => enter(session, epoch, this.#entered))
        .then(() => {
          this.#entered = epoch;
        })
        .finally(() => {
          this.#entering = undefined;
        });
      await this.#entering;
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
    for (let attempt = 1; ; attempt++) {
      const host = await this.#hosts.pick();
      try {
        const opening = this.#engine.connect(this.#options, lane, host);
        const connection = await this.#hosts.whileChosen(opening);
        const isWanted = this.#hosts.isChosen(host);
        if (isWanted && this.#admits(connection.epoch)) return connection;
        await connection.close();
        if (!isWanted) continue;
        throw new SqlFault(
          'disconnected',
          'the server is a former primary: another one has taken over from it',
        );
      } catch (error) {
        const fault = toFault(this.#engine, error, 'connect');
        const isOfHost = fault.kind !== 'busy' && this.#hosts.failed(host, fault);
        if (!isOfHost || attempt >= connectAttemptsMax) throw fault;
      }
    }
  }

  /** False when a later server of the same lineage has been seen. The first of a later one ends all that lead to former ones. */
  #admits(epoch: Epoch | undefined): boolean {
    const known = this.#epoch;
    if (epoch === undefined || isSame(epoch, known)) return true;
    if (epoch.lineage === known?.lineage && epoch.timeline < known.timeline) return false;
    this.#epoch = epoch;
    if (known !== undefined) this.#leave('at once', 'another server has taken over');
    return true;
  }
}

function isSame(a: Epoch, b: Epoch | undefined): boolean {
  return a.timeline === b?.timeline && a.lineage === b.lineage;
}
