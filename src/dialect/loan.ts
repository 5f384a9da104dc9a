// A connection while it is lent: its time limit, what its failures mean, whether it may be used again; and the statements of
// one transaction over it. Used by driver.ts.

import {
  SqlFault,
  type QueryResult,
  type Session,
  type SqlValue,
  type Statement,
  type Step,
} from './dialect.ts';
import type { Connection, Engine } from './driver.ts';
import { toFault, type Doing } from './faults.ts';
import type { StatementTimes } from './statement-times.ts';

/** The server said nothing in time; classified as `timeout` for every engine. */
class UnansweredError extends Error {
  constructor(timeoutMs: number) {
    super(`The database did not answer within ${timeoutMs} ms`);
  }
}

/** Somebody else has ended the connection; classified as `disconnected` for every engine. */
class CutError extends Error {}

/** A lent connection with its limits; remembers whether it may be used again. */
export class Loan {
  state: 'reusable' | 'broken' = 'reusable';
  /** The server let a statement wait for longer than it has been told to. */
  isUnanswered = false;
  readonly #engine: Engine;
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #statements: StatementTimes;
  /** Ends the wait for the answer that is due. */
  #early: ((reason: unknown) => void) | undefined;
  #cut: CutError | undefined;

  /** `timeoutMs`: how long the server may take for an answer. */
  constructor(
    engine: Engine,
    connection: Connection,
    options: { readonly timeoutMs: number; readonly statements: StatementTimes },
  ) {
    this.#engine = engine;
    this.#connection = connection;
    this.#timeoutMs = options.timeoutMs;
    this.#statements = options.statements;
  }

  async run(
    { name, text }: Statement,
    params: readonly SqlValue[],
    doing: Doing,
    signal?: AbortSignal,
  ): Promise<QueryResult> {
    // While the connection was being lent; no event will tell of it any more.
    signal?.throwIfAborted();
    return await this.#guard(name, () => this.#connection.run(text, params), doing, signal);
  }

  control(text: string, doing: Doing): Promise<void> {
    const name = text.split(' ', 1)[0]!.toLowerCase();
    return this.#guard(`transaction.${name}`, () => this.#connection.control(text), doing);
  }

  script(begin: string, steps: readonly Step[]): Promise<void> {
    return this.#guard(nameOf(steps), () => this.#connection.script(begin, steps), 'script');
  }

  begin(text: string, steps: readonly Step[]): Promise<readonly QueryResult[]> {
    return this.#guard(nameOf(steps), () => this.#connection.begin(text, steps), 'read');
  }

  finish(steps: readonly Step[]): Promise<void> {
    return this.#guard(nameOf(steps), () => this.#connection.finish(steps), 'script');
  }

  /** Ends it now, whatever it is doing: the server behind it is not the one to ask any more. */
  cut(why: string): void {
    this.state = 'broken';
    this.#cut = new CutError(why);
    this.#early?.(this.#cut);
  }

  async #guard<T>(name: string, ask: () => Promise<T>, doing: Doing, signal?: AbortSignal): Promise<T> {
    // What has not been asked yet leaves nothing unknown.
    if (this.#cut !== undefined) throw new SqlFault('disconnected', this.#cut.message);
    const began = performance.now();
    try {
      const result = await this.#within(ask(), this.#engine.interruptible ? signal : undefined);
      this.#statements.ended(name, 'ok', performance.now() - began);
      return result;
    } catch (error) {
      const tookMs = performance.now() - began;
      if (signal?.aborted && error === signal.reason) {
        this.#statements.ended(name, 'canceled', tookMs);
        throw error;
      }
      this.isUnanswered ||= error instanceof UnansweredError;
      const fault = this.#faultOf(error, doing);
      this.#statements.ended(name, fault.kind, tookMs);
      if (fault.kind === 'disconnected' || fault.outcomeUnknown || doing === 'commit') this.state = 'broken';
      throw fault;
    }
  }

  #faultOf(error: unknown, doing: Doing): SqlFault {
    const outcomeUnknown = doing !== 'read' && doing !== 'connect';
    if (error instanceof UnansweredError) return new SqlFault('timeout', error.message, { outcomeUnknown });
    if (error instanceof CutError) return new SqlFault('disconnected', error.message, { outcomeUnknown });
    return toFault(this.#engine, error, doing);
  }

  /** `work`, or a rejection as soon as the signal, the time limit or `cut` says so; `work` is then left alone. */
  #within<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const timeoutMs = this.#timeoutMs;
    return new Promise<T>((resolve, reject) => {
      const leave = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        if (this.#early === early) this.#early = undefined;
      };
      const early = (reason: unknown) => {
        leave();
        this.state = 'broken';
        reject(reason);
      };
      const onAbort = () => early(signal?.reason);
      const timer = setTimeout(() => early(new UnansweredError(timeoutMs)), timeoutMs);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#early = early;
      work.then(resolve, reject).finally(leave);
    });
  }
}

const nameOf = (steps: readonly Step[]) => steps[0]?.statement.name ?? 'transaction';

/** Statements of one transaction, one at a time in the order of the calls. */
export class TransactionSession implements Session {
  readonly #loan: Loan;
  readonly #signal: AbortSignal | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #ended = false;
  /** The first failed statement; the engines differ in what could follow it, so nothing may. */
  failure: { readonly error: unknown } | undefined;
  /** What is to go with the commit. */
  last: readonly Step[] = [];

  constructor(loan: Loan, signal: AbortSignal | undefined) {
    this.#loan = loan;
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
      const result = await this.#loan.run(statement, params, 'read', this.#signal);
      this.#signal?.throwIfAborted();
      return result;
    } catch (error) {
      this.failure = { error };
      throw error;
    }
  }
}
