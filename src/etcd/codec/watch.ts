// The Watch service. An event is encoded once, framed as it stands in a WatchResponse, and shared by all watches that get
// it; answers of an etcd are peeked at without decoding their events.

import type { Event, ResponseHeader, WatchCreateRequest, WatchId } from '../types.ts';
import { encode, MalformedMessageError, WireReader, WireWriter } from '../wire.ts';
import {
  keyValueSizeHint,
  noBytes,
  noHeader,
  readEvent,
  readHeader,
  writeEvent,
  writeHeader,
} from './message.ts';

/** What a client sends on a watch stream. */
export type WatchRequest =
  | { readonly type: 'create'; readonly request: WatchCreateRequest }
  | { readonly type: 'cancel'; readonly watchId: WatchId }
  | { readonly type: 'progress' };

/** One `events` field of a WatchResponse, tag and length included. */
export type EncodedEvent = Buffer & { readonly encodedEvent?: never };

interface WatchResponseFields {
  readonly header: ResponseHeader;
  readonly watchId: WatchId;
  readonly created: boolean;
  readonly canceled: boolean;
  /** 0 = not a compaction answer. */
  readonly compactRevision: bigint;
  readonly cancelReason: string;
  /** More pieces follow. */
  readonly fragment: boolean;
}

export interface WatchResponse extends WatchResponseFields {
  readonly events: readonly Event[];
}

/** All but header and watchId may be left out: false, 0 or empty. */
export type WatchResponseParts = Pick<WatchResponseFields, 'header' | 'watchId'> &
  Partial<WatchResponseFields> & { readonly events?: readonly EncodedEvent[] };

/** What can be told of an answer without decoding its events. */
export interface WatchResponsePeek {
  readonly watchId: WatchId;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compactRevision: bigint;
  readonly fragment: boolean;
  readonly hasEvents: boolean;
  readonly headerRevision: bigint;
}

/** The id in answers about no watch, or about all of a stream. */
export const noWatchId: WatchId = -1n;

const watchIdField = 2;
const createWatchIdField = 7;
const eventsField = 11;
const responseOverheadBytes = 64;
const filterNames = ['noput', 'nodelete'] as const;

function readCreateRequest(reader: WireReader): WatchCreateRequest {
  let key = noBytes;
  let rangeEnd = noBytes;
  let startRevision = 0n;
  let progressNotify = false;
  const filters: ('noput' | 'nodelete')[] = [];
  let prevKv = false;
  let watchId = 0n;
  let fragment = false;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) key = reader.bytes();
    else if (field === 2) rangeEnd = reader.bytes();
    else if (field === 3) startRevision = reader.int64();
    else if (field === 4) progressNotify = reader.bool();
    else if (field === 5) {
      reader.enums((value) => {
        const name = filterNames[value];
        // A filter of a newer client that etcd would not know either is not applied.
        if (name !== undefined && !filters.includes(name)) filters.push(name);
      });
    } else if (field === 6) prevKv = reader.bool();
    else if (field === createWatchIdField) watchId = reader.int64();
    else if (field === 8) fragment = reader.bool();
    else reader.skip();
  }
  return { key, rangeEnd, startRevision, progressNotify, filters, prevKv, watchId, fragment };
}

function writeCreateRequest(writer: WireWriter, request: WatchCreateRequest): void {
  writer.bytes(1, request.key);
  writer.bytes(2, request.rangeEnd);
  writer.int64(3, request.startRevision);
  writer.bool(4, request.progressNotify);
  writer.bytes(5, Buffer.from(request.filters.map((name) => filterNames.indexOf(name))));
  writer.bool(6, request.prevKv);
  writer.int64(createWatchIdField, request.watchId);
  writer.bool(8, request.fragment);
}

function readWatchId(reader: WireReader): WatchId {
  let watchId = 0n;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) watchId = reader.int64();
    else reader.skip();
  }
  return watchId;
}

/** Undefined for a request of no kind, which etcd ignores. */
export function decodeWatchRequest(bytes: Buffer): WatchRequest | undefined {
  const reader = new WireReader(bytes);
  let request: WatchRequest | undefined;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) request = { type: 'create', request: reader.message(readCreateRequest) };
    else if (field === 2) request = { type: 'cancel', watchId: reader.message(readWatchId) };
    else if (field === 3) {
      reader.skip();
      request = { type: 'progress' };
    } else reader.skip();
  }
  return request;
}

export function encodeWatchRequest(request: WatchRequest): Buffer {
  return encode(request, (writer) => {
    switch (request.type) {
      case 'create':
        writer.message(1, request.request, writeCreateRequest);
        return;
      case 'cancel':
        writer.message(2, request.watchId, (inner, watchId) => inner.int64(1, watchId));
        return;
      case 'progress':
        writer.element(3, noBytes);
    }
  });
}

/** The event as one field of a WatchResponse; to be encoded once and sent to every watch that gets it in this form. */
export function encodeEvent(event: Event): EncodedEvent {
  const hint = keyValueSizeHint(event.kv) + (event.prevKv === undefined ? 0 : keyValueSizeHint(event.prevKv));
  const writer = new WireWriter(hint + 16);
  writer.message(eventsField, event, writeEvent);
  return writer.finish();
}

/** The header as it stands in front of an answer; to be encoded once for all answers with it. */
export function encodeWatchHead(header: ResponseHeader): Buffer {
  return encode(header, (writer) => writer.message(1, header, writeHeader));
}

/** An answer with events and nothing else, of parts already encoded: equal to that of `encodeWatchResponse`. */
export function joinWatchEvents(head: Buffer, watchId: WatchId, events: readonly EncodedEvent[]): Buffer {
  if (watchId === 0n) return Buffer.concat([head, ...events]);
  return Buffer.concat([head, encode(watchId, (writer) => writer.int64(watchIdField, watchId)), ...events]);
}

/** The answer with events already encoded; costs one copy of them. */
export function encodeWatchResponse(response: WatchResponseParts): Buffer {
  const writer = new WireWriter(responseOverheadBytes);
  writer.message(1, response.header, writeHeader);
  writer.int64(watchIdField, response.watchId);
  writer.bool(3, response.created ?? false);
  writer.bool(4, response.canceled ?? false);
  writer.int64(5, response.compactRevision ?? 0n);
  writer.string(6, response.cancelReason ?? '');
  writer.bool(7, response.fragment ?? false);
  const start = writer.finish();
  const events = response.events ?? [];
  return events.length === 0 ? start : Buffer.concat([start, ...events]);
}

export function decodeWatchResponse(bytes: Buffer): WatchResponse {
  const reader = new WireReader(bytes);
  let header = noHeader;
  let watchId = 0n;
  let created = false;
  let canceled = false;
  let compactRevision = 0n;
  let cancelReason = '';
  let fragment = false;
  const events: Event[] = [];
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) header = reader.message(readHeader);
    else if (field === watchIdField) watchId = reader.int64();
    else if (field === 3) created = reader.bool();
    else if (field === 4) canceled = reader.bool();
    else if (field === 5) compactRevision = reader.int64();
    else if (field === 6) cancelReason = reader.string();
    else if (field === 7) fragment = reader.bool();
    else if (field === eventsField) events.push(reader.message(readEvent));
    else reader.skip();
  }
  return { header, watchId, created, canceled, compactRevision, cancelReason, fragment, events };
}

/** Looks at an answer without decoding its events: costs a few steps an event, copies nothing. */
export function peekWatchResponse(bytes: Buffer): WatchResponsePeek {
  const reader = new WireReader(bytes);
  let headerRevision = 0n;
  let watchId = 0n;
  let created = false;
  let canceled = false;
  let compactRevision = 0n;
  let fragment = false;
  let hasEvents = false;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) headerRevision = reader.message(readHeader).revision;
    else if (field === watchIdField) watchId = reader.int64();
    else if (field === 3) created = reader.bool();
    else if (field === 4) canceled = reader.bool();
    else if (field === 5) compactRevision = reader.int64();
    else if (field === 7) fragment = reader.bool();
    else {
      if (field === eventsField) hasEvents = true;
      reader.skip();
    }
  }
  return { watchId, created, canceled, compactRevision, fragment, hasEvents, headerRevision };
}

/**
 * The create request with another watch id, everything else (unknown fields too) as it was. The last value of a field
 * wins in protobuf, so the id is appended.
 */
export function appendWatchId(createRequest: Buffer, watchId: WatchId): Buffer {
  const reader = new WireReader(createRequest);
  const rest: { field: number; bytes: Buffer }[] = [];
  let body: Buffer | undefined;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) body = body === undefined ? reader.bytes() : Buffer.concat([body, reader.bytes()]);
    else if (field <= 3) reader.skip();
    else rest.push({ field, bytes: reader.bytes() });
  }
  if (body === undefined) throw new MalformedMessageError('Expected a create request, got another one');
  const id = encode(watchId, (writer) => writer.presentInt64(createWatchIdField, watchId));
  return encode(body, (writer) => {
    writer.element(1, Buffer.concat([body, id]));
    for (const { field, bytes } of rest) writer.element(field, bytes);
  });
}

/** A WatchResponse with another watch id, everything else as it was; the same trick as appendWatchId, at the top level. */
export function replaceWatchId(response: Buffer, watchId: WatchId): Buffer {
  return Buffer.concat([response, encode(watchId, (writer) => writer.presentInt64(watchIdField, watchId))]);
}
