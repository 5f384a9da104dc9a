// The server's side of an HTTP/2 connection: streams are opened by the client.

import { clientPreface, ConnectionError, errorCode, LimitError, windowBytesMax } from './frame.ts';
import { Http2Connection } from './connection.ts';
import type { ConnectionOptions } from './connection-options.ts';
import type { Headers } from './header-blocks.ts';
import { noTable, type HeaderFields } from './hpack.ts';
import { setting } from './settings.ts';
import { Http2Stream, type StreamListener } from './stream.ts';

/** What RFC 9113 has before anything was said. */
const initialTableBytes = 4_096;

export interface ServerConnectionOptions extends ConnectionOptions {
  /** Gives the listener of a stream that the client opens with `fields`. */
  readonly onStream: (stream: Http2Stream, fields: HeaderFields) => StreamListener;
  /** A stream was refused: too many wait for a client that does not read, or its headers are too large. */
  readonly onRefused?: (limit: 'streams' | 'headers') => void;
  /** For tests; default 20 s. */
  readonly greetingMsMax?: number;
}

/** How long a client may take to greet: its preface and SETTINGS. */
const greetingMsMaxDefault = 20_000;

/** Listener of a stream that nobody has taken yet. */
const deaf: StreamListener = {
  onHeaders: () => undefined,
  onData: () => undefined,
  onReset: () => undefined,
  onRoom: () => undefined,
};

/** A connection that a client has made. */
export class ServerConnection extends Http2Connection {
  override readonly isServer = true;
  readonly #options: ServerConnectionOptions;
  /** The client insists on hearing that its table is not used. */
  #owesNoTable = false;
  /** Streams above are refused. */
  #acceptedMax = Number.POSITIVE_INFINITY;
  /** The client has been told to go, and may not have read it yet. */
  #askedToGo = false;

  constructor(options: ServerConnectionOptions) {
    const onReady = () => {
      clearTimeout(greeting);
      options.onReady?.();
    };
    const onClose = (error: Error | undefined) => {
      clearTimeout(greeting);
      options.onClose?.(error);
    };
    super({ ...options, onReady, onClose }, { expected: clientPreface }, []);
    this.#options = options;
    const tooLate = () => this.fail(new LimitError('greeting', 'Expected SETTINGS in time'));
    const greeting = setTimeout(tooLate, options.greetingMsMax ?? greetingMsMaxDefault);
  }

  /** See Http2Connection. What the client sent before it has read that it should go is still served. */
  override leave(): void {
    if (this.leaving) return;
    this.leaving = true;
    this.#askedToGo = true;
    this.sendGoaway(windowBytesMax, errorCode.noError, '');
    this.ping(() => {
      this.#askedToGo = false;
      this.#acceptedMax = this.lastId;
      this.sendGoaway(this.lastId, errorCode.noError, '');
      this.endIfIdle();
    });
  }

  override headerBlock(block: Buffer): Buffer {
    if (!this.#owesNoTable) return block;
    this.#owesNoTable = false;
    return Buffer.concat([noTable, block]);
  }

  protected override takeNew({ streamId, fields, isEnd }: Headers): void {
    if (streamId % 2 === 0) return this.refuse(streamId, errorCode.protocolError);
    if (streamId <= this.lastId) {
      if (this.wasReset(streamId)) return;
      const text = `Expected a stream above ${this.lastId}, got ${streamId}`;
      throw new ConnectionError(errorCode.streamClosed, text);
    }
    this.lastId = streamId;
    this.expectReader();
    if (fields === undefined) {
      this.#options.onRefused?.('headers');
      return this.sendReset(streamId, errorCode.enhanceYourCalm);
    }
    if (streamId > this.#acceptedMax) return this.sendReset(streamId, errorCode.refusedStream);
    if (this.isStuck) {
      this.#options.onRefused?.('streams');
      return this.sendReset(streamId, errorCode.refusedStream);
    }
    const stream = new Http2Stream(this, deaf, this.#options.streamWindowBytes);
    this.streams.set(streamId, stream);
    stream.open(streamId, this.peerWindow);
    if (isEnd) stream.endRemote();
    const listener = this.#options.onStream(stream, fields);
    stream.listener = listener;
    if (stream.isLost) return listener.onReset(undefined);
    // A request that is nothing but headers has been said, too.
    if (!isEnd || stream.isClosed) return;
    listener.onData(nothing, true);
    stream.settle();
  }

  protected override set(id: number, value: number): void {
    if (id === setting.headerTableSize) this.#owesNoTable ||= value < initialTableBytes;
  }

  protected override roomForStreams(): void {
    // The client is not limited.
  }

  protected override get mayClose(): boolean {
    return !this.#askedToGo;
  }

  protected override loseOthers(): void {
    // There are none.
  }
}

const nothing = Buffer.alloc(0);
