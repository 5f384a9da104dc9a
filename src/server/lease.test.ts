// The Lease service over several stores, through a real gRPC connection.

import type { ServiceError } from '@grpc/grpc-js';
import test from 'ava';
import {
  decodeLeaseGrantResponse,
  decodeLeaseKeepAliveResponse,
  decodeLeaseLeasesResponse,
  decodeLeaseTimeToLiveResponse,
  encodeLeaseGrantRequest,
  encodeLeaseId,
  encodeLeaseTimeToLiveRequest,
} from '../etcd/codec/lease.ts';
import { EtcdError, etcdErrors } from '../etcd/errors.ts';
import type { LeaseId } from '../etcd/types.ts';
import type { Logger } from '../lib/log.ts';
import { MemoryStore, memoryRouter, TestGateway } from './server-fakes.ts';
import { grpcCode } from '../grpc/codes.ts';

async function setUp() {
  const first = new MemoryStore('default');
  const second = new MemoryStore('second');
  const dead = new MemoryStore('dead');
  const gateway = await TestGateway.start(memoryRouter(first, { s: second, d: dead }));
  return { first, second, dead, gateway };
}

/** A promise that nothing resolves: the store hangs. */
const never = new Promise<void>(() => undefined);

test('lease: granted in the default store alone, under an id chosen here', async (t) => {
  const { first, second, gateway } = await setUp();
  t.teardown(() => gateway.close());
  const granted = decodeLeaseGrantResponse(
    await gateway.unary('Lease/LeaseGrant', encodeLeaseGrantRequest({ id: 0n, ttl: 60 })),
  );
  t.true(granted.id > 0n);
  t.deepEqual([...first.leases], [[granted.id, 60]]);
  t.is(second.leases.size, 0);
});

test('lease: a TTL above the limit and an id in use are refused with the texts of etcd', async (t) => {
  const { first, gateway } = await setUp();
  t.teardown(() => gateway.close());
  first.leases.set(9n, 60);
  const grant = (id: bigint, ttl: number) =>
    t.throwsAsync<ServiceError>(gateway.unary('Lease/LeaseGrant', encodeLeaseGrantRequest({ id, ttl })));
  t.is((await grant(0n, 9_000_000_001))?.details, etcdErrors.leaseTtlTooLarge[1]);
  const exists = await grant(9n, 60);
  t.is(exists?.details, etcdErrors.leaseExists[1]);
  t.is(exists?.code, grpcCode.failedPrecondition);
});

test('lease: a dead store neither fails nor holds up renewals of many leases', async (t) => {
  const { first, second, dead, gateway } = await setUp();
  t.teardown(() => gateway.close());
  dead.hold = never;
  const ids = Array.from({ length: 40 }, (_, index) => BigInt(index + 1));
  for (const id of ids) first.leases.set(id, 60);
  second.leases.set(1n, 60);
  const stream = gateway.stream('Lease/LeaseKeepAlive');
  const started = performance.now();
  for (const id of ids) stream.send(encodeLeaseId(id));
  const renewed = new Set<bigint>();
  while (renewed.size < ids.length) {
    const { id, ttl } = decodeLeaseKeepAliveResponse(await stream.next());
    t.is(ttl, 60);
    renewed.add(id);
  }
  // One after the other they would take 40 s.
  t.true(performance.now() - started < 10_000);
  stream.cancel();
});

test('lease: a lease that the default store does not know is gone', async (t) => {
  const { second, gateway } = await setUp();
  t.teardown(() => gateway.close());
  second.leases.set(5n, 60);
  const stream = gateway.stream('Lease/LeaseKeepAlive');
  stream.send(encodeLeaseId(5n));
  t.like(decodeLeaseKeepAliveResponse(await stream.next()), { id: 5n, ttl: 0 });
  stream.cancel();
});

test('lease: a renewal fails when the default store is down, and the stream with it', async (t) => {
  const { first, gateway } = await setUp();
  t.teardown(() => gateway.close());
  first.failure = new EtcdError('timeout');
  const stream = gateway.stream('Lease/LeaseKeepAlive');
  stream.send(encodeLeaseId(5n));
  const error = await t.throwsAsync<ServiceError>(stream.next());
  t.is(error?.details, etcdErrors.timeout[1]);
});

test('lease: answers come in the order of the beats, and a failed one ends the stream in its turn', async (t) => {
  const { first, gateway } = await setUp();
  t.teardown(() => gateway.close());
  const slow = Promise.withResolvers<void>();
  first.leaseKeepAlive = async (id: LeaseId) => {
    if (id === 3n) throw new EtcdError('timeout');
    if (id === 1n) await slow.promise;
    return { header: first.header, id, ttl: 60 };
  };
  const stream = gateway.stream('Lease/LeaseKeepAlive');
  for (const id of [2n, 1n, 2n, 3n, 2n]) stream.send(encodeLeaseId(id));
  const idOf = (message: Buffer) => decodeLeaseKeepAliveResponse(message).id;
  t.is(idOf(await stream.next()), 2n);
  slow.resolve();
  t.deepEqual([idOf(await stream.next()), idOf(await stream.next())], [1n, 2n]);
  const error = await t.throwsAsync<ServiceError>(stream.next());
  t.is(error?.details, etcdErrors.timeout[1]);
});

test('lease: a store that is away costs one line in the log, and one when it is back', async (t) => {
  const first = new MemoryStore('default');
  const away = new MemoryStore('away');
  away.failure = new EtcdError('timeout');
  const lines: string[] = [];
  const write = (message: string, fields?: Readonly<Record<string, unknown>>) => {
    if (message.includes('lease calls'))
      lines.push(`${message}: ${String(fields?.['missed'] ?? fields?.['error'])}`);
  };
  const logger: Logger = {
    debug: write,
    info: write,
    warn: write,
    error: write,
    writes: () => true,
    child: () => logger,
  };
  const gateway = await TestGateway.start(memoryRouter(first, { a: away }), { logger });
  t.teardown(() => gateway.close());
  for (const id of [1n, 2n]) first.leases.set(id, 60);
  const stream = gateway.stream('Lease/LeaseKeepAlive');
  const renew = async () => {
    for (const id of [1n, 2n, 1n, 2n]) stream.send(encodeLeaseId(id));
    for (let n = 0; n < 4; n++) await stream.next();
  };
  await renew();
  away.failure = undefined;
  await renew();
  stream.cancel();
  t.deepEqual(lines, [
    `store left out of lease calls: ${String(new EtcdError('timeout'))}`,
    'store answers lease calls again: 4',
  ]);
});

test('lease: one that fails in the default store is revoked nowhere', async (t) => {
  const { first, second, gateway } = await setUp();
  t.teardown(() => gateway.close());
  first.failure = new EtcdError('timeout');
  second.leases.set(5n, 60);
  const error = await t.throwsAsync<ServiceError>(gateway.unary('Lease/LeaseRevoke', encodeLeaseId(5n)));
  t.is(error?.details, etcdErrors.timeout[1]);
  t.deepEqual([...second.leases.keys()], [5n]);
});

test('lease: revoked everywhere; unknown everywhere is not found', async (t) => {
  const { first, second, dead, gateway } = await setUp();
  t.teardown(() => gateway.close());
  dead.failure = new EtcdError('timeout');
  first.leases.set(5n, 60);
  second.leases.set(5n, 60);
  second.leases.set(6n, 60);
  await gateway.unary('Lease/LeaseRevoke', encodeLeaseId(5n));
  t.deepEqual([...first.leases.keys(), ...second.leases.keys()], [6n]);
  await gateway.unary('Lease/LeaseRevoke', encodeLeaseId(6n));
  const error = await t.throwsAsync<ServiceError>(gateway.unary('Lease/LeaseRevoke', encodeLeaseId(6n)));
  t.is(error?.code, grpcCode.notFound);
  t.is(error?.details, etcdErrors.leaseNotFound[1]);
});

test('lease: time to live and the list reach every store that answers', async (t) => {
  const { first, second, dead, gateway } = await setUp();
  t.teardown(() => gateway.close());
  dead.failure = new EtcdError('timeout');
  first.leases.set(5n, 60);
  second.leases.set(5n, 60);
  second.leases.set(6n, 60);
  const request = encodeLeaseTimeToLiveRequest({ id: 5n, keys: false });
  t.is(decodeLeaseTimeToLiveResponse(await gateway.unary('Lease/LeaseTimeToLive', request)).ttl, 60);
  const list = await gateway.unary('Lease/LeaseLeases', Buffer.alloc(0));
  t.deepEqual(decodeLeaseLeasesResponse(list).leases, [5n, 6n]);
});
