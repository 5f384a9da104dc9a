// Requests as a Kubernetes client sends them. client-go repeats a request by itself when the answer is 429 or 5xx and has a
// Retry-After header (rest/with_retry.go), and a GET whose connection breaks. What a controller does on top of that (it meets an
// error, and tries again later) is done by the caller; here is only said what kind of error it is.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Api, CallOptions, Reply } from '../kubernetes/api.ts';

/** client-go's own bound. */
const retriesMax = 10;
/** So that a Retry-After of many seconds does not hold up a test. */
const retryAfterMsMax = 1_000;

/**
 * What kube-apiserver says when the etcd it has sent a request to went away (grpc-go's text for a connection that was lost, that
 * could not be made, or etcd's own for a member that stops).
 */
const storeAway =
  /etcdserver: (server stopped|request timed out|no leader|leader changed)|rpc error: code = (Unavailable|Canceled)|error reading from server|connection refused|transport is closing|request timed out/u;

/** What became of a request in the end. */
export type Verdict =
  /** Done, or an honest no: not found, conflict, expired. */
  | 'answered'
  /** An error that says that the store was away; a controller comes back later. */
  | 'store away'
  /** Anything else; there must be none. */
  | 'unexplained';

export interface Outcome {
  readonly verdict: Verdict;
  readonly reply: Reply;
  /** The request may have been done although an error was answered, once at least. */
  readonly isAmbiguous: boolean;
}

const honest: ReadonlySet<number> = new Set([404, 409, 410]);

function verdictOf({ status, body }: Reply): Verdict {
  if (status < 300 || honest.has(status)) return 'answered';
  return status >= 500 && storeAway.test(body.message ?? '') ? 'store away' : 'unexplained';
}

/** Counts what became of requests. */
export class Tally {
  requests = 0;
  /** Repeated without the caller's knowledge, as client-go does. */
  repeated = 0;
  /** Left to the caller, by verb and text. */
  readonly failures = new Map<string, number>();
  readonly unexplained: string[] = [];

  /** One line for the log. */
  toString(): string {
    const failures = [...this.failures].map(([text, count]) => `${count}× ${text}`);
    const failed = [...this.failures.values()].reduce((sum, count) => sum + count, 0);
    return `${this.requests} requests, ${this.repeated} repeated by client-go, ${failed} left to the caller: ${failures.join('; ') || 'none'}`;
  }

  note(method: string, { verdict, reply }: Pick<Outcome, 'verdict' | 'reply'>): void {
    this.requests++;
    if (verdict === 'answered') return;
    const message = (reply.body.message ?? reply.text).replaceAll(/ tcp [\d.:>-]+/gu, '').slice(0, 200);
    const text = `${method} ${reply.status} ${message}`;
    this.failures.set(text, (this.failures.get(text) ?? 0) + 1);
    if (verdict === 'unexplained') this.unexplained.push(text);
  }
}

/** Sends requests through one kube-apiserver and counts what becomes of them. */
export class Client {
  readonly api: Api;
  readonly #tally: Tally;

  constructor(api: Api, tally: Tally) {
    this.api = api;
    this.#tally = tally;
  }

  async send(method: string, path: string, options: CallOptions = {}): Promise<Outcome> {
    let isAmbiguous = false;
    for (let retries = 0; ; retries++) {
      const reply = await this.api.call(method, path, options);
      const { status, retryAfter } = reply;
      isAmbiguous ||= status >= 500;
      const isRepeated = (status === 429 || status >= 500) && retryAfter !== undefined;
      if (!isRepeated || retries === retriesMax) {
        const outcome = { verdict: verdictOf(reply), reply, isAmbiguous };
        this.#tally.note(method, outcome);
        return outcome;
      }
      this.#tally.repeated++;
      await sleep(Math.min(retryAfter * 1000, retryAfterMsMax));
    }
  }
}
