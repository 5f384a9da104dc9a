// A Store over a real etcd. Requests of clients go through `passthrough` as bytes; the decoded methods are for the router
// (placements, CRDs), for streams that mix stores and for tests.

import {
  decodeCompactionResponse,
  decodeRangeResponse,
  encodeCompactionRequest,
  encodeRangeRequest,
} from '../../etcd/codec/kv.ts';
import * as lease from '../../etcd/codec/lease.ts';
import { decodeStatusResponse } from '../../etcd/codec/maintenance.ts';
import { decodeTxnResponse, encodeTxnRequest } from '../../etcd/codec/txn.ts';
import { EtcdError } from '../../etcd/errors.ts';
import { headerProbe } from '../../etcd/requests.ts';
import type {
  CompactionRequest,
  CompactionResponse,
  LeaseGrantRequest,
  LeaseGrantResponse,
  LeaseId,
  LeaseKeepAliveResponse,
  LeaseLeasesResponse,
  LeaseRevokeResponse,
  LeaseTimeToLiveRequest,
  LeaseTimeToLiveResponse,
  RangeRequest,
  RangeResponse,
  Revision,
  TxnRequest,
  TxnResponse,
  WatchCreateRequest,
} from '../../etcd/types.ts';
import { systemClock, type Clock } from '../../lib/clock.ts';
import type { Logger } from '../../lib/log.ts';
import type { BackendTls, Passthrough, Store, StoreStatus, Watch } from '../store.ts';
import { EtcdConnection } from './connection.ts';
import { openEtcdWatch } from './etcd-watch.ts';
import { adoptingLeases } from './lease-adoption.ts';
import { translateStatus } from './status.ts';

const noBytes = Buffer.alloc(0);

export interface EtcdStoreOptions {
  readonly name: string;
  /** Comma-separated `http(s)://host:port` of the members; the first may have a login, `user:password@`, for all of them. */
  readonly url: string;
  readonly tls?: BackendTls;
  /** Of the login, read each time a connection is opened. */
  readonly passwordFile?: string;
  readonly logger: Logger;
  readonly clock?: Clock;
  /** Asks the store that grants leases for one this etcd does not know; undefined = it does not exist. */
  readonly findLease?: (
    id: LeaseId,
    signal: AbortSignal,
  ) => Promise<{ readonly ttlSeconds: number } | undefined>;
}

/** Opens a store over an etcd; connects at the first request. @throws Error when a TLS file cannot be read. */
export function openEtcdStore(options: EtcdStoreOptions): EtcdStore {
  return new EtcdStore(options);
}

/** See openEtcdStore. `StoreStatus.compactRevision` is always 0: etcd's Status does not tell it. */
export class EtcdStore implements Store {
  readonly name: string;
  readonly engine = 'etcd';
  readonly passthrough: Passthrough;
  readonly #connection: EtcdConnection;
  readonly #logger: Logger;
  readonly #clock: Clock;

  constructor(options: EtcdStoreOptions) {
    this.name = options.name;
    this.#logger = options.logger;
    this.#clock = options.clock ?? systemClock;
    this.#connection = new EtcdConnection(options);
    const { findLease } = options;
    this.passthrough =
      findLease === undefined
        ? this.#connection
        : adoptingLeases(this.#connection, async (id, signal) => {
            const lease = await findLease(id, signal);
            if (lease === undefined) return false;
            await this.#adopt({ id, ttl: lease.ttlSeconds }, signal);
            // A revocation goes through the store that granted the lease first: one that missed it here is seen by now.
            if ((await findLease(id, signal)) !== undefined) return true;
            await this.leaseRevoke(id, signal);
            return false;
          });
  }

  /** With all its time, not what is left of it: renewals give it the time it was granted with here. */
  async #adopt(lease: LeaseGrantRequest, signal: AbortSignal): Promise<void> {
    try {
      await this.leaseGrant(lease, signal);
    } catch (error) {
      // Another write was here first.
      if (!(error instanceof EtcdError) || error.reason !== 'leaseExists') throw error;
    }
  }

  async range(request: RangeRequest, signal: AbortSignal): Promise<RangeResponse> {
    return decodeRangeResponse(await this.#call('KV/Range', encodeRangeRequest(request), signal));
  }

  async txn(request: TxnRequest, signal: AbortSignal): Promise<TxnResponse> {
    return decodeTxnResponse(await this.#call('KV/Txn', encodeTxnRequest(request), signal));
  }

  watch(request: WatchCreateRequest, signal: AbortSignal): Promise<Watch> {
    return openEtcdWatch({
      passthrough: this.#connection,
      request,
      signal,
      logger: this.#logger,
      clock: this.#clock,
      currentRevision: (until) => this.#currentRevision(until),
    });
  }

  async compact(request: CompactionRequest, signal: AbortSignal): Promise<CompactionResponse> {
    return decodeCompactionResponse(await this.#call('KV/Compact', encodeCompactionRequest(request), signal));
  }

  async leaseGrant(request: LeaseGrantRequest, signal: AbortSignal): Promise<LeaseGrantResponse> {
    const bytes = lease.encodeLeaseGrantRequest(request);
    return lease.decodeLeaseGrantResponse(await this.#call('Lease/LeaseGrant', bytes, signal));
  }

  async leaseRevoke(id: LeaseId, signal: AbortSignal): Promise<LeaseRevokeResponse> {
    return lease.decodeLeaseRevokeResponse(
      await this.#call('Lease/LeaseRevoke', lease.encodeLeaseId(id), signal),
    );
  }

  async leaseKeepAlive(id: LeaseId, signal: AbortSignal): Promise<LeaseKeepAliveResponse> {
    const stream = this.#connection.stream('/etcdserverpb.Lease/LeaseKeepAlive', { metadata: {}, signal });
    try {
      await stream.write(lease.encodeLeaseId(id));
      for await (const bytes of stream) return lease.decodeLeaseKeepAliveResponse(bytes);
    } catch (error) {
      throw translateStatus(error);
    } finally {
      stream.cancel();
    }
    throw new EtcdError('timeout');
  }

  async leaseTimeToLive(
    request: LeaseTimeToLiveRequest,
    signal: AbortSignal,
  ): Promise<LeaseTimeToLiveResponse> {
    const bytes = lease.encodeLeaseTimeToLiveRequest(request);
    return lease.decodeLeaseTimeToLiveResponse(await this.#call('Lease/LeaseTimeToLive', bytes, signal));
  }

  async leaseLeases(signal: AbortSignal): Promise<LeaseLeasesResponse> {
    return lease.decodeLeaseLeasesResponse(await this.#call('Lease/LeaseLeases', noBytes, signal));
  }

  async status(signal: AbortSignal): Promise<StoreStatus> {
    const status = decodeStatusResponse(await this.#call('Maintenance/Status', noBytes, signal));
    return {
      revision: status.header.revision,
      compactRevision: 0n,
      dbSize: status.dbSize,
      dbSizeInUse: status.dbSizeInUse,
      version: status.version,
      clusterId: status.header.clusterId,
      memberId: status.header.memberId,
      raftTerm: status.raftTerm,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection.close();
  }

  async #currentRevision(signal: AbortSignal): Promise<Revision> {
    return (await this.range(headerProbe, signal)).header.revision;
  }

  async #call(method: string, request: Buffer, signal: AbortSignal): Promise<Buffer> {
    try {
      return await this.#connection.unary(`/etcdserverpb.${method}`, request, { metadata: {}, signal });
    } catch (error) {
      throw translateStatus(error);
    }
  }
}
