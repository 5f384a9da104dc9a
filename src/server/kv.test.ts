// The KV, Cluster, Maintenance, Auth and health services through a real gRPC connection: what is answered by whom, and
// with which error.

import type { ServiceError } from '@grpc/grpc-js';
import test from 'ava';
import {
  decodeRangeResponse,
  encodeRangeRequest,
  readDeleteRangeResponse,
  readPutResponse,
  writeDeleteRangeRequest,
  writePutRequest,
} from '../etcd/codec/kv.ts';
import { decodeStatusResponse } from '../etcd/codec/maintenance.ts';
import { decodeTxnResponse, encodeTxnRequest } from '../etcd/codec/txn.ts';
import { etcdErrors, EtcdError, type EtcdErrorReason } from '../etcd/errors.ts';
import { putRequest, rangeRequest } from '../etcd/requests.ts';
import type { PutRequest, RangeRequest, RequestOp } from '../etcd/types.ts';
import { encode, WireReader } from '../etcd/wire.ts';
import type { Router } from '../router/router.ts';
import { type Passthrough } from '../store/store.ts';
import { MemoryStore, memoryRouter, TestGateway } from './server-fakes.ts';
import { requestBytesMax, txnOpsMax } from './validate.ts';
import { StatusError } from '../grpc/status.ts';
import { grpcCode } from '../grpc/codes.ts';

const noBytes = Buffer.alloc(0);

const put = (key: string, more: Partial<PutRequest> = {}) => putRequest(Buffer.from(key), noBytes, more);
const range = (key: string, more: Partial<RangeRequest> = {}) => rangeRequest(Buffer.from(key), more);
const encodePutRequest = (request: PutRequest) => encode(request, writePutRequest);
const putOp = (key: string): RequestOp => ({ type: 'put', request: put(key) });
const txnOf = (...success: RequestOp[]) => encodeTxnRequest({ compare: [], success, failure: [] });

test('kv: put, range, delete and txn carry the revision of the store', async (t) => {
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')));
  t.teardown(() => gateway.close());
  const written = readPutResponse(new WireReader(await gateway.unary('KV/Put', encodePutRequest(put('a')))));
  t.is(written.header.revision, 2n);
  const read = decodeRangeResponse(await gateway.unary('KV/Range', encodeRangeRequest(range('a'))));
  t.like(read, { count: 1, more: false });
  const txn = decodeTxnResponse(await gateway.unary('KV/Txn', txnOf(putOp('b'))));
  t.true(txn.succeeded);
  t.is(txn.header.revision, 3n);
  const request = encode(
    { key: Buffer.from('a'), rangeEnd: noBytes, prevKv: false },
    writeDeleteRangeRequest,
  );
  t.is(readDeleteRangeResponse(new WireReader(await gateway.unary('KV/DeleteRange', request))).deleted, 1);
});

const faults: readonly [string, EtcdErrorReason, string, Buffer][] = [
  ['an empty key', 'emptyKey', 'KV/Range', encodeRangeRequest(range(''))],
  ['an empty key', 'emptyKey', 'KV/Put', encodePutRequest(put(''))],
  ['an unknown order', 'invalidSortOption', 'KV/Range', Buffer.from([0x0a, 1, 97, 0x28, 9])],
  ['an op of no kind', 'keyNotFound', 'KV/Txn', Buffer.from([0x12, 0])],
  [
    'a value with ignore_value',
    'valueProvided',
    'KV/Put',
    encodePutRequest(put('a', { value: Buffer.from('x'), ignoreValue: true })),
  ],
  [
    'a lease with ignore_lease',
    'leaseProvided',
    'KV/Put',
    encodePutRequest(put('a', { lease: 1n, ignoreLease: true })),
  ],
  ['the same key twice', 'duplicateKey', 'KV/Txn', txnOf(putOp('a'), putOp('a'))],
  [
    'too many operations',
    'tooManyOps',
    'KV/Txn',
    txnOf(...Array.from({ length: txnOpsMax + 1 }, (_, index) => putOp(`a${index}`))),
  ],
  [
    'a request above the limit',
    'requestTooLarge',
    'KV/Put',
    encodePutRequest(put('a', { value: Buffer.alloc(requestBytesMax) })),
  ],
  [
    'a request above the limit and above what a gRPC server takes by default',
    'requestTooLarge',
    'KV/Put',
    encodePutRequest(put('a', { value: Buffer.alloc(5 * 1024 * 1024) })),
  ],
  ['a future revision', 'futureRevision', 'KV/Range', encodeRangeRequest(range('a', { revision: 99n }))],
];

for (const [what, reason, path, request] of faults) {
  test(`kv: ${path}: ${what} is refused with etcd's code and text`, async (t) => {
    const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')));
    t.teardown(() => gateway.close());
    const error = await t.throwsAsync<ServiceError>(gateway.unary(path, request));
    t.is(error?.code, etcdErrors[reason][0]);
    t.is(error?.details, etcdErrors[reason][1]);
  });
}

test('kv: bytes that are no message are refused and the server goes on', async (t) => {
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')));
  t.teardown(() => gateway.close());
  const garbage = Buffer.from([0x0a, 0xff, 0xff, 0xff]);
  const error = await t.throwsAsync<ServiceError>(gateway.unary('KV/Range', garbage));
  t.is(error?.code, grpcCode.invalidArgument);
  await gateway.unary('KV/Range', encodeRangeRequest(range('a')));
});

test('kv: an unforeseen error stays inside', async (t) => {
  const store = new MemoryStore('default');
  store.failure = new Error('secret at postgres://user:password@host');
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const error = await t.throwsAsync<ServiceError>(gateway.unary('KV/Range', encodeRangeRequest(range('a'))));
  t.is(error?.code, grpcCode.internal);
  t.is(error?.details, 'switchyard: internal error');
});

test('kv: a store that is down leaves the others alone', async (t) => {
  const dead = new MemoryStore('dead');
  dead.failure = new EtcdError('timeout');
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default'), { d: dead }));
  t.teardown(() => gateway.close());
  const error = await t.throwsAsync<ServiceError>(gateway.unary('KV/Put', encodePutRequest(put('d'))));
  t.is(error?.code, grpcCode.unavailable);
  await gateway.unary('KV/Put', encodePutRequest(put('a')));
});

test('kv: a txn on compact_rev_key does not wait for its note', async (t) => {
  const noted: bigint[] = [];
  const router: Router = {
    ...memoryRouter(new MemoryStore('default')),
    noteCompactTxn: (revision) => {
      noted.push(revision);
      return new Promise(() => undefined);
    },
  };
  const gateway = await TestGateway.start(router);
  t.teardown(() => gateway.close());
  const key = Buffer.from('compact_rev_key');
  const compare = { key, rangeEnd: noBytes, target: 'version', result: 'equal', operand: 0n } as const;
  const request = { compare: [compare], success: [putOp('compact_rev_key')], failure: [] };
  const answer = decodeTxnResponse(await gateway.unary('KV/Txn', encodeTxnRequest(request)));
  t.true(answer.succeeded);
  t.deepEqual(noted, [2n]);
});

test('kv: what an etcd answers passes as bytes, errors too', async (t) => {
  const seen: string[] = [];
  const passthrough: Passthrough = {
    unary: async (method, request) => {
      seen.push(method);
      if (method.endsWith('/Put')) throw new StatusError(grpcCode.unavailable, 'etcdserver: leader changed');
      return request;
    },
    stream: () => {
      throw new EtcdError('unimplemented');
    },
  };
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default', passthrough)));
  t.teardown(() => gateway.close());
  // Field 999, which no etcd knows yet.
  const future = Buffer.concat([encodeRangeRequest(range('a')), Buffer.from([0xba, 0x3e, 0x01, 0x78])]);
  t.deepEqual(await gateway.unary('KV/Range', future), future);
  const error = await t.throwsAsync<ServiceError>(gateway.unary('KV/Put', encodePutRequest(put('a'))));
  t.is(error?.details, 'etcdserver: leader changed');
  await gateway.unary('Maintenance/Status', noBytes);
  await gateway.unary('Auth/AuthStatus', noBytes);
  t.deepEqual(seen.slice(2), ['/etcdserverpb.Maintenance/Status', '/etcdserverpb.Auth/AuthStatus']);
});

test('maintenance: a default store of ours tells its status and refuses what it cannot do', async (t) => {
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')));
  t.teardown(() => gateway.close());
  const status = decodeStatusResponse(await gateway.unary('Maintenance/Status', noBytes));
  t.like(status, { version: '3.6.14', dbSize: 4096, leader: 8n, raftIndex: 1n });
  await gateway.unary('Maintenance/Alarm', noBytes);
  await gateway.unary('Maintenance/Defragment', noBytes);
  const refusedRpcs = [
    'Maintenance/Hash',
    'Maintenance/HashKV',
    'Maintenance/MoveLeader',
    'Cluster/MemberAdd',
  ];
  for (const path of [...refusedRpcs, 'Auth/AuthEnable', 'Auth/UserAdd']) {
    const error = await t.throwsAsync<ServiceError>(gateway.unary(path, noBytes));
    t.is(error?.code, grpcCode.unimplemented, path);
    t.regex(error?.details ?? '', /^switchyard: .* is not implemented/, path);
  }
});

test('kv: reads of a store that does not answer hold up none of another on the same connection', async (t) => {
  const away = new MemoryStore('away');
  const back = Promise.withResolvers<void>();
  const read = away.range.bind(away);
  away.range = async (request) => {
    await back.promise;
    return read(request);
  };
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default'), { x: away }));
  t.teardown(() => gateway.close());
  const ask = (key: string, count: number, rangeEnd = '') =>
    Array.from({ length: count }, () =>
      gateway.unary('KV/Range', encodeRangeRequest(range(key, { rangeEnd: Buffer.from(rangeEnd) }))),
    );
  const waiting = [...ask('x', 300), ...ask('x', 100, 'y')];
  await Promise.all([...ask('a', 1), ...ask('a', 1, 'b')]);
  back.resolve();
  t.is((await Promise.all(waiting)).length, 400);
});
