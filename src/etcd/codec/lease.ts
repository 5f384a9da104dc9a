// The Lease service, both directions.

import type {
  LeaseGrantRequest,
  LeaseGrantResponse,
  LeaseId,
  LeaseKeepAliveResponse,
  LeaseLeasesResponse,
  LeaseRevokeResponse,
  LeaseTimeToLiveRequest,
  LeaseTimeToLiveResponse,
} from '../types.ts';
import { encode, WireReader } from '../wire.ts';
import { noHeader, readHeader, readHeaderOnly, writeHeader } from './message.ts';

export function decodeLeaseGrantRequest(bytes: Buffer): LeaseGrantRequest {
  const reader = new WireReader(bytes);
  let ttl = 0;
  let id = 0n;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) ttl = reader.count();
    else if (field === 2) id = reader.int64();
    else reader.skip();
  }
  return { ttl, id };
}

export function encodeLeaseGrantRequest(request: LeaseGrantRequest): Buffer {
  return encode(request, (writer) => {
    writer.count(1, request.ttl);
    writer.int64(2, request.id);
  });
}

function readGranted(bytes: Buffer): LeaseGrantResponse {
  const reader = new WireReader(bytes);
  let header = noHeader;
  let id = 0n;
  let ttl = 0;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) header = reader.message(readHeader);
    else if (field === 2) id = reader.int64();
    else if (field === 3) ttl = reader.count();
    else reader.skip();
  }
  return { header, id, ttl };
}

function writeGranted(response: LeaseGrantResponse): Buffer {
  return encode(response, (writer) => {
    writer.message(1, response.header, writeHeader);
    writer.int64(2, response.id);
    writer.count(3, response.ttl);
  });
}

export function decodeLeaseGrantResponse(bytes: Buffer): LeaseGrantResponse {
  return readGranted(bytes);
}

export function encodeLeaseGrantResponse(response: LeaseGrantResponse): Buffer {
  return writeGranted(response);
}

/** Has the fields of a grant's answer, under the same numbers. */
export function decodeLeaseKeepAliveResponse(bytes: Buffer): LeaseKeepAliveResponse {
  return readGranted(bytes);
}

/** Has the fields of a grant's answer, under the same numbers. */
export function encodeLeaseKeepAliveResponse(response: LeaseKeepAliveResponse): Buffer {
  return writeGranted(response);
}

/** The id of a LeaseRevoke or LeaseKeepAlive request: their one field. */
export function decodeLeaseId(bytes: Buffer): LeaseId {
  const reader = new WireReader(bytes);
  let id = 0n;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) id = reader.int64();
    else reader.skip();
  }
  return id;
}

/** A LeaseRevoke or LeaseKeepAlive request. */
export function encodeLeaseId(id: LeaseId): Buffer {
  return encode(id, (writer) => writer.int64(1, id));
}

export function decodeLeaseRevokeResponse(bytes: Buffer): LeaseRevokeResponse {
  return { header: readHeaderOnly(new WireReader(bytes)) };
}

export function decodeLeaseTimeToLiveRequest(bytes: Buffer): LeaseTimeToLiveRequest {
  const reader = new WireReader(bytes);
  let id = 0n;
  let keys = false;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) id = reader.int64();
    else if (field === 2) keys = reader.bool();
    else reader.skip();
  }
  return { id, keys };
}

export function encodeLeaseTimeToLiveRequest(request: LeaseTimeToLiveRequest): Buffer {
  return encode(request, (writer) => {
    writer.int64(1, request.id);
    writer.bool(2, request.keys);
  });
}

export function decodeLeaseTimeToLiveResponse(bytes: Buffer): LeaseTimeToLiveResponse {
  const reader = new WireReader(bytes);
  let header = noHeader;
  let id = 0n;
  let ttl = 0;
  let grantedTtl = 0;
  const keys: Buffer[] = [];
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) header = reader.message(readHeader);
    else if (field === 2) id = reader.int64();
    else if (field === 3) ttl = reader.count();
    else if (field === 4) grantedTtl = reader.count();
    else if (field === 5) keys.push(reader.bytes());
    else reader.skip();
  }
  return { header, id, ttl, grantedTtl, keys };
}

export function encodeLeaseTimeToLiveResponse(response: LeaseTimeToLiveResponse): Buffer {
  return encode(response, (writer) => {
    writer.message(1, response.header, writeHeader);
    writer.int64(2, response.id);
    writer.count(3, response.ttl);
    writer.count(4, response.grantedTtl);
    for (const key of response.keys) writer.element(5, key);
  });
}

export function decodeLeaseLeasesResponse(bytes: Buffer): LeaseLeasesResponse {
  const reader = new WireReader(bytes);
  let header = noHeader;
  const leases: LeaseId[] = [];
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) header = reader.message(readHeader);
    else if (field === 2) leases.push(decodeLeaseId(reader.bytes()));
    else reader.skip();
  }
  return { header, leases };
}

export function encodeLeaseLeasesResponse(response: LeaseLeasesResponse): Buffer {
  return encode(response, (writer) => {
    writer.message(1, response.header, writeHeader);
    for (const id of response.leases) writer.element(2, encodeLeaseId(id));
  });
}
