// For whom something is being done: the calls of clients that a statement, a line of the log or a span belongs to, found again across
// awaits by those who are far from the call. A statement may serve many calls at once, so works come in lists. What goes on in the
// background is for nobody. Calls are made to works by server/call.ts; stores say whom a batch is for.

import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import type { TraceContext } from './trace-context.ts';

/** Where a call's headers can be asked for. */
export interface Headed {
  field(name: string): string | undefined;
}

export interface Work {
  readonly request: ServedRequest;
  /** Of the innermost span that is open for it; undefined: it is not traced. */
  readonly trace: TraceContext | undefined;
}

/** The header, or trailer, that a request id travels in. */
export const requestIdField = 'x-request-id';
const requestIdPattern = /^[\w.:/+=@~-]{1,128}$/u;
/** What the ids of this process begin with. */
const ownIds = randomBytes(5).toString('hex');
let lastId = 0;

/** One request of a client while it is served. */
export class ServedRequest implements Work {
  trace: TraceContext | undefined;
  #headers: Headed | undefined;
  #id: string | undefined;
  #isOver = false;
  #databaseMs = 0;
  /** The latest time that a database was at work without a break. */
  #busyFrom = 0;
  #busyTo = 0;

  constructor(headers: Headed) {
    this.#headers = headers;
  }

  get request(): this {
    return this;
  }

  /** What is done now is not done for it any more, though it began there. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Names the request in the log: what the client calls it, else one of ours. */
  get id(): string {
    return (this.#id ??= this.givenId ?? `${ownIds}-${(++lastId).toString(36)}`);
  }

  /** What the client calls it, where that can be written down. */
  get givenId(): string | undefined {
    const given = this.#headers?.field(requestIdField);
    return given !== undefined && requestIdPattern.test(given) ? given : undefined;
  }

  /** Milliseconds in which a store's database or etcd was at work for it; what overlaps counts once. */
  get databaseMs(): number {
    return this.#databaseMs;
  }

  /** A database was at work for it; to be told in the order of the ends. */
  databaseWorked(startedAt: number, endedAt: number): void {
    if (startedAt >= this.#busyTo) {
      this.#databaseMs += endedAt - startedAt;
      this.#busyFrom = startedAt;
    } else {
      this.#databaseMs += endedAt - this.#busyTo + Math.max(0, this.#busyFrom - startedAt);
      this.#busyFrom = Math.min(this.#busyFrom, startedAt);
    }
    this.#busyTo = endedAt;
  }

  /** The client has its answer, or is gone. */
  end(): void {
    this.#isOver = true;
    // What keeps this keeps no more of the call.
    this.#headers = undefined;
  }
}

const frames = new AsyncLocalStorage<readonly Work[]>();
const none: readonly Work[] = [];

/** For whom the caller is at work: nobody, one call, or several. */
export function worksNow(): readonly Work[] {
  const works = frames.getStore();
  if (works === undefined) return none;
  // Mostly all of them go on.
  for (const { request } of works) if (request.isOver) return works.filter((work) => !work.request.isOver);
  return works;
}

/** What is not in a context of its own: to make one costs more than the rest of it. */
const requestOf = Symbol('request');
type Noted = AbortSignal & { [requestOf]?: ServedRequest };

/** Whoever is given `signal` can find out that it is at work for `request`. */
export function noteRequest(signal: AbortSignal, request: ServedRequest): void {
  (signal as Noted)[requestOf] = request;
}

/** As `worksNow`, and where that is nobody the request that was noted with `signal`. */
export function worksFor(signal: AbortSignal | undefined): readonly Work[] {
  const works = worksNow();
  if (works.length > 0) return works;
  const request = (signal as Noted | undefined)?.[requestOf];
  return request === undefined || request.isOver ? none : [request];
}

/** Runs `body`, and whatever it begins, for `works`. */
export function workFor<T>(works: readonly Work[], body: () => T): T {
  return frames.run(works, body);
}

/** Runs `body`, and whatever it begins, for those that `worksFor` finds. */
export function workBy<T>(signal: AbortSignal, body: () => T): T {
  return workFor(worksFor(signal), body);
}

/** Runs `body` for nobody: what it begins outlives whoever happened to begin it. */
export function workForNobody<T>(body: () => T): T {
  return frames.run(none, body);
}
