// One call that a client makes, over a stream of HTTP/2 (PROTOCOL-HTTP2.md of grpc): messages in, messages out, a status. Nothing here
// knows what is called; server/call.ts does.

import { errorCode } from '../http2/frame.ts';
import { encodeStateless, type HeaderFields } from '../http2/hpack.ts';
import { areTrailers, requestHead, type RequestHead } from '../http2/request-head.ts';
import type { Http2Stream, StreamListener } from '../http2/stream.ts';
import type { HeldPart } from '../lib/held-bytes.ts';
import type { CallLoad } from './call-load.ts';
import { Deframer, messagePrefix, prefixBytes } from './message.ts';
import {
  answerHeaders,
  encodeTrailers,
  fieldOf,
  StatusError,
  type GrpcStatus,
  type MetadataField,
} from './status.ts';
import { timeoutMs, timerMsMax } from './timeout.ts';
import { grpcCode } from './codes.ts';

/**
 * Calls of one connection that somebody still works for when their clients are gone. Beyond these new ones are refused: who opens calls
 * and leaves them at once would have work done without a bound (CVE-2023-44487). What ends when it is told to never comes near.
 */
const abandonedMax = 10_000;
/** What an open call weighs beside what its client has sent, about. */
const callBytes = 16_384;
/** Of each call that is served, so much may come even when its connection holds too much already: most requests whole. */
const alwaysBytes = 8_192;
/** Timers of calls end on a multiple of this, so that many share one. */
const timerStepMs = 50;

/** Whoever serves a call. Not called any more once the call is finished or cancelled. */
export interface CallListener {
  /** There is something to `read`, or the client has said all. */
  onMessage(): void;
  /** The client has cancelled, its deadline is over, or it is gone. */
  onCancelled(): void;
  /** Everything written has left, after `isHeldBack` was true. */
  onRoom(): void;
}

export interface IncomingCallOptions {
  readonly messageBytesMax: number;
  /** Shared by the calls of a connection. */
  readonly load: CallLoad;
  /** Gives the listener of a call to `path`; undefined: there is no such method. */
  readonly serve: (call: IncomingCall) => CallListener | undefined;
}

/** Listener of a stream whose answer has been given already. */
const done: StreamListener = {
  onHeaders: () => undefined,
  onData: () => undefined,
  onReset: () => undefined,
  onRoom: () => undefined,
};

/** Takes a stream that a client has opened; gives its listener. */
export function acceptCall(
  stream: Http2Stream,
  fields: HeaderFields,
  options: IncomingCallOptions,
): StreamListener {
  const head = requestHead(fields);
  if (head === undefined) {
    stream.reset(errorCode.protocolError);
    return done;
  }
  const http = httpRefusal(head);
  if (http !== undefined) {
    stream.headers(encodeStateless([':status', http]), true);
    return done;
  }
  const { load } = options;
  if (load.abandoned >= abandonedMax) {
    load.refused('abandoned', head.path);
    stream.reset(errorCode.refusedStream);
    return done;
  }
  if (load.asked.isFull || load.answers.isFull) {
    load.refused(load.asked.isFull ? 'asked' : 'answers', head.path);
    stream.headers(encodeTrailers(load.refusal, true), true);
    return done;
  }
  const call = new IncomingCall(stream, head, options);
  call.start(options.serve);
  return call;
}

/** What a request that is not gRPC is answered with. */
function httpRefusal({ method, fields }: RequestHead): string | undefined {
  if (method !== 'POST') return '405';
  const type = fieldOf(fields, 'content-type');
  const isGrpc = type === 'application/grpc' || /^application\/grpc[+;]/u.test(type ?? '');
  return isGrpc ? undefined : '415';
}

export class IncomingCall implements StreamListener {
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly #stream: Http2Stream;
  readonly #fields: HeaderFields;
  readonly #incoming: Deframer;
  readonly #load: CallLoad;
  #listener: CallListener | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Bytes that came and may not be followed by as many yet. */
  #uncredited = 0;
  /** Counted in `load.asked`. */
  #asked: number;
  #answering = false;
  #finished = false;
  #status: GrpcStatus | undefined;
  /** Whoever serves the call is to finish it. */
  #begun = false;
  #abandoned = false;

  constructor(
    stream: Http2Stream,
    { path, fields }: RequestHead,
    { messageBytesMax, load }: Pick<IncomingCallOptions, 'messageBytesMax' | 'load'>,
  ) {
    this.path = path;
    this.#stream = stream;
    this.#fields = fields;
    this.#load = load;
    this.#incoming = new Deframer(messageBytesMax);
    this.#asked = callBytes;
    for (const text of fields) this.#asked += text.length;
    load.asked.add(this.#asked);
  }

  /** The client has said all. */
  get isWhole(): boolean {
    return this.#stream.remoteEnded;
  }

  /** Messages wait for the client to take them. */
  get isHeldBack(): boolean {
    return this.#stream.isHeldBack;
  }

  /** No answer is of use any more. */
  get isFinished(): boolean {
    return this.#finished;
  }

  /** What the client was told at the end; undefined: nothing yet, or it was gone before. */
  get status(): GrpcStatus | undefined {
    return this.#status;
  }

  /** The first header of that name. */
  field(name: string): string | undefined {
    return fieldOf(this.#fields, name);
  }

  /** Once finished: calls `then` when all has left, or is not wanted any more; at once where nothing waits. */
  whenLeft(then: () => void): void {
    if (this.#stream.isHeldBack) this.#stream.onClosed = then;
    else then();
  }

  /** Name and value of each header that is neither HTTP's nor gRPC's own nor binary; those of one name in one value. */
  metadata(): Record<string, string> {
    const metadata = new Map<string, string>();
    for (let at = 0; at < this.#fields.length; at += 2) {
      const name = this.#fields[at]!;
      if (name.startsWith(':') || name.endsWith('-bin') || ownFields.has(name)) continue;
      const value = this.#fields[at + 1]!;
      const before = metadata.get(name);
      metadata.set(name, before === undefined ? value : `${before}, ${value}`);
    }
    return Object.fromEntries(metadata);
  }

  /** To be called once, before anything else. */
  start(serve: IncomingCallOptions['serve']): void {
    const encoding = fieldOf(this.#fields, 'grpc-encoding') ?? 'identity';
    if (encoding !== 'identity') {
      // In the words of grpc-go, as it stands in an etcd.
      const text = `grpc: Decompressor is not installed for grpc-encoding "${encoding}"`;
      this.finish({ code: grpcCode.unimplemented, details: text });
      return;
    }
    const timeout = fieldOf(this.#fields, 'grpc-timeout');
    const ms = timeout === undefined ? Number.POSITIVE_INFINITY : timeoutMs(timeout);
    if (ms === undefined) {
      this.finish({ code: grpcCode.internal, details: `malformed grpc-timeout: ${timeout}` });
      return;
    }
    this.#listener = serve(this);
    if (this.#listener === undefined) {
      this.finish({ code: grpcCode.unimplemented, details: unknownMethod(this.path) });
      return;
    }
    if (ms >= timerMsMax || this.#finished) return;
    this.#timer = setTimeout(() => this.#late(), Math.ceil(ms / timerStepMs) * timerStepMs);
  }

  /** Work begins that ends with `finish`, also when the call was cancelled. */
  begin(): void {
    this.#begun = true;
  }

  /** The next message. @throws StatusError for one that cannot be read; the call should end with it. */
  read(): Buffer | undefined {
    const message = this.#incoming.next();
    if (message === undefined && this.#stream.remoteEnded && this.#incoming.isWithin)
      throw new StatusError(grpcCode.internal, 'grpc: the client ended within a message');
    this.#credit();
    return message;
  }

  /** The next message of several: from now on it does not count as asked. @throws StatusError, see `read`. */
  take(): Buffer | undefined {
    const message = this.read();
    if (message !== undefined) this.#forget(message.length + prefixBytes);
    return message;
  }

  /** Where the answer counts until the client has taken it. Before it is written. */
  countAnswerIn(held: HeldPart): void {
    this.#stream.held = held;
  }

  /** Sends a message, after those before. It must not change any more. */
  write(message: Buffer): void {
    if (this.#finished) return;
    if (!this.#answering) {
      this.#answering = true;
      this.#stream.headers(answerHeaders, false);
    }
    this.#stream.data(message, false, messagePrefix(message.length));
  }

  /** Ends the call, after what was written, with `more` for the client. Only the first one counts. */
  finish(status: GrpcStatus, more?: MetadataField): void {
    if (this.#abandoned) this.#load.abandoned--;
    this.#abandoned = false;
    this.#begun = false;
    this.#end(status, more);
    this.#forget(this.#asked);
  }

  /** See StreamListener. */
  onHeaders(fields: HeaderFields): void {
    if (areTrailers(fields)) this.#came();
    else this.#malformed();
  }

  /** See StreamListener. */
  onData(chunk: Buffer): void {
    // The answer has been given: what comes is not for anybody.
    if (this.#finished) return;
    this.#incoming.push(chunk);
    this.#uncredited += chunk.length;
    const { asked } = this.#load;
    this.#asked += chunk.length;
    asked.add(chunk.length);
    if (asked.isFull && this.#asked > callBytes + alwaysBytes && !this.isWhole) this.#refuse();
    else this.#came();
  }

  /** See StreamListener. */
  onReset(): void {
    this.#cancel();
  }

  /** See StreamListener. */
  onRoom(): void {
    if (!this.#finished) this.#listener?.onRoom();
  }

  #came(): void {
    if (this.#finished) return;
    try {
      this.#credit();
    } catch (error) {
      // There is no use in waiting for the rest of it.
      if (!(error instanceof StatusError)) throw error;
      this.#end({ code: error.code, details: error.message });
      this.#abandon();
      return;
    }
    this.#listener?.onMessage();
  }

  /** More may come while nothing waits to be read: a message must be able to come whole, however large. */
  #credit(): void {
    if (this.#uncredited === 0 || this.#incoming.hasMessage) return;
    this.#stream.credit(this.#uncredited);
    this.#uncredited = 0;
  }

  /** The rest of the request would be too much. */
  #refuse(): void {
    this.#end(this.#load.refusal);
    this.#load.refused('asked');
    this.#abandon();
  }

  #late(): void {
    if (this.#finished) return;
    this.#end({ code: grpcCode.deadlineExceeded, details: 'context deadline exceeded' });
    this.#abandon();
  }

  #malformed(): void {
    this.#stream.reset(errorCode.protocolError);
    this.#cancel();
  }

  #cancel(): void {
    if (this.#finished) return;
    this.#over();
    this.#abandon();
  }

  #end(status: GrpcStatus, more?: MetadataField): void {
    if (this.#finished) return;
    this.#over();
    this.#status = status;
    this.#stream.headers(encodeTrailers(status, !this.#answering, more), true);
  }

  /** Whoever works for the call hears that it is of no use. */
  #abandon(): void {
    if (this.#begun) {
      this.#abandoned = true;
      this.#load.abandoned++;
    }
    this.#listener?.onCancelled();
  }

  #over(): void {
    this.#finished = true;
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    // Whoever works for a call that is over still holds its request.
    if (!this.#begun) this.#forget(this.#asked);
  }

  #forget(bytes: number): void {
    if (bytes === 0) return;
    this.#asked -= bytes;
    this.#load.asked.drop(bytes);
  }
}

/** In the words of grpc-go. */
function unknownMethod(path: string): string {
  const at = path.lastIndexOf('/');
  if (at <= 0) return `malformed method name: "${path}"`;
  return `unknown method ${path.slice(at + 1)} for service ${path.slice(1, at)}`;
}

/** Headers that are about the way, not about the call. */
const ownFields = new Set([
  'te',
  'content-type',
  'content-length',
  'user-agent',
  'grpc-timeout',
  'grpc-encoding',
  'grpc-accept-encoding',
  'grpc-message-type',
]);
