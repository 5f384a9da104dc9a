// The client's side of an HTTP/2 connection: it opens the streams, as many at a time as the server permits.

import { Http2Connection } from './connection.ts';
import type { ConnectionOptions } from './connection-options.ts';
import { clientPreface, errorCode } from './frame.ts';
import type { Headers } from './header-blocks.ts';
import { HeaderEncoder, type HeaderFields } from './hpack.ts';
import { setting } from './settings.ts';
import { Http2Stream, type StreamListener } from './stream.ts';

/** A stream that the server has no room for yet. */
interface Pending {
  readonly stream: Http2Stream;
  readonly constant: HeaderFields;
  readonly varying: HeaderFields;
}

/** A connection to a server. */
export class ClientConnection extends Http2Connection {
  override readonly isServer = false;
  readonly #streamWindowBytes: number;
  readonly #encoder = new HeaderEncoder();
  #pending: Pending[] = [];
  #streamsMax = Number.POSITIVE_INFINITY;

  constructor(options: ConnectionOptions) {
    super(options, { sent: clientPreface }, [[setting.enablePush, 0]]);
    this.#streamWindowBytes = options.streamWindowBytes;
    // Ids of clients are odd.
    this.lastId = -1;
  }

  override get streamCount(): number {
    return this.streams.size + this.#pending.length;
  }

  /**
   * Opens a stream, or lets it wait until the server permits one more. `constant` fields are the same array for many streams
   * (see HeaderEncoder). Only while `isOpen`.
   */
  open(constant: HeaderFields, varying: HeaderFields, listener: StreamListener): Http2Stream {
    const stream = new Http2Stream(this, listener, this.#streamWindowBytes);
    if (this.streams.size < this.#streamsMax) this.#open({ stream, constant, varying });
    else this.#pending.push({ stream, constant, varying });
    return stream;
  }

  override leave(): void {
    this.leaving = true;
    this.endIfIdle();
  }

  override closed(stream: Http2Stream): void {
    if (stream.id === 0) this.#pending = this.#pending.filter((pending) => pending.stream !== stream);
    super.closed(stream);
  }

  override headerBlock(block: Buffer): Buffer {
    return block;
  }

  protected override takeNew({ streamId }: Headers): void {
    if (!this.wasReset(streamId)) this.refuse(streamId, errorCode.protocolError);
  }

  protected override set(id: number, value: number): void {
    if (id === setting.headerTableSize) this.#encoder.setTableSize(value);
    else if (id === setting.maxConcurrentStreams) this.#streamsMax = value;
  }

  protected override roomForStreams(): void {
    while (this.#pending.length > 0 && this.streams.size < this.#streamsMax)
      this.#open(this.#pending.shift()!);
  }

  protected override get mayClose(): boolean {
    return true;
  }

  protected override loseOthers(): void {
    const pending = this.#pending;
    this.#pending = [];
    for (const { stream } of pending) stream.lost(errorCode.refusedStream);
  }

  #open({ stream, constant, varying }: Pending): void {
    this.lastId += 2;
    this.streams.set(this.lastId, stream);
    // Whatever waits: a block must be sent in its turn, since the next ones depend on it.
    this.outbox.headers(this.lastId, this.#encoder.encode(constant, varying), 0);
    stream.open(this.lastId, this.peerWindow);
  }
}
