// Counters of calls, by method and store: written by call.ts on the way of every call, read when somebody looks (registry.ts). A call
// costs a lookup by its store and some additions; names and labels are put together at the look.

import { grpcCode } from '../../grpc/codes.ts';
import { Histogram, latencyBounds } from '../../lib/histogram.ts';
import type { Store } from '../../store/store.ts';

/** As go-grpc-prometheus names them. */
export type CallType = 'unary' | 'server_stream' | 'bidi_stream';

/** Calls of one method that one store has served. */
export class StoreCalls {
  /** How many ended with each code, by its number. */
  readonly codes: number[] = Array.from({ length: codeNames.length }, () => 0);
  /** From the whole request, of a stream from its beginning, to the end. */
  readonly seconds = new Histogram(latencyBounds);
}

/** Calls of one method. */
export class MethodCalls {
  readonly type: CallType;
  readonly service: string;
  readonly method: string;
  /** By the store that served them; undefined: none, or several. */
  readonly byStore = new Map<Store | undefined, StoreCalls>();
  started = 0;
  ended = 0;
  messagesReceived = 0;
  messagesSent = 0;

  /** `path`: `/package.Service/Method`. */
  constructor(path: string, type: CallType) {
    const [, service = '', method = ''] = path.split('/');
    this.type = type;
    this.service = service;
    this.method = method;
  }

  /** One has ended. */
  finished(store: Store | undefined, code: number, tookMs: number): void {
    let calls = this.byStore.get(store);
    if (calls === undefined) this.byStore.set(store, (calls = new StoreCalls()));
    // A code that gRPC does not know comes from an etcd; it is Unknown to clients, too.
    if (calls.codes[code] === undefined) calls.codes[grpcCode.unknown]!++;
    else calls.codes[code]++;
    calls.seconds.observe(tookMs / 1000);
    this.ended++;
  }
}

/** All calls of one server. */
export class CallMetrics {
  readonly #methods = new Map<string, MethodCalls>();
  /** Calls that failed with an error of etcd, by its reason and the store that served them. */
  readonly errors = new Map<Store | undefined, Map<string, number>>();

  /** The counters of a method, which is served from now on. */
  method(path: string, type: CallType): MethodCalls {
    let calls = this.#methods.get(path);
    if (calls === undefined) this.#methods.set(path, (calls = new MethodCalls(path, type)));
    return calls;
  }

  /** A call was answered before anybody has served it. Methods that are not served do not count. */
  refused(path: string, code: number): void {
    const calls = this.#methods.get(path);
    if (calls === undefined) return;
    calls.started++;
    calls.finished(undefined, code, 0);
  }

  /** A call failed with an error of etcd. */
  failed(store: Store | undefined, reason: string): void {
    let reasons = this.errors.get(store);
    if (reasons === undefined) this.errors.set(store, (reasons = new Map()));
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }

  methods(): Iterable<MethodCalls> {
    return this.#methods.values();
  }
}

/** By number, as gRPC writes them: `OK`, `InvalidArgument`. */
export const codeNames: readonly string[] = Object.entries(grpcCode)
  .toSorted(([, a], [, b]) => a - b)
  .map(([name, code]) => (code === grpcCode.ok ? 'OK' : name[0]!.toUpperCase() + name.slice(1)));
