// What leaves over a socket: frames are gathered and written once a turn of the event loop, so that the answers of a turn share a
// system call. Used by connection.ts and stream.ts.

import type { Duplex } from 'node:stream';
import { frameFlag, frameHeadBytes, frameType, payloadBytesMax, writeFrameHead } from './frame.ts';

/** Payloads up to this size are copied beside their heads; larger ones are written from where they are. */
const copiedBytesMax = 4_096;
/** Frames are put together in pieces of this size. */
const slabBytes = 65_536;
/** Bytes that may wait for the system before streams keep theirs back. */
const pendingBytesMax = 262_144;

/** The frames on their way to a socket, in the order in which they are given. */
export class Outbox {
  readonly #socket: Duplex;
  readonly #onRoom: () => void;
  #slab = Buffer.allocUnsafeSlow(slabBytes);
  /** Of the slab: given before, put together now. */
  #given = 0;
  #end = 0;
  /** Before what the slab has. */
  #pieces: Buffer[] = [];
  #bytes = 0;
  #scheduled: NodeJS.Immediate | undefined;
  readonly #flush = () => this.flush();

  /** `onRoom`: called before each write, and when the system takes more again: whoever waits gives what there is room for. */
  constructor(socket: Duplex, onRoom: () => void) {
    this.#socket = socket;
    this.#onRoom = onRoom;
    socket.on('drain', onRoom);
  }

  /** False: whoever can wait should, until `onRoom`. */
  get hasRoom(): boolean {
    return this.pendingBytes < pendingBytesMax;
  }

  /** Bytes that the system has not taken. */
  get pendingBytes(): number {
    return this.#bytes + this.#socket.writableLength;
  }

  /** One frame; `prefix` and `payload` together at most `payloadBytesMax`. They must not change any more. */
  frame(type: number, flags: number, streamId: number, payload: Buffer, prefix?: Buffer): void {
    const prefixBytes = prefix === undefined ? 0 : prefix.length;
    const length = prefixBytes + payload.length;
    const isCopied = payload.length <= copiedBytesMax;
    const room = frameHeadBytes + prefixBytes + (isCopied ? payload.length : 0);
    if (slabBytes - this.#end < room) this.#newSlab();
    let at = writeFrameHead(this.#slab, this.#end, { length, type, flags, streamId });
    if (prefix !== undefined) at += prefix.copy(this.#slab, at);
    if (isCopied) {
      this.#end = at + payload.copy(this.#slab, at);
    } else {
      this.#end = at;
      this.#cut();
      this.#pieces.push(payload);
    }
    this.#bytes += frameHeadBytes + length;
    this.schedule();
  }

  /** A header block in as many frames as it needs. */
  headers(streamId: number, block: Buffer, endFlag: number): void {
    const { endHeaders } = frameFlag;
    if (block.length <= payloadBytesMax) {
      this.frame(frameType.headers, endFlag | endHeaders, streamId, block);
      return;
    }
    for (let at = 0; at < block.length; at += payloadBytesMax) {
      const piece = block.subarray(at, at + payloadBytesMax);
      const flags = (at === 0 ? endFlag : 0) | (at + payloadBytesMax >= block.length ? endHeaders : 0);
      this.frame(at === 0 ? frameType.headers : frameType.continuation, flags, streamId, piece);
    }
  }

  /** Bytes that are no frame: the preface. */
  raw(bytes: Buffer): void {
    this.#cut();
    this.#pieces.push(bytes);
    this.#bytes += bytes.length;
    this.schedule();
  }

  /** Writes at the end of this turn; somebody waits for room, maybe. */
  schedule(): void {
    this.#scheduled ??= setImmediate(this.#flush);
  }

  /** Hands everything to the socket now. */
  flush(): void {
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    this.#onRoom();
    this.#cut();
    const pieces = this.#pieces;
    if (pieces.length === 0) return;
    this.#pieces = [];
    this.#bytes = 0;
    const socket = this.#socket;
    if (!socket.writable) return;
    if (pieces.length > 1) socket.cork();
    for (const piece of pieces) socket.write(piece);
    if (pieces.length > 1) socket.uncork();
  }

  #newSlab(): void {
    this.#cut();
    this.#slab = Buffer.allocUnsafeSlow(slabBytes);
    this.#given = 0;
    this.#end = 0;
  }

  /** Ends the piece that is being put together. */
  #cut(): void {
    if (this.#end === this.#given) return;
    this.#pieces.push(this.#slab.subarray(this.#given, this.#end));
    this.#given = this.#end;
  }
}
