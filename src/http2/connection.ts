// What both sides of an HTTP/2 connection have in common (RFC 9113): settings, flow control, streams, pings, its end. Written for
// gRPC: no pushes, no priorities. node:http2 costs some times as much for each call; here one chunk from a socket brings many
// frames, and one write takes many. States: greeting (only the preface and SETTINGS may come), open, leaving (a GOAWAY was sent or
// has come: no new streams), ending (this side has said all; the other one is given a while to close), closed.

import type { Duplex } from 'node:stream';
import {
  ConnectionError,
  connectionErrorOf,
  errorCode,
  LimitError,
  frameFlag,
  frameType,
  protocolError,
  tooWide,
  uint32,
  windowBytesMax,
  type Frame,
} from './frame.ts';
import { checkFrame } from './frame-check.ts';
import { decodeGoaway, encodeGoaway, goawayError } from './goaway.ts';
import { checkPriority, HeaderBlocks, headerListBytesMax, unpadded, type Headers } from './header-blocks.ts';
import type { ConnectionOptions } from './connection-options.ts';
import { FrameIntake } from './frame-intake.ts';
import { HeldBack } from './held-back.ts';
import { Outbox } from './outbox.ts';
import { RecentResets } from './recent-resets.ts';
import { ReceiveWindow } from './receive-window.ts';
import { decodeSettings, encodeSettings, setting } from './settings.ts';
import type { Http2Stream, StreamHost } from './stream.ts';

/** The window of a stream, and of a connection, before anything was said. */
const initialWindowBytes = 65_535;
/** What may wait for one who does not read, answers to its own pings among it, before it is taken for hostile. */
const unreadBytesMax = 4 * 1024 * 1024;
/** How long the other side may take to close, after it was told that nothing more comes, or has met an error. */
const endingMsMax = 2_000;

export abstract class Http2Connection implements StreamHost {
  abstract readonly isServer: boolean;
  readonly outbox: Outbox;
  sendWindow = initialWindowBytes;
  /** Open streams by their ids. */
  protected readonly streams = new Map<number, Http2Stream>();
  /** The last stream that the client has opened. */
  protected lastId = 0;
  /** No new streams; closed with the last one. */
  protected leaving = false;
  /** What the other side takes of a stream before it has said more. */
  protected peerWindow = initialWindowBytes;
  readonly #options: ConnectionOptions;
  readonly #socket: Duplex;
  readonly #headers = new HeaderBlocks();
  readonly #window: ReceiveWindow;
  readonly #heldBack = new HeldBack();
  readonly #resets = new RecentResets();
  /** What waits for the answers to our pings, in their order. */
  readonly #pings: (() => void)[] = [];
  #ready = false;
  /** Nothing is read any more. */
  #error: Error | undefined;
  /** What the other side has met. */
  #peerError: Error | undefined;
  #ending: NodeJS.Timeout | undefined;
  #closed = false;

  /** `preface`: what the client sends first. `settings`: those of this side that the other one does not have. */
  protected constructor(
    options: ConnectionOptions,
    preface: { readonly expected: Buffer } | { readonly sent: Buffer },
    settings: readonly (readonly [number, number])[],
  ) {
    const { socket, streamWindowBytes, connectionWindowBytes } = options;
    this.#options = options;
    this.#socket = socket;
    this.#window = new ReceiveWindow(connectionWindowBytes);
    this.outbox = new Outbox(socket, () => this.#guard(() => this.#heldBack.sendInto(this)));
    if ('sent' in preface) this.outbox.raw(preface.sent);
    const window = [setting.initialWindowSize, streamWindowBytes] as const;
    const common = [window, [setting.maxHeaderListSize, headerListBytesMax]] as const;
    this.outbox.frame(frameType.settings, 0, 0, encodeSettings([...common, ...settings]));
    this.#widen(connectionWindowBytes - initialWindowBytes);
    new FrameIntake({
      socket,
      preface: 'expected' in preface ? preface.expected : undefined,
      take: (frame) => this.#take(frame),
      isOver: () => this.isOver,
      guard: (work) => this.#guard(work),
    });
    socket.on('error', (error: Error) => (this.#error ??= error));
    // One who says no more does not wait for answers either.
    socket.once('end', () => this.destroy());
    socket.once('close', () => this.#close());
  }

  /** Opens no more streams; closes when the last one has ended. */
  abstract leave(): void;

  /** See StreamHost. */
  abstract headerBlock(block: Buffer): Buffer;

  /** Headers of a stream that is not open. @throws ConnectionError */
  protected abstract takeNew(headers: Headers): void;

  /** A setting that the other side has sent, beside its window. */
  protected abstract set(id: number, value: number): void;

  /** There may be room for more streams. */
  protected abstract roomForStreams(): void;

  /** Whether a connection that leaves, and has no streams, may close. */
  protected abstract get mayClose(): boolean;

  /** Loses what is not open and not in `streams`: the other side has not heard of it. */
  protected abstract loseOthers(): void;

  /** New streams are possible: it has greeted, and is neither closed nor about to be. */
  get isOpen(): boolean {
    return this.#ready && !this.leaving && !this.isOver;
  }

  /** Nothing is read any more. */
  protected get isOver(): boolean {
    return this.#closed || this.#error !== undefined;
  }

  /** Streams that are not closed. */
  get streamCount(): number {
    return this.streams.size;
  }

  /** Calls `onAnswer` when the other side has answered. */
  ping(onAnswer: () => void): void {
    this.#pings.push(onAnswer);
    this.outbox.frame(frameType.ping, 0, 0, Buffer.alloc(8));
  }

  /** Ends the connection and all its streams now, without a word. */
  destroy(error?: Error): void {
    if (this.#closed) return;
    this.#error ??= error;
    this.outbox.flush();
    this.#socket.destroy();
    this.#close();
  }

  /** See StreamHost. */
  sendReset(streamId: number, code: number): void {
    this.#resets.add(streamId);
    this.outbox.frame(frameType.rstStream, 0, streamId, uint32(code));
  }

  /** See StreamHost. */
  holdBack(stream: Http2Stream): void {
    this.#heldBack.add(stream);
    this.outbox.schedule();
  }

  /** See StreamHost. */
  closed(stream: Http2Stream): void {
    this.#heldBack.delete(stream);
    this.streams.delete(stream.id);
    this.roomForStreams();
    this.endIfIdle();
  }

  #widen(bytes: number): void {
    if (bytes > 0) this.outbox.frame(frameType.windowUpdate, 0, 0, uint32(bytes));
  }

  /** What goes wrong costs this connection, and no other. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (cause) {
      const error = connectionErrorOf(cause);
      if (this.isOver) this.#error = error;
      else this.fail(error);
    }
  }

  #take(frame: Frame): void {
    const { type, streamId } = frame;
    if (!this.#ready && (type !== frameType.settings || (frame.flags & frameFlag.ack) !== 0))
      throw protocolError(`Expected SETTINGS first, got a frame of type ${type}`);
    const { within } = this.#headers;
    if (within !== undefined && (type !== frameType.continuation || streamId !== within))
      throw protocolError(`Expected the rest of the headers of stream ${within}, got another frame`);
    checkFrame(frame);
    switch (type) {
      case frameType.data:
        return this.#takeData(frame);
      case frameType.headers:
        return this.#takeHeaders(this.#headers.begin(frame));
      case frameType.continuation:
        return this.#takeHeaders(this.#headers.goOn(frame));
      case frameType.windowUpdate:
        return this.#takeWindowUpdate(frame);
      case frameType.rstStream:
        return this.#takeReset(frame);
      case frameType.settings:
        return this.#takeSettings(frame);
      case frameType.ping:
        return this.#takePing(frame);
      case frameType.goaway:
        return this.#takeGoaway(frame);
      case frameType.priority:
        return checkPriority(frame);
      default:
    }
  }

  #takeData({ streamId, flags, payload }: Frame): void {
    const size = payload.length;
    if (!this.#window.take(size))
      throw new ConnectionError(
        errorCode.flowControlError,
        'Expected no more than the window of the connection',
      );
    this.#widen(this.#window.credit(size));
    const data = unpadded(payload, flags);
    const stream = this.streams.get(streamId);
    if (stream === undefined && this.wasReset(streamId)) return;
    if (stream === undefined || stream.remoteEnded) return this.refuse(streamId, errorCode.streamClosed);
    if (!stream.received(size)) return this.refuse(streamId, errorCode.flowControlError);
    if (data.length < size) stream.credit(size - data.length);
    const isEnd = (flags & frameFlag.endStream) !== 0;
    if (isEnd) stream.endRemote();
    stream.listener.onData(data, isEnd);
    if (isEnd) stream.settle();
  }

  #takeHeaders(headers: Headers | undefined): void {
    if (headers === undefined) return;
    const stream = this.streams.get(headers.streamId);
    if (stream === undefined) this.takeNew(headers);
    else this.#takeFields(stream, headers);
  }

  #takeFields(stream: Http2Stream, { fields, isEnd }: Headers): void {
    if (stream.remoteEnded) return this.refuse(stream.id, errorCode.streamClosed);
    if (fields === undefined) return this.refuse(stream.id, errorCode.enhanceYourCalm);
    const isInterim = !this.isServer && fields[0] === ':status' && fields[1]!.startsWith('1');
    if (isInterim) return isEnd ? this.refuse(stream.id, errorCode.protocolError) : undefined;
    // The second headers of a client are trailers.
    if (this.isServer && !isEnd) return this.refuse(stream.id, errorCode.protocolError);
    if (isEnd) stream.endRemote();
    stream.listener.onHeaders(fields, isEnd);
    if (isEnd) stream.settle();
  }

  /** A frame that its stream does not permit: the stream ends, or the connection when there never was such a stream. */
  protected refuse(streamId: number, code: number): void {
    this.#expectOpened(streamId);
    const stream = this.streams.get(streamId);
    this.sendReset(streamId, code);
    this.expectReader();
    stream?.lost(code);
  }

  /** This side has ended the stream, and what comes of it may have been sent before the other side knew. */
  protected wasReset(streamId: number): boolean {
    return this.#resets.has(streamId);
  }

  /** Many streams wait for one who does not read. */
  protected get isStuck(): boolean {
    return !this.outbox.hasRoom && this.#heldBack.isFull;
  }

  /** @throws ConnectionError for a stream that nobody has opened. */
  #expectOpened(streamId: number): void {
    if (streamId % 2 === 0 || streamId > this.lastId)
      throw protocolError(`Expected a frame of a stream that was opened, got stream ${streamId}`);
  }

  #takeReset({ streamId, payload }: Frame): void {
    this.#expectOpened(streamId);
    this.streams.get(streamId)?.lost(payload.readUInt32BE(0));
  }

  #takeWindowUpdate({ streamId, payload }: Frame): void {
    const bytes = payload.readUInt32BE(0) & windowBytesMax;
    if (streamId === 0) {
      if (bytes === 0) throw protocolError('Expected a window that gets wider, got a step of 0');
      this.sendWindow += bytes;
      if (this.sendWindow > windowBytesMax) throw tooWide();
    } else {
      this.#expectOpened(streamId);
      const stream = this.streams.get(streamId);
      if (stream === undefined) return;
      if (bytes === 0) return this.refuse(streamId, errorCode.protocolError);
      if (!stream.widen(bytes)) return this.refuse(streamId, errorCode.flowControlError);
      if (stream.isHeldBack) this.#heldBack.add(stream);
    }
    if (!this.#heldBack.isEmpty) this.outbox.schedule();
  }

  #takeSettings({ flags, payload }: Frame): void {
    if ((flags & frameFlag.ack) !== 0) return;
    let window: number | undefined;
    for (const [id, value] of decodeSettings(payload)) {
      if (id === setting.initialWindowSize) window = value;
      else this.set(id, value);
    }
    // Once for all: a frame can name it some thousand times, and each time is work for every stream.
    if (window !== undefined) this.#setPeerWindow(window);
    this.outbox.frame(frameType.settings, frameFlag.ack, 0, Buffer.alloc(0));
    this.expectReader();
    this.roomForStreams();
    if (this.#ready) return;
    this.#ready = true;
    this.#options.onReady?.();
  }

  #setPeerWindow(bytes: number): void {
    const more = bytes - this.peerWindow;
    this.peerWindow = bytes;
    for (const stream of this.streams.values()) {
      if (!stream.widen(more)) throw tooWide();
      if (stream.isHeldBack) this.holdBack(stream);
    }
  }

  #takePing({ flags, payload }: Frame): void {
    if ((flags & frameFlag.ack) !== 0) return this.#pings.shift()?.();
    this.outbox.frame(frameType.ping, frameFlag.ack, 0, payload);
    this.expectReader();
  }

  /** What was answered already is still on its way, even when the other side has met an error. */
  #takeGoaway({ payload }: Frame): void {
    const goaway = decodeGoaway(payload);
    this.leaving = true;
    this.#peerError ??= goawayError(goaway);
    if (!this.isServer) {
      // The server has not looked at these, and never will.
      this.loseOthers();
      for (const [id, stream] of this.streams) if (id > goaway.lastId) stream.lost(errorCode.refusedStream);
    }
    this.#options.onGoaway?.();
    if (this.#peerError !== undefined) this.#endInTime();
    this.endIfIdle();
  }

  /** @throws ConnectionError when the other side makes us answer and does not read. */
  protected expectReader(): void {
    if (this.outbox.pendingBytes > unreadBytesMax)
      throw new LimitError('unread', 'Expected answers to be read, got more to answer');
  }

  protected sendGoaway(lastId: number, code: number, text: string): void {
    this.outbox.frame(frameType.goaway, 0, 0, encodeGoaway({ lastId, code, text }));
  }

  protected endIfIdle(): void {
    if (!this.leaving || this.streamCount > 0 || this.#closed || !this.mayClose) return;
    this.outbox.flush();
    // What was said last may take its time to leave.
    this.#socket.end(() => this.#endInTime());
  }

  /** The other side closes now, or it is done for it. */
  #endInTime(): void {
    if (!this.#closed) this.#ending ??= setTimeout(() => this.destroy(), endingMsMax);
  }

  /** Tells the other side why the connection ends. */
  fail(error: ConnectionError): void {
    if (this.isOver) return;
    this.#error = error;
    // A server opens no streams.
    this.sendGoaway(this.isServer ? this.lastId : 0, error.code, error.message);
    this.outbox.flush();
    this.#socket.end();
    this.#endInTime();
    this.#loseStreams();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#ending);
    this.#loseStreams();
    this.#options.onClose?.(this.#error ?? this.#peerError);
  }

  #loseStreams(): void {
    this.loseOthers();
    for (const stream of this.streams.values()) this.#guard(() => stream.lost(undefined));
  }
}
