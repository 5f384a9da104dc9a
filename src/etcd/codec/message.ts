// The messages that several services share: header, pair, event. Read and written field by field (see ../wire.ts).

import type { Event, KeyValue, ResponseHeader } from '../types.ts';
import { encode, type WireReader, type WireWriter } from '../wire.ts';

/** Shared by all absent `bytes` fields. */
export const noBytes: Buffer = Buffer.alloc(0);

/** Stands for a header that was not sent. */
export const noHeader: ResponseHeader = { clusterId: 0n, memberId: 0n, revision: 0n, raftTerm: 0n };

export function readHeader(reader: WireReader): ResponseHeader {
  let clusterId = 0n;
  let memberId = 0n;
  let revision = 0n;
  let raftTerm = 0n;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) clusterId = reader.uint64();
    else if (field === 2) memberId = reader.uint64();
    else if (field === 3) revision = reader.int64();
    else if (field === 4) raftTerm = reader.uint64();
    else reader.skip();
  }
  return { clusterId, memberId, revision, raftTerm };
}

export function writeHeader(writer: WireWriter, header: ResponseHeader): void {
  writer.int64(1, header.clusterId);
  writer.int64(2, header.memberId);
  writer.int64(3, header.revision);
  writer.int64(4, header.raftTerm);
}

export function readKeyValue(reader: WireReader): KeyValue {
  let key = noBytes;
  let createRevision = 0n;
  let modRevision = 0n;
  let version = 0n;
  let value = noBytes;
  let lease = 0n;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) key = reader.bytes();
    else if (field === 2) createRevision = reader.int64();
    else if (field === 3) modRevision = reader.int64();
    else if (field === 4) version = reader.int64();
    else if (field === 5) value = reader.bytes();
    else if (field === 6) lease = reader.int64();
    else reader.skip();
  }
  return { key, createRevision, modRevision, version, value, lease };
}

export function writeKeyValue(writer: WireWriter, kv: KeyValue): void {
  writer.bytes(1, kv.key);
  writer.int64(2, kv.createRevision);
  writer.int64(3, kv.modRevision);
  writer.int64(4, kv.version);
  writer.bytes(5, kv.value);
  writer.int64(6, kv.lease);
}

const keyValueOverheadBytes = 48;

/** Upper estimate of a pair's encoded size, for size hints. */
export function keyValueSizeHint(kv: KeyValue): number {
  return kv.key.length + kv.value.length + keyValueOverheadBytes;
}

export function readEvent(reader: WireReader): Event {
  let type: Event['type'] = 'put';
  let kv: KeyValue | undefined;
  let prevKv: KeyValue | undefined;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) type = reader.enum() === 1 ? 'delete' : 'put';
    else if (field === 2) kv = reader.message(readKeyValue);
    else if (field === 3) prevKv = reader.message(readKeyValue);
    else reader.skip();
  }
  kv ??= { key: noBytes, createRevision: 0n, modRevision: 0n, version: 0n, value: noBytes, lease: 0n };
  return prevKv === undefined ? { type, kv } : { type, kv, prevKv };
}

export function writeEvent(writer: WireWriter, event: Event): void {
  writer.count(1, event.type === 'delete' ? 1 : 0);
  writer.message(2, event.kv, writeKeyValue);
  if (event.prevKv !== undefined) writer.message(3, event.prevKv, writeKeyValue);
}

/** Reads the header of a message that has nothing else we look at. */
export function readHeaderOnly(reader: WireReader): ResponseHeader {
  let header = noHeader;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) header = reader.message(readHeader);
    else reader.skip();
  }
  return header;
}

/** Bytes of any response that consists of its header alone: Compact, LeaseRevoke, Defragment, an Alarm list without alarms. */
export function encodeHeaderOnly(header: ResponseHeader): Buffer {
  return encode(header, (writer, value) => writer.message(1, value, writeHeader));
}
