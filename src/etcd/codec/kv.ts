// Requests and responses of the KV service without Txn (see txn.ts). `decode…` takes a whole message, `read…` the reader
// inside one; decoded keys and values are views of the request's bytes.

import { rangeRequest } from '../requests.ts';
import type {
  CompactionRequest,
  CompactionResponse,
  DeleteRangeRequest,
  DeleteRangeResponse,
  KeyValue,
  PutRequest,
  PutResponse,
  RangeChunk,
  RangeRequest,
  RangeResponse,
  SortOrder,
  SortTarget,
} from '../types.ts';
import { encode, WireReader, type WireWriter } from '../wire.ts';
import {
  encodeHeaderOnly,
  keyValueSizeHint,
  noBytes,
  noHeader,
  readHeader,
  readHeaderOnly,
  readKeyValue,
  writeHeader,
  writeKeyValue,
} from './message.ts';

const sortOrders: readonly SortOrder[] = ['none', 'ascend', 'descend'];
const sortTargets: readonly SortTarget[] = ['key', 'version', 'create', 'mod', 'value'];
const headerBytesMax = 64;

type Mutable<T> = { -readonly [Name in keyof T]: T[Name] };

export function readRangeRequest(reader: WireReader): RangeRequest {
  const request: Mutable<RangeRequest> = rangeRequest(noBytes);
  let order: SortOrder | undefined = 'none';
  let target: SortTarget | undefined = 'key';
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    switch (field) {
      case 1:
        request.key = reader.bytes();
        break;
      case 2:
        request.rangeEnd = reader.bytes();
        break;
      case 3:
        request.limit = reader.count();
        break;
      case 4:
        request.revision = reader.int64();
        break;
      case 5:
        order = sortOrders[reader.enum()];
        break;
      case 6:
        target = sortTargets[reader.enum()];
        break;
      case 7:
        request.serializable = reader.bool();
        break;
      case 8:
        request.keysOnly = reader.bool();
        break;
      case 9:
        request.countOnly = reader.bool();
        break;
      case 10:
        request.minModRevision = reader.int64();
        break;
      case 11:
        request.maxModRevision = reader.int64();
        break;
      case 12:
        request.minCreateRevision = reader.int64();
        break;
      case 13:
        request.maxCreateRevision = reader.int64();
        break;
      default:
        reader.skip();
    }
  }
  request.sortOrder = target === undefined ? 'unknown' : (order ?? 'unknown');
  request.sortTarget = target ?? 'key';
  return request;
}

export function writeRangeRequest(writer: WireWriter, request: RangeRequest): void {
  writer.bytes(1, request.key);
  writer.bytes(2, request.rangeEnd);
  writer.count(3, request.limit);
  writer.int64(4, request.revision);
  writer.count(5, sortOrders.indexOf(request.sortOrder));
  writer.count(6, sortTargets.indexOf(request.sortTarget));
  writer.bool(7, request.serializable);
  writer.bool(8, request.keysOnly);
  writer.bool(9, request.countOnly);
  writer.int64(10, request.minModRevision);
  writer.int64(11, request.maxModRevision);
  writer.int64(12, request.minCreateRevision);
  writer.int64(13, request.maxCreateRevision);
}

export function readRangeResponse(reader: WireReader): RangeResponse {
  let header = noHeader;
  const kvs: KeyValue[] = [];
  let more = false;
  let count = 0;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) header = reader.message(readHeader);
    else if (field === 2) kvs.push(reader.message(readKeyValue));
    else if (field === 3) more = reader.bool();
    else if (field === 4) count = reader.count();
    else reader.skip();
  }
  return { header, kvs, more, count };
}

export function writeRangeResponse(writer: WireWriter, response: RangeChunk): void {
  if (response.header !== undefined) writer.message(1, response.header, writeHeader);
  for (const kv of response.kvs) writer.message(2, kv, writeKeyValue);
  writer.bool(3, response.more);
  writer.count(4, response.count);
}

export function readPutRequest(reader: WireReader): PutRequest {
  let key = noBytes;
  let value = noBytes;
  let lease = 0n;
  let prevKv = false;
  let ignoreValue = false;
  let ignoreLease = false;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) key = reader.bytes();
    else if (field === 2) value = reader.bytes();
    else if (field === 3) lease = reader.int64();
    else if (field === 4) prevKv = reader.bool();
    else if (field === 5) ignoreValue = reader.bool();
    else if (field === 6) ignoreLease = reader.bool();
    else reader.skip();
  }
  return { key, value, lease, prevKv, ignoreValue, ignoreLease };
}

export function writePutRequest(writer: WireWriter, request: PutRequest): void {
  writer.bytes(1, request.key);
  writer.bytes(2, request.value);
  writer.int64(3, request.lease);
  writer.bool(4, request.prevKv);
  writer.bool(5, request.ignoreValue);
  writer.bool(6, request.ignoreLease);
}

export function readPutResponse(reader: WireReader): PutResponse {
  let header = noHeader;
  let prevKv: KeyValue | undefined;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) header = reader.message(readHeader);
    else if (field === 2) prevKv = reader.message(readKeyValue);
    else reader.skip();
  }
  return prevKv === undefined ? { header } : { header, prevKv };
}

export function writePutResponse(writer: WireWriter, response: PutResponse): void {
  writer.message(1, response.header, writeHeader);
  if (response.prevKv !== undefined) writer.message(2, response.prevKv, writeKeyValue);
}

export function readDeleteRangeRequest(reader: WireReader): DeleteRangeRequest {
  let key = noBytes;
  let rangeEnd = noBytes;
  let prevKv = false;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) key = reader.bytes();
    else if (field === 2) rangeEnd = reader.bytes();
    else if (field === 3) prevKv = reader.bool();
    else reader.skip();
  }
  return { key, rangeEnd, prevKv };
}

export function writeDeleteRangeRequest(writer: WireWriter, request: DeleteRangeRequest): void {
  writer.bytes(1, request.key);
  writer.bytes(2, request.rangeEnd);
  writer.bool(3, request.prevKv);
}

export function readDeleteRangeResponse(reader: WireReader): DeleteRangeResponse {
  let header = noHeader;
  let deleted = 0;
  const prevKvs: KeyValue[] = [];
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) header = reader.message(readHeader);
    else if (field === 2) deleted = reader.count();
    else if (field === 3) prevKvs.push(reader.message(readKeyValue));
    else reader.skip();
  }
  return { header, deleted, prevKvs };
}

export function writeDeleteRangeResponse(writer: WireWriter, response: DeleteRangeResponse): void {
  writer.message(1, response.header, writeHeader);
  writer.count(2, response.deleted);
  for (const kv of response.prevKvs) writer.message(3, kv, writeKeyValue);
}

function sizeHint(kvs: readonly KeyValue[]): number {
  return kvs.reduce((bytes, kv) => bytes + keyValueSizeHint(kv), headerBytesMax);
}

export function decodeRangeRequest(bytes: Buffer): RangeRequest {
  return readRangeRequest(new WireReader(bytes));
}

export function encodeRangeRequest(request: RangeRequest): Buffer {
  return encode(request, writeRangeRequest);
}

export function decodeRangeResponse(bytes: Buffer): RangeResponse {
  return readRangeResponse(new WireReader(bytes));
}

export function encodeRangeResponse(response: RangeResponse): Buffer {
  return encode(response, writeRangeResponse, sizeHint(response.kvs));
}

/** The chunk in a RangeStreamResponse. */
export function decodeRangeStreamResponse(bytes: Buffer): RangeChunk {
  const reader = new WireReader(bytes);
  let chunk: RangeChunk = { kvs: [], more: false, count: 0 };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) chunk = reader.message(readRangeResponse);
    else reader.skip();
  }
  const { header, ...rest } = chunk;
  return header === noHeader ? rest : chunk;
}

/** The RangeStreamResponse with this chunk. */
export function encodeRangeStreamResponse(chunk: RangeChunk): Buffer {
  const write = (writer: WireWriter) => writer.message(1, chunk, writeRangeResponse);
  return encode(chunk, write, sizeHint(chunk.kvs));
}

export function decodePutRequest(bytes: Buffer): PutRequest {
  return readPutRequest(new WireReader(bytes));
}

export function encodePutResponse(response: PutResponse): Buffer {
  return encode(response, writePutResponse);
}

export function decodeDeleteRangeRequest(bytes: Buffer): DeleteRangeRequest {
  return readDeleteRangeRequest(new WireReader(bytes));
}

export function encodeDeleteRangeResponse(response: DeleteRangeResponse): Buffer {
  return encode(response, writeDeleteRangeResponse, sizeHint(response.prevKvs));
}

export function decodeCompactionRequest(bytes: Buffer): CompactionRequest {
  const reader = new WireReader(bytes);
  let revision = 0n;
  let physical = false;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) revision = reader.int64();
    else if (field === 2) physical = reader.bool();
    else reader.skip();
  }
  return { revision, physical };
}

export function encodeCompactionRequest(request: CompactionRequest): Buffer {
  return encode(request, (writer) => {
    writer.int64(1, request.revision);
    writer.bool(2, request.physical);
  });
}

export function decodeCompactionResponse(bytes: Buffer): CompactionResponse {
  return { header: readHeaderOnly(new WireReader(bytes)) };
}

export function encodeCompactionResponse(response: CompactionResponse): Buffer {
  return encodeHeaderOnly(response.header);
}
