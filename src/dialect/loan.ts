// A connection while it is lent: its time limit, what its failures mean, whether it may be used again; and the statements of
// one transaction over it. Used by driver.ts.

import {
  SqlFault,
  type Answered,
  type QueryResult,
  type Session,
  type SqlValue,
  type Statement,
  type Step,
} from './dialect.ts';
import type { Connection, Engine } from './engine.ts';
import { toFault, type Doing } from './faults.ts';
import type { StatementOutcome, StatementTimes } from './statement-times.ts';

/** The server said nothing in time; classified as `timeout` for every engine. */
class UnansweredError extends Error {
  constructor(timeoutMs: number) {
    super(`The database did not answer within ${timeoutMs} ms`);
  }
}

/** Somebody else has ended the connection; classified as `disconnected` for every engine. */
class CutError extends Error {}

interface LoanOptions {
  readonly timeoutMs: number;
  readonly statements: StatementTimes;
  /** See DriverOptions. */
  readonly answered?: ((end: Answered) => void) | undefined;
}

/** A lent connection with its limits; remembers whether it may be used again. */
export class Loan {
  state: 'reusable' | 'broken' = 'reusable';
  /** The server let a statement wait for longer than it has been told to. */
  isUnanswered = false;
  readonly #engine: Engine;
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #statements: StatementTimes;
  readonly #answered: LoanOptions['answered'];
  /** Ends the wait for the answer that is due. */
  #early: ((reason: unknown) => void) | undefined;
  #cut: CutError | undefined;

  /** `timeoutMs`: how long the server may take for an answer. */
  constructor(engine: Engine, connection: Connection, options: LoanOptions) {
    this.#engine = engine;
    this.#connection = connection;
    this.#timeoutMs = options.timeoutMs;
    this.#statements = options.statements;
    this.#answered = options.answered;
  }

  async run(
    statement: Statement,
    params: readonly SqlValue[],
    doing: Doing,
    signal?: AbortSignal,
  ): Promise<QueryResult> {
    // While the connection was being lent; no event will tell of it any more.
    signal?.throwIfAborted();
    const asked = { name: statement.name, statements: [statement], rowsIn };
    return await this.#guard(asked, () => this.#connection.run(statement.text, params), doing, signal);
  }

  /** `name`: what `text` does, whatever its engine calls that. */
  control(name: 'begin' | 'commit' | 'rollback', text: string, doing: Doing): Promise<void> {
    const asked = { name: `transaction.${name}`, statements: [] };
    return this.#guard(asked, () => this.#connection.control(text), doing);
  }

  script(begin: string, steps: readonly Step[]): Promise<void> {
    return this.#guard(together(steps), () => this.#connection.script(begin, steps), 'script');
  }

  begin(text: string, steps: readonly Step[]): Promise<readonly QueryResult[]> {
    const asked = { ...together(steps), rowsIn: rowsInAll };
    return this.#guard(asked, () => this.#connection.begin(text, steps), 'read');
  }

  finish(steps: readonly Step[]): Promise<void> {
    return this.#guard(together(steps), () => this.#connection.finish(steps), 'script');
  }

  /** Ends it now, whatever it is doing: the server behind it is not the one to ask any more. */
  cut(why: string): void {
    this.state = 'broken';
    this.#cut = new CutError(why);
    this.#early?.(this.#cut);
  }

  async #guard<T>(asked: Asked<T>, ask: () => Promise<T>, doing: Doing, signal?: AbortSignal): Promise<T> {
    // What has not been asked yet leaves nothing unknown.
    if (this.#cut !== undefined) throw new SqlFault('disconnected', this.#cut.message);
    const startedAt = performance.now();
    try {
      const result = await this.#within(ask(), this.#engine.interruptible ? signal : undefined);
      this.#tell(asked, startedAt, 'ok', asked.rowsIn?.(result));
      return result;
    } catch (error) {
      if (signal?.aborted && error === signal.reason) {
        this.#tell(asked, startedAt, 'canceled');
        throw error;
      }
      this.isUnanswered ||= error instanceof UnansweredError;
      const fault = this.#faultOf(error, doing);
      this.#tell(asked, startedAt, fault.kind);
      if (fault.kind === 'disconnected' || fault.outcomeUnknown || doing === 'commit') this.state = 'broken';
      throw fault;
    }
  }

  #tell(
    { name, statements }: Asked<never>,
    startedAt: number,
    outcome: StatementOutcome,
    rows?: number,
  ): void {
    const endedAt = performance.now();
    this.#statements.ended(name, outcome, endedAt - startedAt);
    const fault = outcome === 'ok' ? undefined : outcome;
    this.#answered?.({ name, statements, startedAt, endedAt, rows, fault });
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

/** What is asked at once, and how many rows an answer has, where it tells. */
interface Asked<T> extends Pick<Answered, 'name' | 'statements'> {
  readonly rowsIn?: (answer: T) => number;
}

const rowsIn = ({ rows, affected }: QueryResult) => (rows.length > 0 ? rows.length : affected);
const rowsInAll = (results: readonly QueryResult[]) =>
  results.reduce((sum, result) => sum + rowsIn(result), 0);

function together(steps: readonly Step[]): Asked<unknown> {
  return {
    name: steps[0]?.statement.name ?? 'transaction',
    statements: steps.map(({ statement }) => statement),
  };
}

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
