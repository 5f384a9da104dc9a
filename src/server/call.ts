// Adapters between grpc-js handlers and plain async functions on bytes. grpc-js callbacks, events and cancellation are
// confined to this file: the services see a request, a context and, for streams, a MessageStream. This is also the one
// place where errors become gRPC statuses, where failed calls are logged and where calls are counted.

import type {
  handleBidiStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
} from '@grpc/grpc-js';
import { EtcdError, etcdErrors, grpcCode } from '../etcd/errors.ts';
import { MalformedMessageError } from '../etcd/wire.ts';
import { InvariantError } from '../lib/invariant.ts';
import { RawStatusError, type RawMetadata } from '../store/store.ts';
import type { FailureLevel, FailureLog } from './failure-log.ts';
import type { RpcMetrics } from './metrics.ts';

/** Bytes of one stream that may be on their way to a client that is slow to take them, one message aside. */
const bytesUnderWayMax = 1024 * 1024;

/** What a handler knows of its call. */
export interface CallContext {
  /** The gRPC path, e.g. `/etcdserverpb.KV/Range`. */
  readonly method: string;
  /** Text metadata as the client sent it, for stores that pass calls through. */
  readonly metadata: RawMetadata;
  /** Aborted by cancellation, deadline, a lost connection and shutdown. */
  readonly signal: AbortSignal;
}

/** The client's half and ours of a streaming call. Iterating ends at the client's half-close. */
export interface MessageStream extends AsyncIterable<Buffer> {
  /** Resolves when the transport takes more: a slow client makes its writers wait. Never rejects; after an end it does nothing. */
  write(message: Buffer): Promise<void>;
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
  readonly metrics: RpcMetrics;
  /** Aborted when the server drains: streams end with `etcdserver: server stopped`. */
  readonly shutdown: AbortSignal;
  /** A handler met a broken invariant. */
  readonly onBroken: (error: InvariantError) => void;
}

interface Status {
  readonly code: number;
  readonly details: string;
}

/** The server's side of a streaming call, as far as this file uses it. */
interface WritableCall {
  write(message: Buffer, taken: () => void): boolean;
  end(): unknown;
  emit(event: 'error', status: Status): boolean;
  on(event: 'drain' | 'cancelled' | 'close', listener: () => void): unknown;
}

/** The status a client sees for `error`: texts of EtcdError and of etcd itself travel, anything else stays here. */
export function statusOf(error: unknown): Status {
  if (error instanceof EtcdError || error instanceof RawStatusError)
    return { code: error.code, details: error.message };
  if (error instanceof MalformedMessageError)
    return { code: grpcCode.invalidArgument, details: `switchyard: malformed request: ${error.message}` };
  if (error instanceof Error && error.name === 'AbortError')
    return { code: grpcCode.canceled, details: 'the call was canceled' };
  if (error instanceof Error && error.name === 'TimeoutError')
    return { code: etcdErrors.timeout[0], details: etcdErrors.timeout[1] };
  return { code: grpcCode.internal, details: 'switchyard: internal error' };
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

/** Pseudo-headers are already gone; binary headers and transport headers are of no use to a store. */
function textMetadata(metadata: Metadata): RawMetadata {
  const text: Record<string, string> = {};
  for (const [name, value] of Object.entries(metadata.getMap())) {
    if (typeof value === 'string' && name !== 'user-agent') text[name] = value;
  }
  return text;
}

/** Makes adapters that share a log, the counters and the shutdown signal. */
export class CallAdapters {
  readonly #options: CallOptions;
  #streamsOpen = 0;
  #callsOpen = 0;
  #idle: PromiseWithResolvers<void> | undefined;

  constructor(options: CallOptions) {
    this.#options = options;
  }

  get streamsOpen(): number {
    return this.#streamsOpen;
  }

  /** Resolves when no call and no stream is under way. */
  idle(): Promise<void> {
    if (this.#callsOpen + this.#streamsOpen === 0) return Promise.resolve();
    return (this.#idle ??= Promise.withResolvers()).promise;
  }

  #ended(): void {
    if (this.#callsOpen + this.#streamsOpen > 0) return;
    this.#idle?.resolve();
    this.#idle = undefined;
  }

  /** A unary RPC. */
  unary(method: string, handler: UnaryHandler): handleUnaryCall<Buffer, Buffer> {
    return (call, callback) => {
      const started = performance.now();
      const abort = new AbortController();
      let isOver = false;
      // grpc-js says so after every call; an abort that nobody waits for would cost as much as the rest of the adapter.
      call.on('cancelled', () => {
        if (!isOver) abort.abort();
      });
      this.#callsOpen++;
      let metadata: RawMetadata | undefined;
      const context: CallContext = {
        method,
        signal: abort.signal,
        get metadata() {
          return (metadata ??= textMetadata(call.metadata));
        },
      };
      const done = () => {
        this.#callsOpen--;
        this.#ended();
      };
      const succeed = (response: Buffer) => {
        isOver = true;
        this.#options.metrics.finished(method, grpcCode.ok, performance.now() - started);
        callback(null, response);
        done();
      };
      const fail = (error: unknown) => {
        isOver = true;
        callback(this.#failed(method, error, abort.signal.aborted, started));
        done();
      };
      try {
        handler(call.request, context).then(succeed, fail);
      } catch (error) {
        // A handler that throws before its first await.
        fail(error);
      }
    };
  }

  /** A bidirectional stream. */
  bidi(method: string, handler: StreamHandler): handleBidiStreamingCall<Buffer, Buffer> {
    return (call) => {
      // Leaving the loop early must not destroy the call: the status still has to go out.
      const requests = call.iterator({ destroyOnReturn: false });
      const requestIterable = { [Symbol.asyncIterator]: () => requests as AsyncIterator<Buffer> };
      this.#run(method, call, call.metadata, (stream, context) => handler(stream, context), requestIterable);
    };
  }

  /** One request, many responses. */
  serverStream(method: string, handler: ServerStreamHandler): handleServerStreamingCall<Buffer, Buffer> {
    return (call) => {
      this.#run(method, call, call.metadata, (stream, context) => handler(call.request, stream, context));
    };
  }

  #run(
    method: string,
    call: WritableCall,
    metadata: Metadata,
    handler: StreamHandler,
    requests: AsyncIterable<Buffer> = {
      [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve({ done: true, value: undefined }) }),
    },
  ): void {
    const started = performance.now();
    const { shutdown, metrics } = this.#options;
    const abort = new AbortController();
    const stream = new CallStream(call, requests, abort.signal);
    call.on('cancelled', () => abort.abort());
    call.on('close', () => abort.abort());
    const stopped = Promise.withResolvers<never>();
    const stop = () => stopped.reject(new EtcdError('stopped'));
    if (shutdown.aborted) stop();
    shutdown.addEventListener('abort', stop, { once: true });
    metrics.streamOpened(method);
    this.#streamsOpen++;
    const finish = (error?: unknown) => {
      const cancelled = abort.signal.aborted;
      shutdown.removeEventListener('abort', stop);
      abort.abort();
      stream.close();
      metrics.streamClosed(method);
      if (error === undefined) {
        metrics.finished(method, grpcCode.ok, performance.now() - started);
        call.end();
      } else call.emit('error', this.#failed(method, error, cancelled, started));
      this.#streamsOpen--;
      this.#ended();
    };
    const context = { method, metadata: textMetadata(metadata), signal: abort.signal };
    Promise.race([handler(stream, context), stopped.promise]).then(() => finish(), finish);
  }

  #failed(method: string, error: unknown, cancelled: boolean, started: number): Status {
    const status = cancelled
      ? { code: grpcCode.canceled, details: 'the call was canceled' }
      : statusOf(error);
    this.#options.metrics.finished(method, status.code, performance.now() - started);
    this.#options.failures.failed(logLevel(status.code), { method, code: status.code, error });
    if (error instanceof InvariantError) this.#options.onBroken(error);
    return status;
  }
}

const takenAtOnce = Promise.resolve();

interface Outgoing {
  readonly message: Buffer;
  readonly taken: () => void;
}

/**
 * MessageStream over a grpc-js call. Messages leave in the order in which they were given, whoever gives them: progress marks
 * of a watch stream rely on it. The call itself buffers by count, not by size, so bytes under way are counted here.
 */
class CallStream implements MessageStream {
  readonly #call: WritableCall;
  readonly #requests: AsyncIterable<Buffer>;
  readonly #signal: AbortSignal;
  /** Given to the call and not yet taken by the transport. */
  #bytesUnderWay = 0;
  /** The call has said that it takes no more for now. */
  #full = false;
  /** One for each writer that waits. */
  readonly #waiting: Outgoing[] = [];
  #closed = false;

  constructor(call: WritableCall, requests: AsyncIterable<Buffer>, signal: AbortSignal) {
    this.#call = call;
    this.#requests = requests;
    this.#signal = signal;
    call.on('drain', () => {
      this.#full = false;
      this.#send();
    });
    signal.addEventListener('abort', () => this.#send(), { once: true });
  }

  [Symbol.asyncIterator](): AsyncIterator<Buffer> {
    return this.#requests[Symbol.asyncIterator]();
  }

  write(message: Buffer): Promise<void> {
    if (this.#isOpen() && this.#waiting.length === 0 && !this.#isFull()) {
      this.#give(message);
      return takenAtOnce;
    }
    return new Promise((taken) => {
      this.#waiting.push({ message, taken });
      this.#send();
    });
  }

  /** Nothing is written after this: the status that follows is the last word. */
  close(): void {
    this.#closed = true;
  }

  #send(): void {
    for (;;) {
      const isOpen = this.#isOpen();
      if (isOpen && this.#isFull()) return;
      const next = this.#waiting.shift();
      if (next === undefined) return;
      if (isOpen) this.#give(next.message);
      next.taken();
    }
  }

  #isOpen(): boolean {
    return !this.#closed && !this.#signal.aborted;
  }

  #isFull(): boolean {
    return this.#full || this.#bytesUnderWay >= bytesUnderWayMax;
  }

  #give(message: Buffer): void {
    this.#bytesUnderWay += message.length;
    const more = this.#call.write(message, () => {
      this.#bytesUnderWay -= message.length;
      if (this.#waiting.length > 0) this.#send();
    });
    if (!more) this.#full = true;
  }
}
