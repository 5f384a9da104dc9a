// Rows on their way between the threads of SQLite: packed into one block of bytes that changes hands, for a clone of every
// value costs more than SQLite does. Used by sqlite.ts and sqlite-worker.ts. A row is its length, then for each column a
// tag and what it takes; numbers are little-endian.

import type { Row, SqlValue } from './dialect.ts';
import type { WireValue } from './sqlite-wire.ts';

const tag = { null: 0, int64: 1, double: 2, text: 3, bytes: 4 } as const;
const lengthBytes = 4;
const numberBytes = 8;

/** Bytes of a column, its tag included. */
function sizeOf(value: WireValue): number {
  if (value === null) return 1;
  if (typeof value === 'bigint' || typeof value === 'number') return 1 + numberBytes;
  const length = typeof value === 'string' ? Buffer.byteLength(value) : value.byteLength;
  return 1 + lengthBytes + length;
}

function pack(into: Buffer, start: number, value: WireValue): number {
  const at = start + 1;
  if (value === null) {
    into[start] = tag.null;
    return at;
  }
  if (typeof value === 'bigint') {
    into[start] = tag.int64;
    return into.writeBigInt64LE(value, at);
  }
  if (typeof value === 'number') {
    into[start] = tag.double;
    return into.writeDoubleLE(value, at);
  }
  if (typeof value === 'string') {
    into[start] = tag.text;
    const length = into.write(value, at + lengthBytes);
    return into.writeUInt32LE(length, at) + length;
  }
  into[start] = tag.bytes;
  into.set(value, into.writeUInt32LE(value.byteLength, at));
  return at + lengthBytes + value.byteLength;
}

/** Kept from one result to the next, and as large as one may be that is copied rather than given away. */
const scratchBytes = 256 * 1024;
let scratch = new Uint8Array(scratchBytes);

/** Makes room for `bytes` behind the first `used` ones. */
function grow(into: Buffer<ArrayBuffer>, used: number, bytes: number): Buffer<ArrayBuffer> {
  if (used + bytes <= into.length) return into;
  scratch = new Uint8Array(scratch.buffer.transfer(Math.max(2 * into.length, used + bytes)));
  return Buffer.from(scratch.buffer);
}

/**
 * Rows of one result, each packed before the next one is asked for: a result of any size needs no heap. The block is all of its
 * memory, so that it can change hands.
 */
export function packRows(rows: Iterable<readonly WireValue[]>): Uint8Array<ArrayBuffer> {
  let into = Buffer.from(scratch.buffer);
  let at = 0;
  for (const row of rows) {
    const size = row.reduce<number>((sum, value) => sum + sizeOf(value), 0);
    into = grow(into, at, lengthBytes + size);
    at = into.writeUInt32LE(size, at);
    for (const value of row) at = pack(into, at, value);
  }
  if (scratch.length <= scratchBytes) return new Uint8Array(scratch.buffer.slice(0, at));
  const block = new Uint8Array(scratch.buffer.transfer(at));
  scratch = new Uint8Array(scratchBytes);
  return block;
}

/** What `packRows` has packed, as rows that share no memory. */
export function unpackRows(columns: readonly string[], block: Uint8Array): Row[] {
  const from = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
  const rows: Row[] = [];
  for (let at = 0; at < from.length;) {
    const start = at + lengthBytes;
    at = start + from.readUInt32LE(at);
    rows.push(unpackRow(columns, Buffer.from(from.subarray(start, at))));
  }
  return rows;
}

function unpackRow(columns: readonly string[], body: Buffer): Row {
  const row: Record<string, SqlValue> = {};
  let at = 0;
  for (const column of columns) {
    const kind = body[at++];
    if (kind === tag.null) row[column] = null;
    else if (kind === tag.int64 || kind === tag.double) {
      row[column] = kind === tag.int64 ? body.readBigInt64LE(at) : body.readDoubleLE(at);
      at += numberBytes;
    } else {
      const start = at + lengthBytes;
      at = start + body.readUInt32LE(at);
      row[column] = kind === tag.text ? body.toString('utf8', start, at) : body.subarray(start, at);
    }
  }
  return row;
}
