// The messages of a gRPC stream (PROTOCOL-HTTP2.md of grpc): each has a flag byte and its length before it. Used by
// incoming-call.ts and store/etcd/.

import { StatusError } from './status.ts';
import { grpcCode } from './codes.ts';

/** A flag byte (1: compressed) and the length in four. */
export const prefixBytes = 5;

/** What comes before a message of `length` bytes. */
export function messagePrefix(length: number): Buffer {
  const prefix = Buffer.allocUnsafe(prefixBytes);
  prefix[0] = 0;
  prefix.writeUInt32BE(length, 1);
  return prefix;
}

/** Chunks below this are small: a client decides how small. */
const smallBytes = 1_024;
/** So many small chunks are made one: each costs more than its bytes, and keeps all that came with it over the socket. */
const smallChunksMax = 256;

/** Finds the messages in the chunks of a stream. Messages may be views of chunks. */
export class Deframer {
  readonly #messageBytesMax: number;
  /** Not yet read; what belongs together is joined only once it is whole. */
  #chunks: Buffer[] = [];
  #bytes = 0;
  /** Small chunks at the end. */
  #small = 0;

  constructor(messageBytesMax = Number.POSITIVE_INFINITY) {
    this.#messageBytesMax = messageBytesMax;
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    this.#small = chunk.length < smallBytes ? this.#small + 1 : 0;
    if (this.#small < smallChunksMax) return;
    this.#chunks.push(Buffer.concat(this.#chunks.splice(-this.#small)));
    this.#small = 0;
  }

  /** True when bytes are left that make no whole message. */
  get isWithin(): boolean {
    return this.#bytes > 0;
  }

  /**
   * Whether `next` gives a message now.
   * @throws StatusError for one that is compressed, since nobody asked for that, and for one that is too large.
   */
  get hasMessage(): boolean {
    if (this.#bytes < prefixBytes) return false;
    if (this.#chunks[0]!.length < prefixBytes) this.#join();
    const first = this.#chunks[0]!;
    if (first[0] !== 0)
      throw new StatusError(grpcCode.internal, 'grpc: expected no compressed message, got one');
    const length = first.readUInt32BE(1);
    if (length > this.#messageBytesMax) {
      const text = `grpc: received message larger than max (${length} vs. ${this.#messageBytesMax})`;
      throw new StatusError(grpcCode.resourceExhausted, text);
    }
    return this.#bytes >= prefixBytes + length;
  }

  /** The next whole message. @throws StatusError, see `hasMessage`. */
  next(): Buffer | undefined {
    if (!this.hasMessage) return undefined;
    const end = prefixBytes + this.#chunks[0]!.readUInt32BE(1);
    if (this.#chunks[0]!.length < end) this.#join();
    const whole = this.#chunks[0]!;
    if (whole.length === end) this.#chunks.shift();
    else this.#chunks[0] = whole.subarray(end);
    this.#bytes -= end;
    return whole.subarray(prefixBytes, end);
  }

  #join(): void {
    this.#chunks = [Buffer.concat(this.#chunks)];
    this.#small = 0;
  }
}
