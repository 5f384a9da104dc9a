// A grpc-js duplex as RawStream: pulls instead of events, so that a slow reader holds back etcd and not our memory, and the
// stream's status arrives after the last message that came before it.

import {
  status as grpcStatus,
  type ClientDuplexStream,
  type ServiceError,
  type StatusObject,
} from '@grpc/grpc-js';
import { RawStatusError, type RawStream } from '../store.ts';

type Call = ClientDuplexStream<Buffer, Buffer>;

/** One stream to etcd. `call` may still be connecting. The signal cancels it. */
export class EtcdRawStream implements RawStream {
  #call: Call | undefined;
  readonly #opened: Promise<void>;
  readonly #signal: AbortSignal;
  readonly #abort = () => this.cancel();
  /** Set when the stream is over. */
  #over: { readonly error: Error | undefined } | undefined;
  #canceled = false;
  #ended = false;
  /** Called at each change a reader or writer may wait for. */
  readonly #waiting = new Set<() => void>();

  constructor(call: Call | Promise<Call>, signal: AbortSignal) {
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
    if (this.#call!.write(message)) return;
    while (this.#call!.writableNeedDrain) {
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
    this.#call?.cancel();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, void> {
    if (this.#call === undefined) await this.#opened;
    try {
      for (;;) {
        const message = this.#call?.read() as Buffer | null | undefined;
        if (message !== null && message !== undefined) {
          yield message;
          continue;
        }
        if (this.#over !== undefined) {
          if (this.#over.error !== undefined) throw this.#over.error;
          return;
        }
        await this.#change();
      }
    } finally {
      this.cancel();
    }
  }

  #attach(call: Call): void {
    this.#call = call;
    call.on('readable', () => this.#wake());
    call.on('drain', () => this.#wake());
    // The status that follows tells the same; without a listener the event would end the process.
    call.on('error', (error: ServiceError) => this.#status(error));
    call.on('status', (status: StatusObject) => this.#status(status));
    if (this.#canceled) call.cancel();
    else if (this.#ended) call.end();
  }

  #status(status: { readonly code: number; readonly details: string }): void {
    if (status.code === grpcStatus.OK) this.#finish(undefined);
    else if (this.#signal.aborted) this.#finish(this.#signal.reason as Error);
    else this.#finish(new RawStatusError(status.code, status.details));
  }

  #finish(error: Error | undefined): void {
    if (this.#over !== undefined) return;
    this.#over = { error };
    this.#signal.removeEventListener('abort', this.#abort);
    this.#wake();
  }

  #throwIfOver(): void {
    if (this.#over === undefined) return;
    throw this.#over.error ?? new RawStatusError(grpcStatus.CANCELLED, 'The stream is over');
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
