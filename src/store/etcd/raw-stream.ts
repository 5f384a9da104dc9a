// A stream to etcd as RawStream: pulls instead of events, so that a slow reader holds back etcd and not our memory, and the
// stream's status arrives after the last message that came before it.

import { grpcCode } from '../../grpc/codes.ts';
import { StatusError } from '../../grpc/status.ts';
import type { RawStream } from '../store.ts';
import { OutgoingCall, type OpenStream } from './outgoing-call.ts';

/** One stream to etcd. `open` may still have to wait for a connection. The signal cancels it. */
export class EtcdRawStream implements RawStream {
  #call: OutgoingCall | undefined;
  readonly #signal: AbortSignal;
  readonly #abort = () => this.cancel();
  /** Why there never was a call, or why it counts no more. */
  #failure: Error | undefined;
  /** Written before there was a call. */
  #early: Buffer[] = [];
  #canceled = false;
  #ended = false;
  /** Called at each change a reader or writer may wait for. */
  readonly #waiting = new Set<() => void>();

  constructor(open: OpenStream | Promise<OpenStream>, signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener('abort', this.#abort, { once: true });
    if (signal.aborted) this.cancel();
    if (open instanceof Promise) {
      const failed = (error: unknown) =>
        this.#fail(error instanceof Error ? error : new Error(String(error)));
      open.then((ready) => this.#begin(ready)).catch(failed);
    } else this.#begin(open);
  }

  async write(message: Buffer): Promise<void> {
    if (this.#call === undefined && this.#failure === undefined) {
      this.#early.push(message);
      await this.#begun();
      this.#throwIfOver();
    } else {
      this.#throwIfOver();
      this.#call!.write(message, false);
    }
    while (this.#call!.isHeldBack) {
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
    this.#signal.removeEventListener('abort', this.#abort);
    this.#call?.cancel();
    if (this.#call === undefined) this.#fail(this.#cancellation());
    else this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, void> {
    try {
      await this.#begun();
      for (;;) {
        if (this.#failure !== undefined) throw this.#failure;
        const message = this.#canceled ? undefined : this.#call!.read();
        if (message !== undefined) {
          yield message;
          continue;
        }
        const end = this.#endOf(this.#call!);
        if (end !== undefined) {
          if (end.error !== undefined) throw end.error;
          if (!this.#call!.isWithin) return;
          // Who has cancelled has left the rest unread.
          if (this.#canceled) throw this.#cancellation();
          throw new StatusError(grpcCode.internal, 'switchyard: etcd ended within a message');
        }
        await this.#change();
      }
    } finally {
      this.cancel();
    }
  }

  #begin(open: OpenStream): void {
    if (this.#canceled) return;
    this.#call = new OutgoingCall(open, () => this.#wake());
    for (const message of this.#early) this.#call.write(message, false);
    this.#early = [];
    if (this.#ended) this.#call.end();
    this.#wake();
  }

  /** Waits until there is a call, or there will be none. */
  async #begun(): Promise<void> {
    while (this.#call === undefined && this.#failure === undefined) await this.#change();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }

  #cancellation(): Error {
    return this.#signal.aborted
      ? (this.#signal.reason as Error)
      : new StatusError(grpcCode.canceled, 'The stream is over');
  }

  /** How the call ended; undefined: it goes on. */
  #endOf(call: OutgoingCall): { readonly error: Error | undefined } | undefined {
    const { status } = call;
    if (status === undefined) return this.#canceled ? { error: this.#cancellation() } : undefined;
    if (status.code === grpcCode.ok) return { error: undefined };
    return {
      error: this.#signal.aborted ? this.#cancellation() : new StatusError(status.code, status.details),
    };
  }

  #throwIfOver(): void {
    if (this.#failure !== undefined) throw this.#failure;
    const end = this.#endOf(this.#call!);
    if (end !== undefined) throw end.error ?? new StatusError(grpcCode.canceled, 'The stream is over');
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
