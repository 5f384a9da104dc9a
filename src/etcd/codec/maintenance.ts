// Maintenance, Cluster and health: what the server answers itself and what the etcd store asks. Answers of a header alone
// (Defragment, Alarm without alarms) are `encodeHeaderOnly` of message.ts.

import type { ResponseHeader, Revision } from '../types.ts';
import { encode, WireReader, type WireWriter } from '../wire.ts';
import { noHeader, readHeader, writeHeader } from './message.ts';

export interface StatusResponse {
  readonly header: ResponseHeader;
  readonly version: string;
  readonly dbSize: number;
  readonly leader: bigint;
  readonly raftIndex: bigint;
  readonly raftTerm: bigint;
  readonly raftAppliedIndex: bigint;
  readonly errors: readonly string[];
  readonly dbSizeInUse: number;
  readonly isLearner: boolean;
  /** Since 3.6; empty = not told. */
  readonly storageVersion: string;
  /** Bytes; since 3.6. */
  readonly dbSizeQuota: number;
  /** Since 3.6, and there always. */
  readonly downgradeInfo?: DowngradeInfo;
}

export interface DowngradeInfo {
  readonly enabled: boolean;
  readonly targetVersion: string;
}

export interface HashKvResponse {
  readonly header: ResponseHeader;
  /** CRC-32C, 32 bits without sign. */
  readonly hash: number;
  /** -1 = never compacted. */
  readonly compactRevision: Revision;
  /** The latest revision in the hash. */
  readonly hashRevision: Revision;
}

export interface Member {
  readonly id: bigint;
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
}

export interface MemberListResponse {
  readonly header: ResponseHeader;
  readonly members: readonly Member[];
}

/** grpc.health.v1: the number of each serving status. */
export const servingStatus = { unknown: 0, serving: 1, notServing: 2, serviceUnknown: 3 } as const;

export function encodeStatusResponse(response: StatusResponse): Buffer {
  return encode(response, (writer) => {
    writer.message(1, response.header, writeHeader);
    writer.string(2, response.version);
    writer.count(3, response.dbSize);
    writer.int64(4, response.leader);
    writer.int64(5, response.raftIndex);
    writer.int64(6, response.raftTerm);
    writer.int64(7, response.raftAppliedIndex);
    for (const error of response.errors) writer.element(8, Buffer.from(error));
    writer.count(9, response.dbSizeInUse);
    writer.bool(10, response.isLearner);
    writer.string(11, response.storageVersion);
    writer.count(12, response.dbSizeQuota);
    if (response.downgradeInfo !== undefined) writer.message(13, response.downgradeInfo, writeDowngradeInfo);
  });
}

function writeDowngradeInfo(writer: WireWriter, { enabled, targetVersion }: DowngradeInfo): void {
  writer.bool(1, enabled);
  writer.string(2, targetVersion);
}

function readDowngradeInfo(reader: WireReader): DowngradeInfo {
  let enabled = false;
  let targetVersion = '';
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) enabled = reader.bool();
    else if (field === 2) targetVersion = reader.string();
    else reader.skip();
  }
  return { enabled, targetVersion };
}

export function decodeStatusResponse(bytes: Buffer): StatusResponse {
  const reader = new WireReader(bytes);
  const errors: string[] = [];
  let downgradeInfo: DowngradeInfo | undefined;
  const response = {
    header: noHeader,
    version: '',
    dbSize: 0,
    leader: 0n,
    raftIndex: 0n,
    raftTerm: 0n,
    raftAppliedIndex: 0n,
    dbSizeInUse: 0,
    isLearner: false,
    storageVersion: '',
    dbSizeQuota: 0,
  };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) response.header = reader.message(readHeader);
    else if (field === 2) response.version = reader.string();
    else if (field === 3) response.dbSize = reader.count();
    else if (field === 4) response.leader = reader.uint64();
    else if (field === 5) response.raftIndex = reader.uint64();
    else if (field === 6) response.raftTerm = reader.uint64();
    else if (field === 7) response.raftAppliedIndex = reader.uint64();
    else if (field === 8) errors.push(reader.string());
    else if (field === 9) response.dbSizeInUse = reader.count();
    else if (field === 10) response.isLearner = reader.bool();
    else if (field === 11) response.storageVersion = reader.string();
    else if (field === 12) response.dbSizeQuota = reader.count();
    else if (field === 13) downgradeInfo = reader.message(readDowngradeInfo);
    else reader.skip();
  }
  return { ...response, errors, ...(downgradeInfo === undefined ? {} : { downgradeInfo }) };
}

function encodeMember(member: Member): Buffer {
  return encode(member, (writer) => {
    writer.int64(1, member.id);
    writer.string(2, member.name);
    for (const url of member.peerUrls) writer.element(3, Buffer.from(url));
    for (const url of member.clientUrls) writer.element(4, Buffer.from(url));
    writer.bool(5, member.isLearner);
  });
}

export function encodeMemberListResponse(response: MemberListResponse): Buffer {
  return encode(response, (writer) => {
    writer.message(1, response.header, writeHeader);
    for (const member of response.members) writer.element(2, encodeMember(member));
  });
}

/** The revision that HashKV is asked for, 0 = the latest. */
export function decodeHashKvRequest(bytes: Buffer): Revision {
  const reader = new WireReader(bytes);
  let revision = 0n;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) revision = reader.int64();
    else reader.skip();
  }
  return revision;
}

export function encodeHashKvRequest(revision: Revision): Buffer {
  return encode(revision, (writer) => writer.int64(1, revision));
}

export function encodeHashKvResponse(response: HashKvResponse): Buffer {
  return encode(response, (writer) => {
    writer.message(1, response.header, writeHeader);
    writer.count(2, response.hash);
    writer.int64(3, response.compactRevision);
    writer.int64(4, response.hashRevision);
  });
}

export function decodeHashKvResponse(bytes: Buffer): HashKvResponse {
  const reader = new WireReader(bytes);
  const response = { header: noHeader, hash: 0, compactRevision: 0n, hashRevision: 0n };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) response.header = reader.message(readHeader);
    else if (field === 2) response.hash = reader.count();
    else if (field === 3) response.compactRevision = reader.int64();
    else if (field === 4) response.hashRevision = reader.int64();
    else reader.skip();
  }
  return response;
}

/** 0 = get, 1 = activate, 2 = deactivate. */
export function decodeAlarmAction(bytes: Buffer): number {
  const reader = new WireReader(bytes);
  let action = 0;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) action = reader.enum();
    else reader.skip();
  }
  return action;
}

/** The service a health check asks about; empty = the whole server. */
export function decodeHealthCheckRequest(bytes: Buffer): string {
  const reader = new WireReader(bytes);
  let service = '';
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) service = reader.string();
    else reader.skip();
  }
  return service;
}

export function encodeHealthCheckResponse(
  status: (typeof servingStatus)[keyof typeof servingStatus],
): Buffer {
  return encode(status, (writer) => writer.count(1, status));
}
