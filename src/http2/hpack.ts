// Header compression of HTTP/2 (RFC 7541): header blocks to fields and back. A connection has one decoder and one encoder.
// Both keep a dynamic table that must remain equal to the other side's, so every block that arrives is decoded, in the
// order of arrival, and every block that was encoded is sent, in the order of encoding.

import { DynamicTable, entryOverheadBytes } from './dynamic-table.ts';
import { HpackError } from './hpack-error.ts';
import {
  BlockReader,
  BlockWriter,
  fieldBytesMax,
  indexed,
  literal,
  literalWithIndexing,
  tableSizeUpdate,
  tableSizeUpdateBytesMax,
  type Representation,
} from './primitives.ts';
import { staticNameIndex, staticPairIndex, staticTable, type Entry } from './static-table.ts';

export { HpackError } from './hpack-error.ts';

/**
 * Names and values in turn: name, value, name, value …, in the order of the wire. One character (U+0000 to U+00FF) per
 * byte: bytes above 0x7f are latin1. Whether names and values are permitted in HTTP is not looked at here.
 */
export type HeaderFields = readonly string[];

/** SETTINGS_HEADER_TABLE_SIZE until somebody says otherwise (RFC 9113, 6.5.2). */
const tableBytesAtFirst = 4096;

export interface HeaderDecoderOptions {
  /**
   * SETTINGS_HEADER_TABLE_SIZE as told to the other side: the largest size that it may choose. The table begins with
   * 4096 bytes all the same, or with `tableBytesMax` where that is less: then the other side must know it from the first
   * block on.
   */
  readonly tableBytesMax: number;
  /** SETTINGS_MAX_HEADER_LIST_SIZE: bytes of all names and values, and 32 per field (RFC 9113, 6.5.2). */
  readonly listBytesMax: number;
}

/** Reads the header blocks of one connection. After an HpackError it is not used any more. */
export class HeaderDecoder {
  readonly #tableBytesMax: number;
  readonly #listBytesMax: number;
  readonly #table: DynamicTable;

  constructor({ tableBytesMax, listBytesMax }: HeaderDecoderOptions) {
    this.#tableBytesMax = tableBytesMax;
    this.#listBytesMax = listBytesMax;
    this.#table = new DynamicTable(tableBytesMax);
    this.#table.resize(Math.min(tableBytesMax, tableBytesAtFirst));
  }

  /**
   * The fields of a whole header block, that is, of a HEADERS frame and its CONTINUATIONs. Undefined when the list is
   * larger than `listBytesMax`; the dynamic table is right all the same, so the connection may go on.
   * @throws HpackError for an index without an entry, an integer or string that is too large or cut off, a broken Huffman
   *   code, and a size update after a field or above `tableBytesMax`
   */
  decode(block: Buffer): HeaderFields | undefined {
    const reader = new BlockReader(block);
    const fields: string[] = [];
    let listBytes = 0;
    for (let first = reader.peek(); first !== undefined; first = reader.peek()) {
      if (first >= tableSizeUpdate.pattern && first < literalWithIndexing.pattern) {
        if (listBytes > 0) throw new HpackError('Expected size updates before all fields, got one after');
        this.#updateSize(reader.integer(tableSizeUpdate.prefixBits));
        continue;
      }
      const [name, value] =
        first >= indexed.pattern
          ? this.#entry(reader.integer(indexed.prefixBits))
          : this.#literal(reader, first);
      listBytes += name.length + value.length + entryOverheadBytes;
      if (listBytes <= this.#listBytesMax) fields.push(name, value);
    }
    return listBytes <= this.#listBytesMax ? fields : undefined;
  }

  #literal(reader: BlockReader, first: number): Entry {
    const isKept = first >= literalWithIndexing.pattern;
    const index = reader.integer((isKept ? literalWithIndexing : literal).prefixBits);
    const name = index === 0 ? reader.string() : this.#entry(index)[0];
    const value = reader.string();
    const entry: Entry = [name, value];
    if (isKept) this.#table.insert(entry);
    return entry;
  }

  /** The entry in the address space of both tables (RFC 7541, 2.3.3). */
  #entry(index: number): Entry {
    const entry =
      index <= staticTable.length ? staticTable[index - 1] : this.#table.at(index - staticTable.length - 1);
    if (entry === undefined)
      throw new HpackError(
        `Expected an index from 1 to ${staticTable.length + this.#table.length}, got ${index}`,
      );
    return entry;
  }

  #updateSize(bytes: number): void {
    if (bytes > this.#tableBytesMax)
      throw new HpackError(`Expected a table size up to ${this.#tableBytesMax}, got ${bytes}`);
    this.#table.resize(bytes);
  }
}

/** The block of constant fields, good as long as the table has not changed. */
interface KnownBlock {
  readonly block: Buffer;
  readonly tableChanges: number;
}

const nothing = Buffer.alloc(0);

/** Writes the header blocks of one connection, without Huffman. */
export class HeaderEncoder {
  readonly #table = new DynamicTable(tableBytesAtFirst);
  readonly #known = new WeakMap<HeaderFields, KnownBlock>();
  /** The size that the other side knows of. */
  #bytesSignalled = tableBytesAtFirst;
  /** The smallest of the sizes that it does not know of yet. */
  #bytesLeast: number | undefined;

  /**
   * What the other side permits (its SETTINGS_HEADER_TABLE_SIZE, bytes); at most 4096 are used. A change is signalled at
   * the start of the next block (RFC 7541, 4.2); where it was smaller in between, the table is emptied first.
   */
  setTableSize(bytes: number): void {
    const used = Math.min(bytes, tableBytesAtFirst);
    this.#bytesLeast = Math.min(this.#bytesLeast ?? used, used);
    this.#table.resize(used);
  }

  /**
   * A block of the fields of `constant`, then those of `varying`. The former are put into the dynamic table and are an
   * index from then on; the latter are not, and so belong here if they are different each time. An array given as
   * `constant` must not change later: for the same array the block is not made again while the table is as it was.
   * The block is read only: it may be the one that other calls get too.
   */
  encode(constant: HeaderFields, varying: HeaderFields = []): Buffer {
    const sizeUpdates = this.#sizeUpdates();
    const block = this.#constantBlock(constant);
    if (varying.length === 0 && sizeUpdates.length === 0) return block;
    const writer = new BlockWriter(sizeUpdates.length + block.length + fieldsBytesMax(varying));
    writer.copy(sizeUpdates);
    writer.copy(block);
    for (let at = 0; at < varying.length; at += 2) {
      const entry: Entry = [varying[at]!, varying[at + 1]!];
      writeLiteral(writer, literal, this.#nameIndex(entry[0]), entry);
    }
    return writer.end();
  }

  #sizeUpdates(): Buffer {
    const least = this.#bytesLeast;
    const bytes = this.#table.bytesMax;
    this.#bytesLeast = undefined;
    if (least === undefined || (least === bytes && bytes === this.#bytesSignalled)) return nothing;
    this.#bytesSignalled = bytes;
    const writer = new BlockWriter(2 * tableSizeUpdateBytesMax);
    if (least < bytes) {
      // Zero serves for the smallest size: golang.org/x/net (0.61, http2/hpack/hpack.go) takes a second update only
      // while its table is empty.
      this.#table.resize(0);
      this.#table.resize(bytes);
      writer.integer(tableSizeUpdate, 0);
    }
    writer.integer(tableSizeUpdate, bytes);
    return writer.end();
  }

  #constantBlock(fields: HeaderFields): Buffer {
    const changesBefore = this.#table.changes;
    const known = this.#known.get(fields);
    if (known?.tableChanges === changesBefore) return known.block;
    const writer = new BlockWriter(fieldsBytesMax(fields));
    for (let at = 0; at < fields.length; at += 2) this.#writeConstant(writer, [fields[at]!, fields[at + 1]!]);
    // A block that has put something in means something else when it is sent again.
    if (this.#table.changes !== changesBefore) return writer.end();
    const written = writer.end();
    // A copy without the room that was left: it stays.
    const block = Buffer.alloc(written.length, written);
    this.#known.set(fields, { block, tableChanges: changesBefore });
    return block;
  }

  #writeConstant(writer: BlockWriter, entry: Entry): void {
    const index = staticPairIndex(entry) || tableIndex(this.#table.ageOfPair(entry));
    if (index > 0) {
      writer.integer(indexed, index);
      return;
    }
    const isKept = this.#table.fits(entry);
    writeLiteral(writer, isKept ? literalWithIndexing : literal, this.#nameIndex(entry[0]), entry);
    if (isKept) this.#table.insert(entry);
  }

  #nameIndex(name: string): number {
    return staticNameIndex(name) || tableIndex(this.#table.ageOfName(name));
  }
}

/**
 * Says that the dynamic table has no bytes from now on. Who sends stateless blocks only puts it once before the next of
 * them, when a SETTINGS_HEADER_TABLE_SIZE below 4096 has arrived: the other side may insist on an update (RFC 9113, 4.3.1).
 */
export const noTable: Buffer = Buffer.of(tableSizeUpdate.pattern);

/**
 * A block of `fields` that needs no dynamic table and leaves it alone: indexes of the static table, and literals. So it is
 * good on every connection, as often as wanted; where the other side has asked for a smaller table, after `noTable`.
 */
export function encodeStateless(fields: HeaderFields): Buffer {
  const writer = new BlockWriter(fieldsBytesMax(fields));
  for (let at = 0; at < fields.length; at += 2) {
    const entry: Entry = [fields[at]!, fields[at + 1]!];
    const index = staticPairIndex(entry);
    if (index > 0) writer.integer(indexed, index);
    else writeLiteral(writer, literal, staticNameIndex(entry[0]), entry);
  }
  return writer.end();
}

/** `nameIndex`: 0 where the name must be written. */
function writeLiteral(
  writer: BlockWriter,
  as: Representation,
  nameIndex: number,
  [name, value]: Entry,
): void {
  writer.integer(as, nameIndex);
  if (nameIndex === 0) writer.string(name);
  writer.string(value);
}

/** The index of a dynamic entry (RFC 7541, 2.3.3); 0 where there is none. */
function tableIndex(age: number | undefined): number {
  return age === undefined ? 0 : staticTable.length + 1 + age;
}

function fieldsBytesMax(fields: HeaderFields): number {
  let bytes = 0;
  for (let at = 0; at < fields.length; at += 2) bytes += fieldBytesMax(fields[at]!, fields[at + 1]!);
  return bytes;
}
