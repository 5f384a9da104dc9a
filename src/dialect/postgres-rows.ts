// Rows of Postgres in the protocol's binary form, which the pg package asks for but cannot read: it takes every column for text.
// Used by postgres.ts and postgres-client.ts. As text, a value of bytes is twice as long and is turned over three times. Own here
// are the message of a row and what a query makes of it; every other message stays the package's. Its parts that are
// replaced are not in its types, so its release is pinned.

import { EventEmitter } from 'node:events';
import pg from 'pg';
import { SqlFault, type QueryResult, type Row, type SqlValue } from './dialect.ts';

// Messages

const rowCode = 'D'.charCodeAt(0);
/** A code, and a length that counts itself. */
const headBytes = 5;

/** A row as it came. The package's own queries ask for `fields`, those of this file never. */
class DataRow {
  readonly name = 'dataRow';
  readonly body: Buffer;

  constructor(body: Buffer) {
    this.body = body;
  }

  get fields(): (string | null)[] {
    const fields: (string | null)[] = [];
    eachColumn(this.body, (start, end) => {
      fields.push(start < 0 ? null : this.body.toString('utf8', start, end));
    });
    return fields;
  }
}

/** Calls `visit` with where each column begins and ends; start -1 stands for NULL. */
function eachColumn(body: Buffer, visit: (start: number, end: number, index: number) => void): void {
  const count = body.readInt16BE(0);
  let at = 2;
  for (let index = 0; index < count; index++) {
    const length = body.readInt32BE(at);
    at += 4;
    if (length < 0) visit(-1, -1, index);
    else visit(at, (at += length), index);
  }
}

/** Cuts the server's bytes into messages: rows one by one, what lies between them in one piece. */
export class MessageCutter {
  readonly #onRow: (body: Buffer) => void;
  readonly #onOthers: (bytes: Buffer) => void;
  /** The beginning of a message, and how many bytes it takes at least to go on. */
  #parts: Buffer[] = [];
  #size = 0;
  #needed = 0;

  /** What they are given is theirs only for the length of the call. */
  constructor(to: { readonly onRow: (body: Buffer) => void; readonly onOthers: (bytes: Buffer) => void }) {
    this.#onRow = to.onRow;
    this.#onOthers = to.onOthers;
  }

  push(chunk: Buffer): void {
    this.#parts.push(chunk);
    this.#size += chunk.length;
    if (this.#size < this.#needed) return;
    const bytes = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts, this.#size);
    const end = this.#cut(bytes);
    this.#size = bytes.length - end;
    this.#parts = this.#size === 0 ? [] : [bytes.subarray(end)];
  }

  /** Hands over the whole messages in `bytes`; where the last one ends. */
  #cut(bytes: Buffer): number {
    let at = 0;
    let othersFrom = 0;
    for (;;) {
      this.#needed = headBytes;
      if (bytes.length - at < headBytes) break;
      const next = at + 1 + bytes.readUInt32BE(at + 1);
      this.#needed = next - at;
      if (next > bytes.length) break;
      if (bytes[at] === rowCode) {
        if (at > othersFrom) this.#onOthers(bytes.subarray(othersFrom, at));
        this.#onRow(bytes.subarray(at + headBytes, next));
        othersFrom = next;
      }
      at = next;
    }
    if (at > othersFrom) this.#onOthers(bytes.subarray(othersFrom, at));
    return at;
  }
}

const packaged = pg.Connection.prototype as unknown as {
  readonly attachListeners: (this: pg.Connection, stream: EventEmitter) => void;
};

/** A connection that takes rows as bytes. */
export class RowConnection extends pg.Connection {
  /** Called by the package when the stream is there, and again when it has become TLS. */
  attachListeners(stream: EventEmitter): void {
    const others = new EventEmitter();
    packaged.attachListeners.call(this, others);
    const cutter = new MessageCutter({
      onRow: (body) => this.emit('dataRow', new DataRow(body)),
      onOthers: (bytes) => others.emit('data', bytes),
    });
    stream.on('data', (chunk: Buffer) => cutter.push(chunk));
    stream.on('end', () => others.emit('end'));
  }
}

// Columns

type Decode = (body: Buffer, start: number, end: number) => SqlValue;

const asText: Decode = (body, start, end) => body.toString('utf8', start, end);

/** Base 10,000, the highest digit first, its weight counted from the point; an integer becomes bigint. */
const numeric: Decode = (body, start) => {
  const count = body.readInt16BE(start);
  const weight = body.readInt16BE(start + 2);
  const isNegative = body.readUInt16BE(start + 4) === 0x4000;
  if (count > weight + 1) throw new SqlFault('other', 'Expected a number without a fraction, got one with');
  let value = 0n;
  for (let index = 0; index <= weight; index++) {
    const digit = index < count ? body.readInt16BE(start + 8 + index * 2) : 0;
    value = value * 10_000n + BigInt(digit);
  }
  return isNegative ? -value : value;
};

const decoders = new Map<number, Decode>([
  [16, (body, start) => (body[start] === 0 ? 0n : 1n)],
  [17, (body, start, end) => body.subarray(start, end)],
  [18, asText],
  [19, asText],
  [20, (body, start) => body.readBigInt64BE(start)],
  [21, (body, start) => BigInt(body.readInt16BE(start))],
  [23, (body, start) => BigInt(body.readInt32BE(start))],
  [25, asText],
  [26, (body, start) => BigInt(body.readUInt32BE(start))],
  [700, (body, start) => body.readFloatBE(start)],
  [701, (body, start) => body.readDoubleBE(start)],
  [705, asText],
  [1042, asText],
  [1043, asText],
  [1700, numeric],
  // void
  [2278, () => ''],
]);

interface Column {
  readonly name: string;
  readonly decode: Decode;
}

function columnOf({ name, dataTypeID }: pg.FieldDef): Column {
  const decode = decoders.get(dataTypeID);
  if (decode === undefined)
    throw new SqlFault('other', `Expected a type that the store reads in ${name}, got ${dataTypeID}`);
  return { name, decode };
}

// Queries

/** What the package's Query has beside what its types say. */
interface QueryState {
  _canceledDueToError: unknown;
}

class RowsQuery extends pg.Query {
  readonly found: Row[] = [];
  #columns: readonly Column[] = [];

  handleRowDescription({ fields }: { readonly fields: readonly pg.FieldDef[] }): void {
    this.#attempt(() => {
      this.#columns = fields.map(columnOf);
    });
  }

  handleDataRow({ body }: DataRow): void {
    if ((this as unknown as QueryState)._canceledDueToError) return;
    this.#attempt(() => {
      // A row of its own: what came with it, of this answer or another, is not kept for it.
      const own = Buffer.from(body);
      const row: Record<string, SqlValue> = {};
      eachColumn(own, (start, end, index) => {
        const { name, decode } = this.#columns[index]!;
        row[name] = start < 0 ? null : decode(own, start, end);
      });
      this.found.push(row);
    });
  }

  /** A failure is told when the answer has ended, as the package does with its own. */
  #attempt(work: () => void): void {
    try {
      work();
    } catch (error) {
      (this as unknown as QueryState)._canceledDueToError = error;
    }
  }
}

export interface RowsQueryConfig {
  readonly text: string;
  readonly values: readonly SqlValue[];
  /** Of the prepared statement, where it is one. */
  readonly name: string | undefined;
}

/** Runs one statement on a client over a RowConnection. Rejects with the package's error. */
export function queryRows(client: pg.Client, { text, values, name }: RowsQueryConfig): Promise<QueryResult> {
  return new Promise((resolve, reject) => {
    const config = {
      text,
      values: [...values],
      binary: true,
      // The simple protocol has no binary form.
      queryMode: 'extended',
      ...(name === undefined ? {} : { name }),
    };
    const query = new RowsQuery(config, (error, result) => {
      if (error) return reject(error);
      const affected = result.command === 'SELECT' ? 0 : (result.rowCount ?? 0);
      return resolve({ rows: query.found, affected });
    });
    client.query(query);
  });
}
