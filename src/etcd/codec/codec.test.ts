// The codec against protobufjs, which works from proto/: it decodes and re-encodes what we wrote (a wrong number would lose
// the field), we read that back; and one message of each kind is compared with it by field names.

import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import fc from 'fast-check';
import { EtcdError } from '../errors.ts';
import { opOfNoKind } from '../requests.ts';
import type {
  Compare,
  Event,
  KeyValue,
  RangeRequest,
  RangeChunk,
  RangeResponse,
  RequestOp,
  TxnRequest,
} from '../types.ts';
import { MalformedMessageError } from '../wire.ts';
import * as kv from './kv.ts';
import * as lease from './lease.ts';
import {
  decodeHashKvResponse,
  decodeStatusResponse,
  encodeHashKvResponse,
  encodeMemberListResponse,
  encodeStatusResponse,
} from './maintenance.ts';
import { decodeTxnRequest, decodeTxnResponse, encodeTxnRequest, encodeTxnResponse } from './txn.ts';
import * as watch from './watch.ts';

const definitions = loadSync(['etcd/api/etcdserverpb/rpc.proto', 'grpc/health/v1/health.proto'], {
  includeDirs: [fileURLToPath(new URL('../../../proto', import.meta.url))],
  keepCase: true,
  longs: String,
  enums: String,
  oneofs: true,
});

/** protobufjs' view of one method's messages. */
function oracle(service: string, method: string) {
  const definition = (definitions[`etcdserverpb.${service}`] as ServiceDefinition)[
    method
  ] as MethodDefinition<Record<string, unknown>, Record<string, unknown>>;
  return {
    request: {
      read: (bytes: Buffer) => definition.requestDeserialize(bytes),
      reencode: (bytes: Buffer) => definition.requestSerialize(definition.requestDeserialize(bytes)),
    },
    response: {
      read: (bytes: Buffer) => definition.responseDeserialize(bytes),
      reencode: (bytes: Buffer) => definition.responseSerialize(definition.responseDeserialize(bytes)),
    },
  };
}

const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
const int64 = fc.oneof(
  fc.constantFrom(
    0n,
    1n,
    127n,
    128n,
    2n ** 31n,
    2n ** 32n,
    2n ** 49n,
    2n ** 53n,
    2n ** 63n - 1n,
    -1n,
    -(2n ** 63n),
  ),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
);
const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const count = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const header = fc.record({ clusterId: uint64, memberId: uint64, revision: int64, raftTerm: uint64 });
const keyValue: fc.Arbitrary<KeyValue> = fc.record({
  key: bytes,
  createRevision: int64,
  modRevision: int64,
  version: int64,
  value: bytes,
  lease: int64,
});
const rangeRequest: fc.Arbitrary<RangeRequest> = fc.record({
  key: bytes,
  rangeEnd: bytes,
  limit: fc.integer(),
  revision: int64,
  sortOrder: fc.constantFrom('none' as const, 'ascend' as const, 'descend' as const),
  sortTarget: fc.constantFrom(
    'key' as const,
    'version' as const,
    'create' as const,
    'mod' as const,
    'value' as const,
  ),
  serializable: fc.boolean(),
  keysOnly: fc.boolean(),
  countOnly: fc.boolean(),
  minModRevision: int64,
  maxModRevision: int64,
  minCreateRevision: int64,
  maxCreateRevision: int64,
});
const rangeResponse: fc.Arbitrary<RangeResponse> = fc.record({
  header,
  kvs: fc.array(keyValue, { maxLength: 5 }),
  more: fc.boolean(),
  count,
});
const rangeChunk: fc.Arbitrary<RangeChunk> = fc.record(
  { header, kvs: fc.array(keyValue, { maxLength: 5 }), more: fc.boolean(), count },
  { requiredKeys: ['kvs', 'more', 'count'] },
);
const event: fc.Arbitrary<Event> = fc.record(
  { type: fc.constantFrom('put' as const, 'delete' as const), kv: keyValue, prevKv: keyValue },
  { requiredKeys: ['type', 'kv'] },
);
const result = fc.constantFrom('equal' as const, 'greater' as const, 'less' as const, 'notEqual' as const);
const compare: fc.Arbitrary<Compare> = fc.oneof(
  fc.record({
    result,
    key: bytes,
    rangeEnd: bytes,
    target: fc.constantFrom('version' as const, 'create' as const, 'mod' as const, 'lease' as const),
    operand: int64,
  }),
  fc.record({ result, key: bytes, rangeEnd: bytes, target: fc.constant('value' as const), operand: bytes }),
);
const putRequest = fc.record({
  key: bytes,
  value: bytes,
  lease: int64,
  prevKv: fc.boolean(),
  ignoreValue: fc.boolean(),
  ignoreLease: fc.boolean(),
});
const deleteRequest = fc.record({ key: bytes, rangeEnd: bytes, prevKv: fc.boolean() });
const { txn: txnRequest } = fc.letrec<{ op: RequestOp; txn: TxnRequest }>((tie) => ({
  op: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.record({ type: fc.constant('put' as const), request: putRequest }),
    fc.record({ type: fc.constant('range' as const), request: rangeRequest }),
    fc.record({ type: fc.constant('deleteRange' as const), request: deleteRequest }),
    fc.record({ type: fc.constant('txn' as const), request: tie('txn') }),
  ),
  txn: fc.record({
    compare: fc.array(compare, { maxLength: 3 }),
    success: fc.array(tie('op'), { maxLength: 3 }),
    failure: fc.array(tie('op'), { maxLength: 2 }),
  }),
}));

type Reencode = { reencode(bytes: Buffer): Buffer };

function roundTrip<T>(
  title: string,
  values: fc.Arbitrary<T>,
  code: { encode: (value: T) => Buffer; decode: (bytes: Buffer) => unknown; oracle: Reencode },
) {
  test(`codec: ${title}: comes back from our decoder and through protobufjs`, (t) => {
    fc.assert(
      fc.property(values, (value) => {
        const encoded = code.encode(value);
        t.deepEqual(code.decode(encoded), value);
        t.deepEqual(code.decode(code.oracle.reencode(encoded)), value);
      }),
      { numRuns: 150 },
    );
  });
}

const range = oracle('KV', 'Range');
const txn = oracle('KV', 'Txn');
const watchOracle = oracle('Watch', 'Watch');
const timeToLive = oracle('Lease', 'LeaseTimeToLive');
const status = oracle('Maintenance', 'Status');

roundTrip('RangeRequest', rangeRequest, {
  encode: kv.encodeRangeRequest,
  decode: kv.decodeRangeRequest,
  oracle: range.request,
});
roundTrip('RangeResponse', rangeResponse, {
  encode: kv.encodeRangeResponse,
  decode: kv.decodeRangeResponse,
  oracle: range.response,
});
roundTrip('RangeStreamResponse', rangeChunk, {
  encode: kv.encodeRangeStreamResponse,
  decode: kv.decodeRangeStreamResponse,
  oracle: oracle('KV', 'RangeStream').response,
});
roundTrip('TxnRequest', txnRequest, {
  encode: encodeTxnRequest,
  decode: decodeTxnRequest,
  oracle: txn.request,
});
roundTrip(
  'TxnResponse',
  fc.record({
    header,
    succeeded: fc.boolean(),
    responses: fc.array(
      fc.oneof(
        fc.record({ type: fc.constant('range' as const), response: rangeResponse }),
        fc.record({
          type: fc.constant('put' as const),
          response: fc.record({ header, prevKv: keyValue }, { requiredKeys: ['header'] }),
        }),
        fc.record({
          type: fc.constant('deleteRange' as const),
          response: fc.record({ header, deleted: count, prevKvs: fc.array(keyValue, { maxLength: 3 }) }),
        }),
      ),
      { maxLength: 3 },
    ),
  }),
  { encode: encodeTxnResponse, decode: decodeTxnResponse, oracle: txn.response },
);
roundTrip(
  'WatchResponse',
  fc.record({
    header,
    watchId: int64,
    created: fc.boolean(),
    canceled: fc.boolean(),
    compactRevision: int64,
    cancelReason: fc.string(),
    fragment: fc.boolean(),
    events: fc.array(event, { maxLength: 4 }),
  }),
  {
    encode: (response) =>
      watch.encodeWatchResponse({ ...response, events: response.events.map(watch.encodeEvent) }),
    decode: watch.decodeWatchResponse,
    oracle: watchOracle.response,
  },
);
const watchCreate = fc.record({
  key: bytes,
  rangeEnd: bytes,
  startRevision: int64,
  progressNotify: fc.boolean(),
  filters: fc.uniqueArray(fc.constantFrom('noput' as const, 'nodelete' as const)),
  prevKv: fc.boolean(),
  watchId: int64,
  fragment: fc.boolean(),
});
roundTrip(
  'WatchRequest',
  fc.oneof(
    fc.record({ type: fc.constant('create' as const), request: watchCreate }),
    fc.record({ type: fc.constant('cancel' as const), watchId: int64 }),
    fc.constant({ type: 'progress' as const }),
  ),
  { encode: watch.encodeWatchRequest, decode: watch.decodeWatchRequest, oracle: watchOracle.request },
);
roundTrip(
  'LeaseTimeToLiveResponse',
  fc.record({
    header,
    id: int64,
    ttl: fc.integer(),
    grantedTtl: count,
    keys: fc.array(bytes, { maxLength: 3 }),
  }),
  {
    encode: lease.encodeLeaseTimeToLiveResponse,
    decode: lease.decodeLeaseTimeToLiveResponse,
    oracle: timeToLive.response,
  },
);
roundTrip('LeaseGrantResponse', fc.record({ header, id: int64, ttl: count }), {
  encode: lease.encodeLeaseGrantResponse,
  decode: lease.decodeLeaseGrantResponse,
  oracle: oracle('Lease', 'LeaseGrant').response,
});
roundTrip('LeaseLeasesResponse', fc.record({ header, leases: fc.array(int64, { maxLength: 4 }) }), {
  encode: lease.encodeLeaseLeasesResponse,
  decode: lease.decodeLeaseLeasesResponse,
  oracle: oracle('Lease', 'LeaseLeases').response,
});
roundTrip(
  'StatusResponse',
  fc.record({
    header,
    version: fc.string(),
    dbSize: count,
    leader: uint64,
    raftIndex: uint64,
    raftTerm: uint64,
    raftAppliedIndex: uint64,
    errors: fc.array(fc.string(), { maxLength: 2 }),
    dbSizeInUse: count,
    isLearner: fc.boolean(),
    storageVersion: fc.string(),
    dbSizeQuota: count,
    downgradeInfo: fc.record({ enabled: fc.boolean(), targetVersion: fc.string() }),
  }),
  { encode: encodeStatusResponse, decode: decodeStatusResponse, oracle: status.response },
);
roundTrip(
  'HashKVResponse',
  fc.record({
    header,
    hash: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    compactRevision: int64,
    hashRevision: int64,
  }),
  {
    encode: encodeHashKvResponse,
    decode: decodeHashKvResponse,
    oracle: oracle('Maintenance', 'HashKV').response,
  },
);

test('codec: RangeRequest: every field stands under its name', (t) => {
  const encoded = kv.encodeRangeRequest({
    key: Buffer.from('k'),
    rangeEnd: Buffer.from('e'),
    limit: 3,
    revision: 4n,
    sortOrder: 'descend',
    sortTarget: 'mod',
    serializable: true,
    keysOnly: false,
    countOnly: true,
    minModRevision: 10n,
    maxModRevision: 11n,
    minCreateRevision: 12n,
    maxCreateRevision: 13n,
  });
  t.deepEqual(
    { ...range.request.read(encoded) },
    {
      key: Buffer.from('k'),
      range_end: Buffer.from('e'),
      limit: '3',
      revision: '4',
      sort_order: 'DESCEND',
      sort_target: 'MOD',
      serializable: true,
      count_only: true,
      min_mod_revision: '10',
      max_mod_revision: '11',
      min_create_revision: '12',
      max_create_revision: '13',
    },
  );
});

test('codec: RangeResponse: every field of header and pair stands under its name', (t) => {
  const encoded = kv.encodeRangeResponse({
    header: { clusterId: 1n, memberId: 2n, revision: 3n, raftTerm: 4n },
    kvs: [
      {
        key: Buffer.from('k'),
        createRevision: 5n,
        modRevision: 6n,
        version: 7n,
        value: Buffer.from('v'),
        lease: 8n,
      },
    ],
    more: true,
    count: 9,
  });
  t.deepEqual(JSON.parse(JSON.stringify(range.response.read(encoded))), {
    header: { cluster_id: '1', member_id: '2', revision: '3', raft_term: '4' },
    kvs: [
      {
        key: { type: 'Buffer', data: [107] },
        create_revision: '5',
        mod_revision: '6',
        version: '7',
        value: { type: 'Buffer', data: [118] },
        lease: '8',
      },
    ],
    more: true,
    count: '9',
  });
});

test('codec: MemberListResponse: every field stands under its name', (t) => {
  const encoded = encodeMemberListResponse({
    header: { clusterId: 1n, memberId: 2n, revision: 0n, raftTerm: 4n },
    members: [
      { id: 2n, name: 'gw', peerUrls: ['p'], clientUrls: ['http://a', 'http://b'], isLearner: false },
    ],
  });
  t.deepEqual(JSON.parse(JSON.stringify(oracle('Cluster', 'MemberList').response.read(encoded))), {
    header: { cluster_id: '1', member_id: '2', raft_term: '4' },
    members: [{ ID: '2', name: 'gw', peerURLs: ['p'], clientURLs: ['http://a', 'http://b'] }],
  });
});

test('codec: RangeRequest: an unknown sort order or target is told, whatever stands behind it', (t) => {
  const order = Buffer.from([0x28, 9]);
  const target = Buffer.from([0x30, 5, 0x28, 1]);
  for (const request of [order, target]) t.is(kv.decodeRangeRequest(request).sortOrder, 'unknown');
});

test('codec: Compare: a member that does not fit the target counts as 0 or empty', (t) => {
  // target MOD with the oneof's `version` set, and target VALUE with nothing set.
  const mod = Buffer.from([0x0a, 4, 0x10, 2, 0x20, 9]);
  const value = Buffer.from([0x0a, 2, 0x10, 3]);
  t.is(decodeTxnRequest(mod).compare[0]!.operand, 0n);
  t.deepEqual(decodeTxnRequest(value).compare[0]!.operand, Buffer.alloc(0));
});

test('codec: RequestOp: an op of no kind is told', (t) => {
  t.is(decodeTxnRequest(Buffer.from([0x12, 0])).success[0], opOfNoKind);
});

test('codec: peekWatchResponse sees what decodeWatchResponse sees', (t) => {
  const parts = {
    header: { clusterId: 1n, memberId: 1n, revision: 77n, raftTerm: 1n },
    watchId: -1n,
    fragment: true,
  };
  const one = {
    key: Buffer.from('k'),
    createRevision: 1n,
    modRevision: 1n,
    version: 1n,
    value: Buffer.alloc(200),
    lease: 0n,
  };
  const events = [watch.encodeEvent({ type: 'put', kv: one })];
  const expected = {
    watchId: -1n,
    created: false,
    canceled: false,
    compactRevision: 0n,
    fragment: true,
    headerRevision: 77n,
  };
  t.deepEqual(watch.peekWatchResponse(watch.encodeWatchResponse(parts)), { ...expected, hasEvents: false });
  t.deepEqual(watch.peekWatchResponse(watch.encodeWatchResponse({ ...parts, events })), {
    ...expected,
    hasEvents: true,
  });
});

test('codec: appendWatchId and replaceWatchId change the id and keep unknown fields', (t) => {
  fc.assert(
    fc.property(watchCreate, int64, (request, watchId) => {
      const encoded = watch.encodeWatchRequest({ type: 'create', request });
      const changed = watch.appendWatchId(encoded, watchId);
      t.deepEqual(watch.decodeWatchRequest(changed), { type: 'create', request: { ...request, watchId } });
    }),
  );
  // Field 99 inside the create request.
  const unknown = Buffer.from([0x0a, 6, 0x0a, 1, 0x61, 0x98, 0x06, 5]);
  t.true(watch.appendWatchId(unknown, 7n).includes(Buffer.from([0x98, 0x06, 5])));
  const header = { clusterId: 1n, memberId: 1n, revision: 7n, raftTerm: 1n };
  const response = watch.encodeWatchResponse({ header, watchId: 3n, created: true });
  t.is(watch.decodeWatchResponse(watch.replaceWatchId(response, 12n)).watchId, 12n);
});

test('codec: bytes that are no message are refused, never read past their end', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (array) => {
      try {
        decodeTxnRequest(Buffer.from(array));
        watch.decodeWatchResponse(Buffer.from(array));
      } catch (error) {
        t.true(error instanceof MalformedMessageError || error instanceof EtcdError);
      }
    }),
    { numRuns: 2000 },
  );
});
