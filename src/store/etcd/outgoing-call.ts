// One call to etcd over a stream of HTTP/2: messages out, messages in, and how it ended. Used by raw-call.ts and raw-stream.ts.

import { grpcCode } from '../../grpc/codes.ts';
import { Deframer, messagePrefix } from '../../grpc/message.ts';
import { fieldOf, statusIn, type GrpcStatus } from '../../grpc/status.ts';
import { errorCode } from '../../http2/frame.ts';
import type { HeaderFields } from '../../http2/hpack.ts';
import type { Http2Stream, StreamListener } from '../../http2/stream.ts';

const nothing = Buffer.alloc(0);

/** Opens the stream of a call; headers go out at once. */
export type OpenStream = (listener: StreamListener) => Http2Stream;

/** A call. `onChange` is called when there may be more to read, room to write again, or the call is over. */
export class OutgoingCall implements StreamListener {
  readonly #stream: Http2Stream;
  readonly #onChange: () => void;
  readonly #incoming = new Deframer();
  #status: GrpcStatus | undefined;
  #answering = false;
  /** There are no more messages of ours. */
  #saidAll = false;
  #refused = false;
  #uncredited = 0;

  constructor(open: OpenStream, onChange: () => void) {
    this.#onChange = onChange;
    this.#stream = open(this);
  }

  /** How the call ended; undefined: it goes on. What came before may still be unread. */
  get status(): GrpcStatus | undefined {
    return this.#status;
  }

  /** etcd has refused the call before it did anything. */
  get isRefused(): boolean {
    return this.#refused;
  }

  /** What was written has not left yet. */
  get isHeldBack(): boolean {
    return this.#stream.isHeldBack;
  }

  /** Bytes are left that make no whole message. */
  get isWithin(): boolean {
    return this.#incoming.isWithin;
  }

  /** Sends a message; `isLast`: and that there are no more. */
  write(message: Buffer, isLast: boolean): void {
    this.#saidAll ||= isLast;
    this.#stream.data(message, isLast, messagePrefix(message.length));
  }

  /** No more messages. */
  end(): void {
    this.#saidAll = true;
    this.#stream.data(nothing, true);
  }

  /** etcd need not go on. */
  cancel(): void {
    this.#stream.reset(errorCode.cancel);
  }

  /** The next message. @throws StatusError for one that cannot be read. */
  read(): Buffer | undefined {
    const message = this.#incoming.next();
    this.#credit();
    return message;
  }

  /** See StreamListener. */
  onHeaders(fields: HeaderFields, isEnd: boolean): void {
    // Whoever answers with another status does not speak gRPC: what follows is not for us.
    const refusal = this.#answering ? undefined : statusOfHttp(fields);
    this.#answering = true;
    const status = statusIn(fields) ?? refusal;
    if (status !== undefined || isEnd) this.#end(status ?? statusOfEnd(errorCode.noError));
  }

  /** See StreamListener. */
  onData(chunk: Buffer, isEnd: boolean): void {
    if (this.#status !== undefined) return;
    this.#incoming.push(chunk);
    this.#uncredited += chunk.length;
    this.#credit();
    if (isEnd) this.#end(statusOfEnd(errorCode.noError));
    else this.#onChange();
  }

  /** See StreamListener. */
  onReset(code: number | undefined): void {
    this.#refused = !this.#answering && code === errorCode.refusedStream;
    this.#end(statusOfEnd(code));
  }

  /** See StreamListener. */
  onRoom(): void {
    this.#onChange();
  }

  #end(status: GrpcStatus): void {
    if (this.#status !== undefined) return;
    this.#status = status;
    // Where both sides have said all the stream closes by itself; a reset would be one more frame for each call.
    const isOver = this.#stream.remoteEnded && this.#saidAll && !this.#stream.isHeldBack;
    if (!isOver) this.#stream.reset(errorCode.cancel);
    this.#onChange();
  }

  /** More may come while no whole message waits to be read: one must be able to come whole, however large. */
  #credit(): void {
    if (this.#uncredited === 0) return;
    if (this.#incoming.isWithin && this.#hasMessage()) return;
    this.#stream.credit(this.#uncredited);
    this.#uncredited = 0;
  }

  #hasMessage(): boolean {
    try {
      return this.#incoming.hasMessage;
    } catch {
      // Whoever reads meets it.
      return true;
    }
  }
}

/** What an answer without a gRPC status means (http-grpc-status-mapping.md of grpc); undefined: HTTP says that all is well. */
export function statusOfHttp(fields: HeaderFields): GrpcStatus | undefined {
  const http = Number(fieldOf(fields, ':status'));
  if (http === 200) return undefined;
  return { code: httpCodes.get(http) ?? grpcCode.unknown, details: `etcd answered with HTTP status ${http}` };
}

const httpCodes = new Map<number, number>([
  [400, grpcCode.internal],
  [401, grpcCode.unauthenticated],
  [403, grpcCode.permissionDenied],
  [404, grpcCode.unimplemented],
  [429, grpcCode.unavailable],
  [502, grpcCode.unavailable],
  [503, grpcCode.unavailable],
  [504, grpcCode.unavailable],
]);

/** What the end of a stream without a status means, by the code it was reset with; undefined: its connection was lost. */
export function statusOfEnd(code: number | undefined): GrpcStatus {
  if (code === undefined)
    return { code: grpcCode.unavailable, details: 'switchyard: the connection to etcd was lost' };
  const details = `etcd ended the call without a status (HTTP/2 code ${code})`;
  switch (code) {
    case errorCode.refusedStream:
      return { code: grpcCode.unavailable, details };
    case errorCode.cancel:
      return { code: grpcCode.canceled, details };
    case errorCode.enhanceYourCalm:
      return { code: grpcCode.resourceExhausted, details };
    case errorCode.inadequateSecurity:
      return { code: grpcCode.permissionDenied, details };
    default:
      return { code: grpcCode.internal, details };
  }
}
