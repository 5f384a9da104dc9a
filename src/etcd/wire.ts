// Protobuf's wire format: one reader and one writer over Buffers, for codec/. Own and small because the two hot paths
// (a page of 500 pairs, an event to many watches) want int64 as bigint, `bytes` as views without a copy, and nothing
// reflected; protobufjs does int64 through objects or strings. Fields of proto3 that hold their default are not written.

const wireVarint = 0;
const wireFixed64 = 1;
const wireBytes = 2;
const wireFixed32 = 5;

const two7 = 0x80;
const two32 = 0x1_0000_0000;
const varintBytesMax = 10;
const fieldNumberMax = 0x1fff_ffff;
const writerBytesMin = 64;

/** The bytes are not the message they should be. */
export class MalformedMessageError extends Error {
  override readonly name = 'MalformedMessageError';
}

/**
 * Reads one message. `while ((field = reader.next()) !== 0) switch (field)`; a field not read or skipped is an error of
 * the caller. Buffers it returns are views into the input and keep it alive.
 */
export class WireReader {
  readonly #bytes: Buffer;
  #at = 0;
  #end: number;
  #wire = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#end = bytes.length;
  }

  /** The number of the next field, 0 at the end of the message. */
  next(): number {
    if (this.#at >= this.#end) return 0;
    const tag = this.#varint();
    const field = Math.floor(tag / 8);
    if (field === 0 || field > fieldNumberMax) throw malformed(`a field number from 1`, field);
    this.#wire = tag % 8;
    return field;
  }

  /** Steps over the current field, whatever it holds. */
  skip(): void {
    switch (this.#wire) {
      case wireVarint:
        this.#skipVarint();
        return;
      case wireFixed64:
        this.#advance(8);
        return;
      case wireBytes:
        this.#advance(this.#varint());
        return;
      case wireFixed32:
        this.#advance(4);
        return;
      default:
        // Groups (3 and 4) do not occur in proto3.
        throw malformed('wire type 0, 1, 2 or 5', this.#wire);
    }
  }

  /** A `bytes` field: a view, not a copy. */
  bytes(): Buffer {
    this.#expect(wireBytes);
    const length = this.#varint();
    const start = this.#at;
    this.#advance(length);
    return this.#bytes.subarray(start, this.#at);
  }

  string(): string {
    this.#expect(wireBytes);
    const length = this.#varint();
    const start = this.#at;
    this.#advance(length);
    return this.#bytes.toString('utf8', start, this.#at);
  }

  bool(): boolean {
    this.#expect(wireVarint);
    return this.#bigVarint() !== 0n;
  }

  int64(): bigint {
    this.#expect(wireVarint);
    const value = this.#bigVarint();
    return value < 0x8000_0000_0000_0000n ? value : value - 0x1_0000_0000_0000_0000n;
  }

  uint64(): bigint {
    this.#expect(wireVarint);
    return this.#bigVarint();
  }

  /** An int64 that the vocabulary keeps as a number (limits, counts, sizes); beyond 2^53 it loses precision. */
  count(): number {
    return Number(this.int64());
  }

  /** An enum's number; values this release does not know come through. */
  enum(): number {
    return Number(BigInt.asIntN(32, this.int64()));
  }

  /** A repeated enum, packed or not: hands each value to `visit`. */
  enums(visit: (value: number) => void): void {
    if (this.#wire !== wireBytes) return visit(this.enum());
    const packed = new WireReader(this.bytes());
    packed.#wire = wireVarint;
    while (packed.#at < packed.#end) visit(packed.enum());
  }

  /** Reads an embedded message in place: `decode` sees only its bytes. */
  message<T>(decode: (reader: WireReader) => T): T {
    this.#expect(wireBytes);
    const length = this.#varint();
    const outer = this.#end;
    const end = this.#at + length;
    if (end > outer) throw malformed(`${length} more bytes`, outer - this.#at);
    this.#end = end;
    const value = decode(this);
    this.#end = outer;
    return value;
  }

  #expect(wire: number): void {
    if (this.#wire !== wire) throw malformed(`wire type ${wire}`, this.#wire);
  }

  #advance(length: number): void {
    if (length > this.#end - this.#at) throw malformed(`${length} more bytes`, this.#end - this.#at);
    this.#at += length;
  }

  #byte(): number {
    if (this.#at >= this.#end) throw malformed('one more byte', 0);
    return this.#bytes[this.#at++]!;
  }

  /** A tag or length: at most 32 bits, so number arithmetic is enough. */
  #varint(): number {
    let byte = this.#byte();
    if (byte < two7) return byte;
    let value = byte - two7;
    for (let scale = two7, count = 1; count < 5; scale *= two7, count++) {
      byte = this.#byte();
      if (byte < two7) return value + byte * scale;
      value += (byte - two7) * scale;
    }
    throw malformed('a tag or length of at most 5 bytes', 'more');
  }

  #bigVarint(): bigint {
    let value = 0;
    // Seven groups of 7 bits fit a double exactly; nearly every revision and id of a counter does.
    for (let scale = 1, count = 0; count < 7; scale *= two7, count++) {
      const byte = this.#byte();
      if (byte < two7) return BigInt(value + byte * scale);
      value += (byte - two7) * scale;
    }
    let high = 0;
    for (let scale = 1, count = 7; count < varintBytesMax; scale *= two7, count++) {
      const byte = this.#byte();
      high += (byte % two7) * scale;
      if (byte < two7) return BigInt.asUintN(64, BigInt(value) + (BigInt(high) << 49n));
    }
    throw malformed(`a varint of at most ${varintBytesMax} bytes`, 'more');
  }

  #skipVarint(): void {
    for (let count = 0; count < varintBytesMax; count++) if (this.#byte() < two7) return;
    throw malformed(`a varint of at most ${varintBytesMax} bytes`, 'more');
  }
}

function malformed(expected: string, got: number | string): MalformedMessageError {
  return new MalformedMessageError(`Expected ${expected}, got ${got}`);
}

/** Writes one message front to back into a buffer that grows. Methods take the field number; defaults are left out. */
export class WireWriter {
  #bytes: Buffer;
  #at = 0;

  /** `sizeHint`: bytes expected; a good guess saves copies. */
  constructor(sizeHint = writerBytesMin) {
    this.#bytes = Buffer.allocUnsafe(Math.max(sizeHint, writerBytesMin));
  }

  /** What was written. The writer must not be used afterwards. */
  finish(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }

  bytes(field: number, value: Buffer): void {
    if (value.length > 0) this.element(field, value);
  }

  /** A `bytes` or message field that is written even when empty: one of a repeated field, a member of a oneof. */
  element(field: number, value: Buffer): void {
    this.#reserve(value.length + 20);
    this.#varint(field * 8 + wireBytes);
    this.#varint(value.length);
    value.copy(this.#bytes, this.#at);
    this.#at += value.length;
  }

  string(field: number, value: string): void {
    if (value !== '') this.element(field, Buffer.from(value, 'utf8'));
  }

  bool(field: number, value: boolean): void {
    if (value) this.count(field, 1);
  }

  int64(field: number, value: bigint): void {
    if (value !== 0n) this.presentInt64(field, value);
  }

  /** An int64 or uint64 that is written even when 0: a member of a oneof. */
  presentInt64(field: number, value: bigint): void {
    this.#reserve(20);
    this.#varint(field * 8 + wireVarint);
    if (value >= 0n && value <= 0x1f_ffff_ffff_ffffn) this.#varint(Number(value));
    else this.#bigVarint(BigInt.asUintN(64, value));
  }

  /** An int64 kept as a number, or an enum. */
  count(field: number, value: number): void {
    if (value === 0) return;
    if (value < 0 || value > Number.MAX_SAFE_INTEGER) return this.presentInt64(field, BigInt(value));
    this.#reserve(20);
    this.#varint(field * 8 + wireVarint);
    this.#varint(value);
  }

  /** A fixed64, written even when 0. */
  fixed64(field: number, value: bigint): void {
    this.#reserve(20);
    this.#varint(field * 8 + wireFixed64);
    this.#bytes.writeBigUInt64LE(value, this.#at);
    this.#at += 8;
  }

  /** A fixed32, written even when 0. */
  fixed32(field: number, value: number): void {
    this.#reserve(20);
    this.#varint(field * 8 + wireFixed32);
    this.#bytes.writeUInt32LE(value, this.#at);
    this.#at += 4;
  }

  /** An embedded message, written even when empty. `write` writes its fields to this writer. */
  message<T>(field: number, value: T, write: (writer: WireWriter, value: T) => void): void {
    this.#reserve(20);
    this.#varint(field * 8 + wireBytes);
    // One byte is kept for the length; a longer one moves the body, which is cheaper than measuring it first.
    const lengthAt = this.#at++;
    write(this, value);
    const length = this.#at - lengthAt - 1;
    if (length < two7) {
      this.#bytes[lengthAt] = length;
      return;
    }
    const extra = varintLength(length) - 1;
    this.#reserve(extra);
    this.#bytes.copyWithin(lengthAt + 1 + extra, lengthAt + 1, this.#at);
    const end = this.#at + extra;
    this.#at = lengthAt;
    this.#varint(length);
    this.#at = end;
  }

  #reserve(more: number): void {
    const needed = this.#at + more;
    if (needed <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(grown, 0, 0, this.#at);
    this.#bytes = grown;
  }

  /** A non-negative safe integer; the room has been reserved. */
  #varint(value: number): void {
    const bytes = this.#bytes;
    let rest = value;
    while (rest >= two32) {
      bytes[this.#at++] = (rest % two7) + two7;
      rest = Math.floor(rest / two7);
    }
    while (rest >= two7) {
      bytes[this.#at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    bytes[this.#at++] = rest;
  }

  #bigVarint(value: bigint): void {
    let rest = value;
    while (rest >= 0x80n) {
      this.#bytes[this.#at++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.#bytes[this.#at++] = Number(rest);
  }
}

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= two7; rest = Math.floor(rest / two7)) length++;
  return length;
}

/** The bytes of one message; `sizeHint` as for WireWriter. */
export function encode<T>(
  value: T,
  write: (writer: WireWriter, value: T) => void,
  sizeHint?: number,
): Buffer {
  const writer = new WireWriter(sizeHint);
  write(writer, value);
  return writer.finish();
}
