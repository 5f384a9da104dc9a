// Who wants to know what was done and how long it took: slow lines in the log, traces. Calls of clients that were served are told of in one
// place (server/call.ts), and what databases are asked in one (dialect/loan.ts); whatever listens is added at the start. What is told holds
// no keys, values or credentials.

import { worksNow, type ServedRequest } from './work.ts';

/** A call of a client that was served is over. */
export interface CallEnd {
  readonly request: ServedRequest;
  /** The gRPC path, e.g. `/etcdserverpb.KV/Range`. */
  readonly method: string;
  /** The name of the store that served it; undefined: none, or several. */
  readonly store: string | undefined;
  /** One of `grpcCode`. */
  readonly code: number;
  /** By performance.now(): the request was there, and the answer was. */
  readonly startedAt: number;
  readonly endedAt: number;
}

/** Text of SQL, with `?` for every value. */
export interface NamedStatement {
  /** Constant. */
  readonly name: string;
  readonly text: string;
}

/** A database was asked something, in one round trip where the engine can, and has answered or failed. */
export interface StatementEnd {
  /** The name of the store. */
  readonly store: string;
  readonly engine: 'postgres' | 'mysql' | 'sqlite';
  /** Of few: that of the statement, of several at once that of the first; `transaction.begin`, `transaction.commit`, `transaction.rollback`. */
  readonly name: string;
  /** In order; empty: only begun or ended a transaction. */
  readonly statements: readonly NamedStatement[];
  /** By performance.now(): a connection was there, and the answer was. */
  readonly startedAt: number;
  readonly endedAt: number;
  /** Read or written; undefined: not told. */
  readonly rows: number | undefined;
  /** The kind of the fault; `canceled`: nobody waited any more; undefined: it went well. */
  readonly fault: string | undefined;
}

/** Hears of things when they are over, at once and in the context of whoever they were done for. Must not throw. */
export interface Observer {
  /** Before the answer is sent, so that a client that has it finds it told. */
  call?(end: CallEnd): void;
  statement?(end: StatementEnd): void;
}

/** Tells all that were added, and the requests that statements were for. */
export class Observers implements Observer {
  readonly #calls: ((end: CallEnd) => void)[] = [];
  readonly #statements: ((end: StatementEnd) => void)[] = [];

  add(observer: Observer): void {
    if (observer.call !== undefined) this.#calls.push((end) => observer.call!(end));
    if (observer.statement !== undefined) this.#statements.push((end) => observer.statement!(end));
  }

  call(end: CallEnd): void {
    for (const tell of this.#calls) tell(end);
  }

  statement(end: StatementEnd): void {
    for (const { request } of worksNow()) request.databaseWorked(end.startedAt, end.endedAt);
    for (const tell of this.#statements) tell(end);
  }
}
