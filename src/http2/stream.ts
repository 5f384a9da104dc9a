// One stream of an HTTP/2 connection (RFC 9113, 5): what it may still send and take, and what waits for the other side to take it.
// Used by connection.ts, which feeds it.

import { errorCode, frameFlag, frameType, payloadBytesMax, uint32, windowBytesMax } from './frame.ts';
import type { HeldPart } from '../lib/held-bytes.ts';
import type { HeaderFields } from './hpack.ts';
import type { Outbox } from './outbox.ts';
import { ReceiveWindow } from './receive-window.ts';

/** Whoever uses a stream. Nothing is called after `onReset`, nor after this side has reset the stream. Must not throw. */
export interface StreamListener {
  /** The first headers, those of an interim answer aside, or trailers: with them the other side has said all. */
  onHeaders(fields: HeaderFields, isEnd: boolean): void;
  /** A view of what came over the socket. Give its length back with `credit` once more may come. */
  onData(chunk: Buffer, isEnd: boolean): void;
  /**
   * Over before both sides had said all: the code it was reset with, REFUSED_STREAM where the other side has done nothing about it, or
   * undefined when the connection is lost.
   */
  onReset(code: number | undefined): void;
  /** All that was given has left: time to give more. Only after `isHeldBack` was true, and not after an end was given. */
  onRoom(): void;
}

/** What a stream needs of its connection. */
export interface StreamHost {
  readonly outbox: Outbox;
  /** Bytes that all streams together may still send. */
  sendWindow: number;
  /** The other side opened the stream, so that it learns by a reset that the rest of its request is not wanted. */
  readonly isServer: boolean;
  /** Tells the other side that the stream is over. */
  sendReset(streamId: number, code: number): void;
  /** The block with what has to be said before it. */
  headerBlock(block: Buffer): Buffer;
  /** `stream` has something to send that has to wait. */
  holdBack(stream: Http2Stream): void;
  /** Nothing comes or goes any more. */
  closed(stream: Http2Stream): void;
}

interface Outgoing {
  readonly isHeaders: boolean;
  payload: Buffer;
  prefix: Buffer | undefined;
  readonly isEnd: boolean;
}

export class Http2Stream {
  listener: StreamListener;
  /** Where what waits is counted; to be set before anything does. */
  held: HeldPart | undefined;
  /** Called once when nothing comes or goes any more. */
  onClosed: (() => void) | undefined;
  readonly #host: StreamHost;
  #id = 0;
  #queue: Outgoing[] = [];
  /** Bytes of the queue. */
  #waiting = 0;
  #sendWindow = 0;
  readonly #receiveWindow: ReceiveWindow;
  #localEnded = false;
  #remoteEnded = false;
  #closed = false;
  #lost = false;

  constructor(host: StreamHost, listener: StreamListener, receiveWindowBytes: number) {
    this.#host = host;
    this.listener = listener;
    this.#receiveWindow = new ReceiveWindow(receiveWindowBytes);
  }

  /** 0: not opened yet. */
  get id(): number {
    return this.#id;
  }

  /** The other side has said all. */
  get remoteEnded(): boolean {
    return this.#remoteEnded;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Closed, and not by this side. */
  get isLost(): boolean {
    return this.#lost;
  }

  /** Something that was given has not left; `onRoom` tells when it has. */
  get isHeldBack(): boolean {
    return this.#queue.length > 0;
  }

  /** Sends a header block. After an end or a reset nothing is sent any more. */
  headers(block: Buffer, isEnd: boolean): void {
    if (this.#localEnded || this.#closed) return;
    this.#localEnded = isEnd;
    if (this.#id > 0 && this.#queue.length === 0 && this.#host.outbox.hasRoom)
      this.#sendHeaders(block, isEnd);
    else this.#wait({ isHeaders: true, payload: block, prefix: undefined, isEnd });
  }

  /** Sends `prefix` and `payload`, which must not change any more. After an end or a reset nothing is sent. */
  data(payload: Buffer, isEnd: boolean, prefix?: Buffer): void {
    if (this.#localEnded || this.#closed) return;
    this.#localEnded = isEnd;
    const length = payload.length + (prefix === undefined ? 0 : prefix.length);
    const host = this.#host;
    const fits =
      length <= payloadBytesMax &&
      length <= this.#sendWindow &&
      length <= host.sendWindow &&
      this.#queue.length === 0 &&
      host.outbox.hasRoom;
    if (fits) this.#sendData(payload, isEnd, prefix);
    else this.#wait({ isHeaders: false, payload, prefix, isEnd });
  }

  /** Ends the stream for both sides at once; what waits is dropped. */
  reset(code: number): void {
    if (this.#closed) return;
    if (this.#id > 0) this.#host.sendReset(this.#id, code);
    this.#close();
  }

  /** `bytes` that came are done with: as many more may come. */
  credit(bytes: number): void {
    const step = this.#receiveWindow.credit(bytes);
    if (step === 0 || this.#remoteEnded || this.#closed) return;
    this.#host.outbox.frame(frameType.windowUpdate, 0, this.#id, uint32(step));
  }

  /** The stream begins: from now on things are sent. To be told once. */
  open(id: number, sendWindow: number): void {
    this.#id = id;
    this.#sendWindow = sendWindow;
    if (this.#queue.length > 0) this.#host.holdBack(this);
  }

  /** Sends a frame of what waits; false: it has to wait on. */
  sendSome(): boolean {
    const [first] = this.#queue;
    if (first === undefined) return false;
    if (first.isHeaders) {
      this.#queue.shift();
      this.#left(first.payload.length);
      this.#sendHeaders(first.payload, first.isEnd);
    } else if (!this.#sendPart(first)) return false;
    if (this.#queue.length === 0 && !this.#localEnded && !this.#closed) this.listener.onRoom();
    return true;
  }

  /** Something waits that could go, as far as this stream's own window is concerned. */
  get canSend(): boolean {
    if (this.#queue.length === 0 || this.#id === 0) return false;
    return this.#sendWindow > 0 || !this.needsWindow;
  }

  /** What waits first is data, and takes of the windows. */
  get needsWindow(): boolean {
    const [first] = this.#queue;
    return first !== undefined && !first.isHeaders && lengthOf(first) > 0;
  }

  /** The other side takes `bytes` more, or fewer. False: more than there can be. */
  widen(bytes: number): boolean {
    this.#sendWindow += bytes;
    return this.#sendWindow <= windowBytesMax;
  }

  /** False: more than was permitted. */
  received(bytes: number): boolean {
    return this.#receiveWindow.take(bytes);
  }

  /** The other side has said all; to be told before the listener hears of it. */
  endRemote(): void {
    this.#remoteEnded = true;
  }

  /** Closes the stream when both sides have said all; to be told after the listener has heard of it. */
  settle(): void {
    if (this.#remoteEnded && this.#localEnded && this.#queue.length === 0) this.#close();
  }

  /** The stream is over by the other side, or with its connection. See StreamListener. */
  lost(code: number | undefined): void {
    if (this.#closed) return;
    this.#lost = true;
    this.#close();
    this.listener.onReset(code);
  }

  #wait(outgoing: Outgoing): void {
    const bytes = lengthOf(outgoing);
    this.#waiting += bytes;
    this.held?.add(bytes);
    this.#queue.push(outgoing);
    this.#host.holdBack(this);
  }

  /** So much of what waited waits no more. */
  #left(bytes: number): void {
    this.#waiting -= bytes;
    this.held?.drop(bytes);
  }

  /** As much of data that waits as a frame and the windows take. */
  #sendPart(first: Outgoing): boolean {
    const { payload, prefix, isEnd } = first;
    const most = Math.min(payloadBytesMax, this.#sendWindow, this.#host.sendWindow);
    // An end without data needs no window.
    const length = lengthOf(first);
    if (length <= most || length === 0) {
      this.#queue.shift();
      this.#left(length);
      this.#sendData(payload, isEnd, prefix);
      return true;
    }
    if (most <= 0) return false;
    this.#left(most);
    const prefixBytes = prefix === undefined ? 0 : prefix.length;
    if (prefix !== undefined && most < prefixBytes) {
      first.prefix = prefix.subarray(most);
      this.#sendData(prefix.subarray(0, most), false, undefined);
      return true;
    }
    const cut = most - prefixBytes;
    first.payload = payload.subarray(cut);
    first.prefix = undefined;
    this.#sendData(payload.subarray(0, cut), false, prefix);
    return true;
  }

  #sendHeaders(block: Buffer, isEnd: boolean): void {
    const flags = isEnd ? frameFlag.endStream : 0;
    this.#host.outbox.headers(this.#id, this.#host.headerBlock(block), flags);
    if (isEnd) this.#ended();
  }

  #sendData(payload: Buffer, isEnd: boolean, prefix: Buffer | undefined): void {
    const length = payload.length + (prefix === undefined ? 0 : prefix.length);
    this.#sendWindow -= length;
    this.#host.sendWindow -= length;
    this.#host.outbox.frame(frameType.data, isEnd ? frameFlag.endStream : 0, this.#id, payload, prefix);
    if (isEnd) this.#ended();
  }

  #ended(): void {
    if (this.#remoteEnded) this.#close();
    else if (this.#host.isServer) this.reset(errorCode.noError);
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue = [];
    if (this.#waiting > 0) this.#left(this.#waiting);
    this.#host.closed(this);
    this.onClosed?.();
  }
}

function lengthOf({ payload, prefix }: Outgoing): number {
  return payload.length + (prefix === undefined ? 0 : prefix.length);
}
