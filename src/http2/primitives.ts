// What header blocks are made of (RFC 7541, 5 and 6): integers that share their first byte with a pattern, and strings.
// A reader and a writer live as long as one block. Strings are copies: none keeps the bytes that it was read from.

import { HpackError } from './hpack-error.ts';
import { decodeHuffman } from './huffman.ts';

/** How a first byte says what follows: its high bits, and the low bits left to an integer. */
export interface Representation {
  readonly pattern: number;
  readonly prefixBits: number;
}

export const indexed: Representation = { pattern: 0x80, prefixBits: 7 };
export const literalWithIndexing: Representation = { pattern: 0x40, prefixBits: 6 };
export const tableSizeUpdate: Representation = { pattern: 0x20, prefixBits: 5 };
/** Without indexing; 0x10, never indexed, is read in the same way. */
export const literal: Representation = { pattern: 0x00, prefixBits: 4 };

const plainString: Representation = { pattern: 0x00, prefixBits: 7 };
const huffmanFlag = 0x80;

/** The RFC leaves the bounds to us: nothing in a header is longer, and all that is allowed stays exact. */
const integerMax = 2 ** 31;
const continuationBytesMax = 5;

/** An integer has no more bytes when it is written: the prefix and its continuation. */
const integerBytesMax = 1 + continuationBytesMax;

/** The most bytes that a field takes in a block: its strings, their lengths, and what it is. */
export function fieldBytesMax(name: string, value: string): number {
  return 1 + 2 * integerBytesMax + name.length + value.length;
}

/** The most bytes that a size update takes in a block. */
export const tableSizeUpdateBytesMax = integerBytesMax;

/** Reads a header block from its first byte to its last. */
export class BlockReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** The next byte, which is read again by what follows; undefined at the end. */
  peek(): number | undefined {
    return this.#bytes[this.#at];
  }

  /**
   * An integer whose first `prefixBits` bits are the low ones of the next byte (RFC 7541, 5.1); from 0 to 2^31.
   * @throws HpackError when it is larger, has more than five further bytes or goes beyond the block
   */
  integer(prefixBits: number): number {
    const prefixMax = (1 << prefixBits) - 1;
    const prefix = this.#byte() & prefixMax;
    return prefix < prefixMax ? prefix : this.#continued(prefix);
  }

  #continued(prefix: number): number {
    let value = prefix;
    let weight = 1;
    for (let count = 0; count < continuationBytesMax; count++) {
      const byte = this.#byte();
      value += (byte & 0x7f) * weight;
      weight *= 0x80;
      if (byte >= 0x80) continue;
      if (value > integerMax) throw new HpackError(`Expected an integer up to ${integerMax}, got ${value}`);
      return value;
    }
    throw new HpackError(`Expected an integer of at most ${continuationBytesMax} further bytes, got more`);
  }

  /**
   * A string (RFC 7541, 5.2), one character (U+0000 to U+00FF) per byte.
   * @throws HpackError when it goes beyond the block, or its Huffman code is broken
   */
  string(): string {
    const isHuffman = (this.peek() ?? 0) >= huffmanFlag;
    const length = this.integer(plainString.prefixBits);
    const start = this.#at;
    const end = start + length;
    if (end > this.#bytes.length)
      throw new HpackError(`Expected a string of ${length} bytes, got ${this.#bytes.length - start}`);
    this.#at = end;
    return isHuffman ? decodeHuffman(this.#bytes, start, end) : this.#bytes.toString('latin1', start, end);
  }

  #byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new HpackError('Expected another byte, got the end of the header block');
    return byte;
  }
}

/** Writes a header block of at most as many bytes as it is told at first. Strings are written as they are, without Huffman. */
export class BlockWriter {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytesMax: number) {
    this.#bytes = Buffer.allocUnsafe(bytesMax);
  }

  /** `value`: from 0 to 2^31. */
  integer({ pattern, prefixBits }: Representation, value: number): void {
    const prefixMax = (1 << prefixBits) - 1;
    if (value < prefixMax) {
      this.#bytes[this.#at++] = pattern | value;
      return;
    }
    this.#bytes[this.#at++] = pattern | prefixMax;
    let rest = value - prefixMax;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#bytes[this.#at++] = 0x80 | (rest & 0x7f);
    this.#bytes[this.#at++] = rest;
  }

  /** One byte per character, U+0000 to U+00FF. */
  string(text: string): void {
    this.integer(plainString, text.length);
    // Few characters are written faster here than by a call out of JavaScript.
    if (text.length > 24) this.#at += this.#bytes.write(text, this.#at, 'latin1');
    else for (let index = 0; index < text.length; index++) this.#bytes[this.#at++] = text.charCodeAt(index);
  }

  /** What has been written elsewhere. */
  copy(block: Buffer): void {
    this.#bytes.set(block, this.#at);
    this.#at += block.length;
  }

  /** What was written, without a copy; the writer is not used any more. */
  end(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }
}
