// A stream to etcd as RawStream: pulls instead of events, so that a slow reader holds back etcd and not our memory, and the
// stream's status arrives after the last message that came before it.

import { constants, type ClientHttp2Stream } from 'node:http2';
import { grpcCode } from '../../etcd/errors.ts';
import { RawStatusError, type RawStream } from '../store.ts';
import { Deframer, framed, statusIn, statusOfHttp, type GrpcStatus } from './grpc-message.ts';
import { brokenStatus } from './raw-call.ts';

/** One stream to etcd. `call` may still be connecting. The signal cancels it. */
export class EtcdRawStream implements RawStream {
  #call: ClientHttp2Stream | undefined;
  readonly #opened: Promise<void>;
  readonly #signal: AbortSignal;
  readonly #abort = () => this.cancel();
  readonly #incoming = new Deframer();
  /** What etcd has said; what it sent before may still be unread. */
  #status: GrpcStatus | undefined;
  /** Set when the stream is over. */
  #over: { readonly error: Error | undefined } | undefined;
  #canceled = false;
  #ended = false;
  /** Called at each change a reader or writer may wait for. */
  readonly #waiting = new Set<() => void>();

  constructor(call: ClientHttp2Stream | Promise<ClientHttp2Stream>, signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener('abort', this.#abort, { once: true });
    if (call instanceof Promise) {
      this.#opened = call.then(
        (opened) => this.#attach(opened),
        (error: unknown) => this.#finish(error instanceof Error ? error : new Error(String(error))),
      );
    } else {
      this.#attach(call);
      this.#opened = Promise.resolve();
    }
    if (signal.aborted) this.cancel();
  }

  async write(message: Buffer): Promise<void> {
    if (this.#call === undefined) await this.#opened;
    this.#throwIfOver();
    const call = this.#call!;
    if (call.write(framed(message))) return;
    while (call.writableNeedDrain) {
      await this.#change();
      this.#throwIfOver();
    }
  }

  end(): void {
    this.#ended = true;
    this.#call?.end();
  }

  cancel(): void {
    this.#canceled = true;
    // One that etcd has ended waits for its reader, and cannot be reset any more.
    if (this.#call?.closed === true) this.#call.destroy();
    else this.#call?.close(constants.NGHTTP2_CANCEL);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, void> {
    if (this.#call === undefined) await this.#opened;
    try {
      for (;;) {
        const message = this.#incoming.next();
        if (message !== undefined) {
          yield message;
          continue;
        }
        const chunk = this.#call?.read() as Buffer | null | undefined;
        if (chunk !== null && chunk !== undefined) {
          this.#incoming.push(chunk);
          continue;
        }
        if (this.#over !== undefined) {
          if (this.#over.error !== undefined) throw this.#over.error;
          if (!this.#incoming.isWithin) return;
          throw new RawStatusError(grpcCode.internal, 'switchyard: etcd ended within a message');
        }
        await this.#change();
      }
    } finally {
      this.cancel();
    }
  }

  #attach(call: ClientHttp2Stream): void {
    this.#call = call;
    const { session } = call;
    call.on('readable', () => this.#wake());
    call.on('drain', () => this.#wake());
    call.on('response', (headers) => {
      const status = statusIn(headers);
      const refused = status === undefined ? statusOfHttp(headers) : undefined;
      if (refused === undefined) this.#say(status);
      else this.#refuse(call, refused);
    });
    call.on('trailers', (headers) => this.#say(statusIn(headers)));
    call.on('end', () => {
      if (this.#status !== undefined) this.#finish(this.#failure(this.#status));
      if (!call.writableEnded) call.end();
    });
    // The end that follows tells the same; without a listener the event would end the process.
    call.on('error', () => undefined);
    call.on('close', () => this.#finish(this.#failure(this.#status ?? brokenStatus(call, session))));
    if (this.#canceled) this.cancel();
    else if (this.#ended) call.end();
  }

  /** Whoever answered does not speak gRPC: what follows is not for us. */
  #refuse(call: ClientHttp2Stream, status: GrpcStatus): void {
    this.#finish(this.#failure(status));
    this.#call = undefined;
    call.close(constants.NGHTTP2_CANCEL);
  }

  #say(status: GrpcStatus | undefined): void {
    this.#status ??= status;
    this.#wake();
  }

  #failure({ code, details }: GrpcStatus): Error | undefined {
    if (code === grpcCode.ok) return undefined;
    return this.#signal.aborted ? (this.#signal.reason as Error) : new RawStatusError(code, details);
  }

  #finish(error: Error | undefined): void {
    if (this.#over !== undefined) return;
    this.#over = { error };
    this.#signal.removeEventListener('abort', this.#abort);
    this.#wake();
  }

  #throwIfOver(): void {
    if (this.#over === undefined && this.#status === undefined && this.#call?.closed !== true) return;
    const error = this.#over?.error ?? (this.#status === undefined ? undefined : this.#failure(this.#status));
    throw error ?? new RawStatusError(grpcCode.canceled, 'The stream is over');
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.add(resolve));
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }
}
