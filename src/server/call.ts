// Adapters between calls as they come over the wire and plain async functions on bytes: the services see a request, a context
// and, for streams, a MessageStream. This is also the one place where errors become gRPC statuses, where failed calls are
// logged and where calls are counted.

import { EtcdError, etcdErrors, reasonOfText, type EtcdErrorReason } from '../etcd/errors.ts';
import { MalformedMessageError } from '../etcd/wire.ts';
import type { CallListener, IncomingCall } from '../grpc/incoming-call.ts';
import { StatusError, type GrpcStatus, type MetadataField } from '../grpc/status.ts';
import { InvariantError } from '../lib/invariant.ts';
import type { CallEnd, Observer } from '../lib/observer.ts';
import type { TraceContext } from '../lib/trace-context.ts';
import { noteRequest, requestIdField, ServedRequest, workFor } from '../lib/work.ts';
import type { RawMetadata, Store } from '../store/store.ts';
import type { ClientLoad, ReadKind } from './client-load.ts';
import type { FailureLevel, FailureLog } from './failure-log.ts';
import { callOver, CallStream, type MessageStream } from './call-stream.ts';
import type { CallMetrics, MethodCalls } from './metrics/calls.ts';
import type { ReadPace } from './read-pace.ts';
import type { SlowRequests } from './slow-requests.ts';
import { grpcCode } from '../grpc/codes.ts';

export type { MessageStream } from './call-stream.ts';

/** What a handler knows of its call. */
export interface CallContext {
  /** The gRPC path, e.g. `/etcdserverpb.KV/Range`. */
  readonly method: string;
  /** Text metadata as the client sent it, for stores that pass calls through. */
  readonly metadata: RawMetadata;
  /** Aborted by cancellation, deadline, a lost connection and shutdown. */
  readonly signal: AbortSignal;
  /** The connection it came over. */
  readonly client: ClientLoad;
  /** What serves it, told by the service once it knows; for the counters. Undefined: nothing yet, or several. */
  store: Store | undefined;
  /** What is answered is what a read of this kind brings from `store`: asked for when the pace says so, and counted there until it is taken. */
  reading(kind: ReadKind, store: Store): ReadPace;
}

export type UnaryHandler = (request: Buffer, context: CallContext) => Promise<Buffer>;
/** Resolving ends the stream with OK; rejecting ends it with the error's status, after everything written before. */
export type StreamHandler = (stream: MessageStream, context: CallContext) => Promise<void>;
export type ServerStreamHandler = (
  request: Buffer,
  stream: MessageStream,
  context: CallContext,
) => Promise<void>;

export interface CallOptions {
  readonly failures: FailureLog;
  readonly metrics: CallMetrics;
  /** Hears of every call that was served. */
  readonly observer: Observer;
  /** Undefined: slow requests are nothing special. */
  readonly slow?: SlowRequests | undefined;
  /** The span of a call, by what its caller says of the trace; undefined: it is not recorded. Absent: none is. */
  readonly trace?: ((traceParent: string | undefined) => TraceContext | undefined) | undefined;
  /** Aborted when the server drains: streams end with `etcdserver: server stopped`. */
  readonly shutdown: AbortSignal;
  /** A handler met a broken invariant. */
  readonly onBroken: (error: InvariantError) => void;
}

/** Serves the calls of one method. */
export type Serve = (call: IncomingCall, client: ClientLoad) => CallListener;

/** The status a client sees for `error`: texts of EtcdError and of etcd itself travel, anything else stays here. */
export function statusOf(error: unknown): GrpcStatus {
  if (error instanceof EtcdError || error instanceof StatusError)
    return { code: error.code, details: error.message };
  if (error instanceof MalformedMessageError)
    return { code: grpcCode.invalidArgument, details: `switchyard: malformed request: ${error.message}` };
  if (error instanceof Error && error.name === 'AbortError') return canceled;
  if (error instanceof Error && error.name === 'TimeoutError')
    return { code: etcdErrors.timeout[0], details: etcdErrors.timeout[1] };
  return { code: grpcCode.internal, details: 'switchyard: internal error' };
}

/** The error of the etcd API that `error` is: one of ours, or one that an etcd has sent. */
function reasonOf(error: unknown): EtcdErrorReason | undefined {
  if (error instanceof EtcdError) return error.reason;
  return error instanceof StatusError ? reasonOfText(error.message) : undefined;
}

/** Error for what a person must look at, warn for what heals itself, debug for what the client did. */
function logLevel(code: number): FailureLevel {
  switch (code) {
    case grpcCode.internal:
    case grpcCode.unknown:
    case grpcCode.dataLoss:
      return 'error';
    case grpcCode.unavailable:
    case grpcCode.deadlineExceeded:
    case grpcCode.resourceExhausted:
      return 'warn';
    default:
      return 'debug';
  }
}

/** A streaming call; `readsOn`: false when its only request was read already. */
interface StreamCall {
  readonly call: IncomingCall;
  readonly client: ClientLoad;
  readonly readsOn: boolean;
}

/** A call that has begun. */
interface Begun {
  readonly context: CallContext;
  readonly calls: MethodCalls;
  readonly request: ServedRequest;
  /** By performance.now(). */
  readonly at: number;
}

/** Makes adapters that share a log, the counters and the shutdown signal. */
export class CallAdapters {
  readonly #options: CallOptions;
  #streamsOpen = 0;
  #callsOpen = 0;
  #idle: PromiseWithResolvers<void> | undefined;
  /** Ends each stream there is. Not listeners of the signal: to add one to many costs in proportion to them. */
  readonly #stops = new Set<() => void>();

  constructor(options: CallOptions) {
    this.#options = options;
    const stopAll = () => {
      for (const stop of this.#stops) stop();
    };
    options.shutdown.addEventListener('abort', stopAll, { once: true });
  }

  get streamsOpen(): number {
    return this.#streamsOpen;
  }

  /** Resolves when no call and no stream is under way. */
  idle(): Promise<void> {
    if (this.#callsOpen + this.#streamsOpen === 0) return Promise.resolve();
    return (this.#idle ??= Promise.withResolvers()).promise;
  }

  /** A unary RPC. */
  unary(method: string, handler: UnaryHandler): Serve {
    const calls = this.#options.metrics.method(method, 'unary');
    const isFrequent = frequent.has(method);
    return (call, client) =>
      this.#single(calls, call, (request) => {
        const abort = new AbortController();
        const context = contextOf(call, client, method, abort.signal);
        const begun = this.#begin(call, context, calls);
        call.begin();
        call.countAnswerIn(client.answers);
        this.#callsOpen++;
        const answered = (end: CallEnd) => {
          this.#options.slow?.answered(end, request, call);
          begun.request.end();
          this.#callsOpen--;
          this.#ended();
        };
        const succeed = (response: Buffer) => {
          // What was done is done, but nobody is told of it.
          if (endOf(call, abort.signal) !== undefined) return fail(undefined);
          calls.messagesSent++;
          const end = this.#tell(begun, grpcCode.ok);
          call.write(response);
          call.finish(ok, idBack(begun.request, ok));
          answered(end);
          return client.answered();
        };
        const fail = (error: unknown) => {
          const status = endOf(call, abort.signal) ?? statusOf(error);
          const end = this.#failed(begun, error, status);
          call.finish(status, idBack(begun.request, status));
          answered(end);
        };
        try {
          const run = () => handler(request, context);
          // A context of its own costs a frequent call too much, unless it is recorded: it is found by its signal.
          const isLight = isFrequent && begun.request.trace === undefined;
          (isLight ? run() : workFor([begun.request], run)).then(succeed, fail);
        } catch (error) {
          // A handler that throws before its first await.
          fail(error);
        }
        return { onMessage: ignore, onRoom: ignore, onCancelled: () => abort.abort(callOver) };
      });
  }

  /** A bidirectional stream. */
  bidi(method: string, handler: StreamHandler): Serve {
    const calls = this.#options.metrics.method(method, 'bidi_stream');
    return (call, client) => {
      calls.started++;
      return this.#run(method, calls, { call, client, readsOn: true }, handler);
    };
  }

  /** One request, many responses. */
  serverStream(method: string, handler: ServerStreamHandler): Serve {
    const calls = this.#options.metrics.method(method, 'server_stream');
    return (call, client) =>
      this.#single(calls, call, (request) =>
        this.#run(method, calls, { call, client, readsOn: false }, (stream, context) =>
          handler(request, stream, context),
        ),
      );
  }

  /** Calls that end before there is a request to serve count, too. */
  #single(calls: MethodCalls, call: IncomingCall, begin: (request: Buffer) => CallListener): CallListener {
    calls.started++;
    const received = (request: Buffer) => {
      calls.messagesReceived++;
      return begin(request);
    };
    return new SingleRequest(call, received, ({ code }) => calls.finished(undefined, code, 0));
  }

  #ended(): void {
    if (this.#callsOpen + this.#streamsOpen > 0) return;
    this.#idle?.resolve();
    this.#idle = undefined;
  }

  #run(
    method: string,
    calls: MethodCalls,
    { call, client, readsOn }: StreamCall,
    handler: StreamHandler,
  ): CallListener {
    const { shutdown } = this.#options;
    const abort = new AbortController();
    const context = contextOf(call, client, method, abort.signal);
    const begun = this.#begin(call, context, calls);
    const stream = new CallStream(call, { readsOn, abort, calls });
    const stopped = Promise.withResolvers<never>();
    const stop = () => stopped.reject(new EtcdError('stopped'));
    if (shutdown.aborted) stop();
    this.#stops.add(stop);
    call.begin();
    this.#streamsOpen++;
    const finish = (error?: unknown) => {
      const end = endOf(call, abort.signal);
      this.#stops.delete(stop);
      stream.close();
      // A handler may well end in peace when the client goes; the call has not.
      if (error === undefined && end === undefined) {
        this.#tell(begun, grpcCode.ok);
        call.finish(ok, idBack(begun.request, ok));
      } else {
        const status = end ?? statusOf(error);
        this.#failed(begun, error, status);
        call.finish(status, idBack(begun.request, status));
      }
      begun.request.end();
      abort.abort(callOver);
      this.#streamsOpen--;
      this.#ended();
    };
    // What goes on for as long as a client likes is for nobody in particular.
    const works = readsOn ? [] : [begun.request];
    // A handler that throws before its first await fails like any other.
    const handled = new Promise<void>((resolve) => resolve(workFor(works, () => handler(stream, context))));
    Promise.race([handled, stopped.promise]).then(() => finish(), finish);
    return stream;
  }

  #begin(call: IncomingCall, context: CallContext, calls: MethodCalls): Begun {
    const request = new ServedRequest(call);
    noteRequest(context.signal, request);
    const { trace } = this.#options;
    if (trace !== undefined) request.trace = trace(call.field('traceparent'));
    return { context, calls, request, at: performance.now() };
  }

  #tell({ context, calls, request, at }: Begun, code: number): CallEnd {
    const { method, store } = context;
    const endedAt = performance.now();
    calls.finished(store, code, endedAt - at);
    const end = { request, method, store: store?.name, code, startedAt: at, endedAt };
    this.#options.observer.call?.(end);
    return end;
  }

  #failed(begun: Begun, error: unknown, { code }: GrpcStatus): CallEnd {
    const { method, store } = begun.context;
    const { metrics, failures } = this.#options;
    const end = this.#tell(begun, code);
    const reason = code === grpcCode.canceled ? undefined : reasonOf(error);
    if (reason !== undefined) metrics.failed(store, reason);
    failures.failed(logLevel(code), { request: begun.request.id, method, code, error });
    if (error instanceof InvariantError) this.#options.onBroken(error);
    return end;
  }
}

/** Calls of which there are very many. */
const frequent: ReadonlySet<string> = new Set(
  ['Range', 'Put', 'DeleteRange', 'Txn'].map((method) => `/etcdserverpb.KV/${method}`),
);

/** The request's id, for a client that uses ids, or may ask what went wrong. */
function idBack(request: ServedRequest, { code }: GrpcStatus): MetadataField | undefined {
  const id = code === grpcCode.ok ? request.givenId : request.id;
  return id === undefined ? undefined : [requestIdField, id];
}

/** How a call ended before its handler did: what the client was told, Canceled where it is gone; undefined: it goes on. */
function endOf(call: IncomingCall, signal: AbortSignal): GrpcStatus | undefined {
  if (!signal.aborted) return undefined;
  return call.status ?? canceled;
}

const ok: GrpcStatus = { code: grpcCode.ok, details: '' };
const canceled: GrpcStatus = { code: grpcCode.canceled, details: 'the call was canceled' };

const ignore = () => undefined;

function contextOf(call: IncomingCall, client: ClientLoad, method: string, signal: AbortSignal): CallContext {
  let metadata: RawMetadata | undefined;
  return {
    method,
    signal,
    client,
    store: undefined,
    reading(kind, store) {
      const pace = client.reads(kind, store);
      call.countAnswerIn(pace.held);
      return pace;
    },
    get metadata() {
      return (metadata ??= call.metadata());
    },
  };
}

/** Waits for the one message of a request, then gives the call to whom `begin` says. */
class SingleRequest implements CallListener {
  readonly #call: IncomingCall;
  readonly #begin: (request: Buffer) => CallListener;
  readonly #ended: (status: GrpcStatus) => void;
  #served: CallListener | undefined;

  /** `ended`: called where `begin` never is. */
  constructor(
    call: IncomingCall,
    begin: (request: Buffer) => CallListener,
    ended: (status: GrpcStatus) => void,
  ) {
    this.#call = call;
    this.#begin = begin;
    this.#ended = ended;
  }

  onMessage(): void {
    const call = this.#call;
    if (this.#served !== undefined || !call.isWhole) return;
    let request: Buffer | undefined;
    try {
      request = call.read();
      if (request === undefined || call.read() !== undefined)
        throw new StatusError(
          grpcCode.internal,
          'grpc: expected one message of the request, got none or more',
        );
    } catch (error) {
      const status = statusOf(error);
      this.#ended(status);
      return call.finish(status);
    }
    this.#served = this.#begin(request);
  }

  onCancelled(): void {
    if (this.#served === undefined) this.#ended(this.#call.status ?? canceled);
    else this.#served.onCancelled();
  }

  onRoom(): void {
    this.#served?.onRoom();
  }
}
