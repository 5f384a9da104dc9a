// etcd's messages as tables, with one reader and one writer for all of them. The test has its own, beside the product's codec:
// it must be able to write what no codec writes (numbers outside of an enum, an op of no kind) and must not drop a field that
// a codec does not know.

import { WireReader, WireWriter } from '../../src/etcd/wire.ts';

/**
 * What a field holds. `revision` and `lease` are int64s, `id` is a number of which only whether it is 0 can be compared
 * between two servers; a function gives the table of an embedded message.
 */
export type Kind =
  | 'bytes'
  | 'string'
  | 'bool'
  | 'int'
  | 'enum'
  | 'enums'
  | 'revision'
  | 'lease'
  | 'id'
  | (() => Table);
export interface Table {
  readonly [field: number]: readonly [name: string, kind: Kind, many?: 'many'];
}

export type Value = Buffer | string | boolean | bigint | readonly number[] | Message;
/** A message by its fields' names. Absent: not on the wire, or the default. */
export interface Message {
  [name: string]: Value | Value[];
}

const header: Table = {
  1: ['clusterId', 'id'],
  2: ['memberId', 'id'],
  3: ['revision', 'revision'],
  4: ['raftTerm', 'id'],
};
const keyValue: Table = {
  1: ['key', 'bytes'],
  2: ['createRevision', 'revision'],
  3: ['modRevision', 'revision'],
  4: ['version', 'int'],
  5: ['value', 'bytes'],
  6: ['lease', 'lease'],
};
const event: Table = { 1: ['type', 'enum'], 2: ['kv', () => keyValue], 3: ['prevKv', () => keyValue] };

const rangeRequest: Table = {
  1: ['key', 'bytes'],
  2: ['rangeEnd', 'bytes'],
  3: ['limit', 'int'],
  4: ['revision', 'revision'],
  5: ['sortOrder', 'enum'],
  6: ['sortTarget', 'enum'],
  7: ['serializable', 'bool'],
  8: ['keysOnly', 'bool'],
  9: ['countOnly', 'bool'],
  10: ['minModRevision', 'revision'],
  11: ['maxModRevision', 'revision'],
  12: ['minCreateRevision', 'revision'],
  13: ['maxCreateRevision', 'revision'],
};
const rangeResponse: Table = {
  1: ['header', () => header],
  2: ['kvs', () => keyValue, 'many'],
  3: ['more', 'bool'],
  4: ['count', 'int'],
};
const putRequest: Table = {
  1: ['key', 'bytes'],
  2: ['value', 'bytes'],
  3: ['lease', 'lease'],
  4: ['prevKv', 'bool'],
  5: ['ignoreValue', 'bool'],
  6: ['ignoreLease', 'bool'],
};
const putResponse: Table = { 1: ['header', () => header], 2: ['prevKv', () => keyValue] };
const deleteRangeRequest: Table = {
  1: ['key', 'bytes'],
  2: ['rangeEnd', 'bytes'],
  3: ['prevKv', 'bool'],
};
const deleteRangeResponse: Table = {
  1: ['header', () => header],
  2: ['deleted', 'int'],
  3: ['prevKvs', () => keyValue, 'many'],
};
const compare: Table = {
  1: ['result', 'enum'],
  2: ['target', 'enum'],
  3: ['key', 'bytes'],
  4: ['version', 'int'],
  5: ['create', 'revision'],
  6: ['mod', 'revision'],
  7: ['value', 'bytes'],
  8: ['lease', 'lease'],
  64: ['rangeEnd', 'bytes'],
};
const requestOp: Table = {
  1: ['range', () => rangeRequest],
  2: ['put', () => putRequest],
  3: ['deleteRange', () => deleteRangeRequest],
  4: ['txn', () => txnRequest],
};
const txnRequest: Table = {
  1: ['compare', () => compare, 'many'],
  2: ['success', () => requestOp, 'many'],
  3: ['failure', () => requestOp, 'many'],
};
const responseOp: Table = {
  1: ['range', () => rangeResponse],
  2: ['put', () => putResponse],
  3: ['deleteRange', () => deleteRangeResponse],
  4: ['txn', () => txnResponse],
};
const txnResponse: Table = {
  1: ['header', () => header],
  2: ['succeeded', 'bool'],
  3: ['responses', () => responseOp, 'many'],
};
const compactionRequest: Table = { 1: ['revision', 'revision'], 2: ['physical', 'bool'] };
const headerOnly: Table = { 1: ['header', () => header] };

const leaseGrantRequest: Table = { 1: ['ttl', 'int'], 2: ['id', 'lease'] };
const leaseGrantResponse: Table = {
  1: ['header', () => header],
  2: ['id', 'lease'],
  3: ['ttl', 'int'],
  4: ['error', 'string'],
};
const leaseId: Table = { 1: ['id', 'lease'] };
const leaseKeepAliveResponse: Table = {
  1: ['header', () => header],
  2: ['id', 'lease'],
  3: ['ttl', 'int'],
};
const leaseTimeToLiveRequest: Table = { 1: ['id', 'lease'], 2: ['keys', 'bool'] };
const leaseTimeToLiveResponse: Table = {
  1: ['header', () => header],
  2: ['id', 'lease'],
  3: ['ttl', 'int'],
  4: ['grantedTtl', 'int'],
  5: ['keys', 'bytes', 'many'],
};
const leaseLeasesResponse: Table = { 1: ['header', () => header], 2: ['leases', () => leaseId, 'many'] };

const watchCreateRequest: Table = {
  1: ['key', 'bytes'],
  2: ['rangeEnd', 'bytes'],
  3: ['startRevision', 'revision'],
  4: ['progressNotify', 'bool'],
  5: ['filters', 'enums'],
  6: ['prevKv', 'bool'],
  7: ['watchId', 'int'],
  8: ['fragment', 'bool'],
};
const watchCancelRequest: Table = { 1: ['watchId', 'int'] };

export const watchRequest: Table = {
  1: ['create', () => watchCreateRequest],
  2: ['cancel', () => watchCancelRequest],
  3: ['progress', () => ({})],
};
export const watchResponse: Table = {
  1: ['header', () => header],
  2: ['watchId', 'int'],
  3: ['created', 'bool'],
  4: ['canceled', 'bool'],
  5: ['compactRevision', 'revision'],
  6: ['cancelReason', 'string'],
  7: ['fragment', 'bool'],
  11: ['events', () => event, 'many'],
};

/** Request and response of each call. */
export const calls = {
  'KV/Range': [rangeRequest, rangeResponse],
  'KV/Put': [putRequest, putResponse],
  'KV/DeleteRange': [deleteRangeRequest, deleteRangeResponse],
  'KV/Txn': [txnRequest, txnResponse],
  'KV/Compact': [compactionRequest, headerOnly],
  'Lease/LeaseGrant': [leaseGrantRequest, leaseGrantResponse],
  'Lease/LeaseRevoke': [leaseId, headerOnly],
  'Lease/LeaseKeepAlive': [leaseId, leaseKeepAliveResponse],
  'Lease/LeaseTimeToLive': [leaseTimeToLiveRequest, leaseTimeToLiveResponse],
  'Lease/LeaseLeases': [{}, leaseLeasesResponse],
} as const satisfies Record<string, readonly [Table, Table]>;

export type Call = keyof typeof calls;

// Reading

/** @throws Error for a field that is not in the table: nothing is dropped. */
export function read(table: Table, bytes: Buffer): Message {
  return readInto(table, new WireReader(bytes));
}

function readInto(table: Table, reader: WireReader): Message {
  const message: Message = {};
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    const entry = table[field];
    if (entry === undefined) throw new Error(`Expected a field of ${JSON.stringify(table)}, got ${field}`);
    const [name, kind, many] = entry;
    const value = readValue(kind, reader);
    if (many === 'many') ((message[name] ??= []) as Value[]).push(value);
    else if (!isDefault(value)) message[name] = value;
  }
  return message;
}

/** In proto3 a scalar that holds its default is as good as absent. */
const isDefault = (value: Value) =>
  value === 0n || value === false || value === '' || (Buffer.isBuffer(value) && value.length === 0);

function readValue(kind: Kind, reader: WireReader): Value {
  switch (kind) {
    case 'bytes':
      return reader.bytes();
    case 'string':
      return reader.string();
    case 'bool':
      return reader.bool();
    case 'int':
    case 'revision':
    case 'lease':
      return reader.int64();
    case 'id':
      return reader.uint64();
    case 'enum':
      return BigInt(reader.enum());
    case 'enums': {
      const all: number[] = [];
      reader.enums((value) => all.push(value));
      return all;
    }
    default:
      return reader.message((inner) => readInto(kind(), inner));
  }
}

// Writing

/** Every field that is there is written, also one that holds its default. */
export function write(table: Table, message: Message): Buffer {
  const writer = new WireWriter();
  writeInto(table, writer, message);
  return writer.finish();
}

function writeInto(table: Table, writer: WireWriter, message: Message): void {
  for (const [field, [name, kind]] of Object.entries(table) as [string, Table[number]][]) {
    const value = message[name];
    if (value === undefined) continue;
    const values = Array.isArray(value) && kind !== 'enums' ? (value as Value[]) : [value as Value];
    for (const one of values) writeValue(Number(field), kind, writer, one);
  }
}

function writeValue(field: number, kind: Kind, writer: WireWriter, value: Value): void {
  if (typeof kind === 'function') {
    writer.message(field, value as Message, (inner, nested) => writeInto(kind(), inner, nested));
  } else if (kind === 'enums') {
    // Packed; the values of the only repeated enum are below 128.
    writer.element(field, Buffer.from(value as number[]));
  } else if (Buffer.isBuffer(value)) writer.element(field, value);
  else if (typeof value === 'boolean') writer.presentInt64(field, value ? 1n : 0n);
  else writer.presentInt64(field, value as bigint);
}
