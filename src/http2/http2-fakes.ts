// For the tests of this folder: one who speaks frames and nothing else, at the other end of a connection in memory, and a listener
// that remembers what it heard.

import { Duplex, duplexPair } from 'node:stream';
import { ClientConnection } from './client-connection.ts';
import type { ConnectionOptions } from './connection-options.ts';
import {
  clientPreface,
  frameFlag,
  FrameReader,
  frameType,
  uint32,
  writeFrameHead,
  type Frame,
} from './frame.ts';
import { encodeStateless, type HeaderFields } from './hpack.ts';
import { ServerConnection, type ServerConnectionOptions } from './server-connection.ts';
import { encodeSettings } from './settings.ts';
import type { Http2Stream, StreamListener } from './stream.ts';

const deadlineMs = 10_000;

/** Waits for `holds`, one turn of the event loop after another. @throws Error with `what` when it takes too long. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`Expected ${what} within ${deadlineMs} ms`);
    await new Promise(setImmediate);
  }
}

/** Some turns of the event loop: what could have happened has. */
export async function turns(count = 20): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise(setImmediate);
}

/** A whole frame. */
export function frameBytes(type: number, flags: number, streamId: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(9 + payload.length);
  payload.copy(bytes, writeFrameHead(bytes, 0, { length: payload.length, type, flags, streamId }));
  return bytes;
}

/** Hears of one stream; that nothing comes after an end is looked at each time. */
export class Heard implements StreamListener {
  readonly headers: HeaderFields[] = [];
  readonly data: Buffer[] = [];
  /** The code of each reset, `lost` for a connection that is gone. */
  readonly resets: (number | 'lost')[] = [];
  rooms = 0;
  isWhole = false;
  /** This side has reset the stream. */
  isLeft = false;
  /** What should not have come. */
  readonly wrong: string[] = [];
  /** Called after each chunk and each headers. */
  onSome: () => void = () => undefined;

  /** Ends of either kind. */
  get ends(): number {
    return this.resets.length + (this.isWhole ? 1 : 0);
  }

  get bytes(): Buffer {
    return Buffer.concat(this.data);
  }

  onHeaders(fields: HeaderFields, isEnd: boolean): void {
    this.#check('headers');
    this.headers.push(fields);
    if (isEnd) this.isWhole = true;
    this.onSome();
  }

  onData(chunk: Buffer, isEnd: boolean): void {
    this.#check('data');
    this.data.push(Buffer.from(chunk));
    if (isEnd) this.isWhole = true;
    this.onSome();
  }

  onReset(code: number | undefined): void {
    if (this.resets.length > 0 || this.isLeft) this.wrong.push('a second reset');
    this.resets.push(code ?? 'lost');
  }

  onRoom(): void {
    if (this.resets.length > 0 || this.isLeft) this.wrong.push('room after a reset');
    this.rooms++;
  }

  #check(what: string): void {
    if (this.ends > 0 || this.isLeft) this.wrong.push(`${what} after the end`);
  }
}

/** A socket without another end: what is written is kept, what comes is given by hand. */
export class HandSocket extends Duplex {
  readonly #written: Buffer[] = [];

  /** All that was written. */
  get written(): Buffer {
    return Buffer.concat(this.#written);
  }

  /** As if it came over the network, before this returns. */
  give(chunk: Buffer): void {
    this.emit('data', chunk);
  }

  override _read(): void {
    // By hand.
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.#written.push(Buffer.from(chunk));
    done();
  }
}

/** The frames in `bytes`. */
export function framesIn(bytes: Buffer): Frame[] {
  const reader = new FrameReader();
  reader.push(bytes);
  const frames: Frame[] = [];
  for (let frame = reader.next(); frame !== undefined; frame = reader.next()) frames.push(frame);
  return frames;
}

/** The end of a connection that the test plays itself. */
export class RawPeer {
  readonly socket: Duplex;
  readonly frames: Frame[] = [];
  isEnded = false;
  readonly #reader: FrameReader;

  constructor(socket: Duplex, preface?: Buffer) {
    this.socket = socket;
    this.#reader = new FrameReader(preface);
    socket.on('data', (chunk: Buffer) => {
      this.#reader.push(Buffer.from(chunk));
      for (let frame = this.#reader.next(); frame !== undefined; frame = this.#reader.next())
        this.frames.push(frame);
    });
    socket.on('end', () => (this.isEnded = true));
    socket.on('error', () => undefined);
  }

  send(type: number, flags: number, streamId: number, payload: Buffer | readonly number[] = []): void {
    this.socket.write(frameBytes(type, flags, streamId, Buffer.from(payload)));
  }

  settings(...settings: (readonly [number, number])[]): void {
    this.send(frameType.settings, 0, 0, encodeSettings(settings));
  }

  headers(streamId: number, fields: HeaderFields, isEnd = false): void {
    const flags = frameFlag.endHeaders | (isEnd ? frameFlag.endStream : 0);
    this.send(frameType.headers, flags, streamId, encodeStateless(fields));
  }

  windowUpdate(streamId: number, bytes: number): void {
    this.send(frameType.windowUpdate, 0, streamId, uint32(bytes));
  }

  reset(streamId: number, code: number): void {
    this.send(frameType.rstStream, 0, streamId, uint32(code));
  }

  /** Frames of a type that have come, those of one stream where it is named. */
  of(type: number, streamId?: number): Frame[] {
    return this.frames.filter(
      (frame) => frame.type === type && (streamId === undefined || frame.streamId === streamId),
    );
  }

  /** What came in the DATA frames of a stream. */
  dataOf(streamId: number): Buffer {
    return Buffer.concat(this.of(frameType.data, streamId).map(({ payload }) => payload));
  }

  /** The code of the first GOAWAY; undefined: none has come. */
  get goawayCode(): number | undefined {
    return this.of(frameType.goaway)[0]?.payload.readUInt32BE(4);
  }

  /** Codes of the resets of a stream. */
  resetsOf(streamId: number): number[] {
    return this.of(frameType.rstStream, streamId).map(({ payload }) => payload.readUInt32BE(0));
  }
}

export const request: HeaderFields = [':method', 'POST', ':scheme', 'http', ':path', '/'];

interface Closed {
  count: number;
  error: Error | undefined;
}

/** A server with a client that the test plays; each stream is heard by a `Heard`. */
export function serverWithRawClient(options: Partial<ServerConnectionOptions> = {}) {
  const [socket, other] = duplexPair();
  const heard = new Map<number, Heard>();
  const streams = new Map<number, Http2Stream>();
  const closed: Closed = { count: 0, error: undefined };
  /** What a new stream is heard by, where the test wants something else. */
  const opened: { listener: (stream: Http2Stream) => Heard } = { listener: () => new Heard() };
  const connection = new ServerConnection({
    socket,
    streamWindowBytes: 65_535,
    connectionWindowBytes: 65_535,
    ...options,
    onStream: (stream) => {
      const listener = opened.listener(stream);
      heard.set(stream.id, listener);
      streams.set(stream.id, stream);
      return listener;
    },
    onClose: (error) => {
      closed.count++;
      closed.error = error;
    },
  });
  const peer = new RawPeer(other);
  other.write(clientPreface);
  return { connection, socket, peer, heard, streams, closed, opened };
}

/** A client with a server that the test plays. */
export function clientWithRawServer(options: Partial<ConnectionOptions> = {}) {
  const [socket, other] = duplexPair();
  const closed: Closed = { count: 0, error: undefined };
  const connection = new ClientConnection({
    socket,
    streamWindowBytes: 65_535,
    connectionWindowBytes: 65_535,
    ...options,
    onClose: (error) => {
      closed.count++;
      closed.error = error;
    },
  });
  const peer = new RawPeer(other, clientPreface);
  return { connection, socket, peer, closed };
}
