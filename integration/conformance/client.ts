// A plain gRPC client of etcd's API over our codec, for the tests and the benchmark: one call is one RPC, nothing is
// retried, and an error is what the server said, code and text.

import {
  Client,
  credentials,
  type ChannelCredentials,
  type ChannelOptions,
  type ServiceError,
} from '@grpc/grpc-js';
import {
  decodeCompactionResponse,
  decodeRangeResponse,
  encodeCompactionRequest,
  encodeRangeRequest,
  readDeleteRangeResponse,
  readPutResponse,
  writeDeleteRangeRequest,
  writePutRequest,
} from '../../src/etcd/codec/kv.ts';
import * as lease from '../../src/etcd/codec/lease.ts';
import { decodeStatusResponse } from '../../src/etcd/codec/maintenance.ts';
import { decodeTxnResponse, encodeTxnRequest } from '../../src/etcd/codec/txn.ts';
import type { KeyRange } from '../../src/etcd/range.ts';
import type { LeaseId, TxnRequest } from '../../src/etcd/types.ts';
import { encode, WireReader } from '../../src/etcd/wire.ts';
import { WatchGuard } from '../guarantees/guard.ts';
import type { StreamRecording } from '../guarantees/recording.ts';
import { deleteRequest, putRequest, rangeRequest, txnRequest } from './requests.ts';
import { WatchStream } from './watch-stream.ts';

const identity = (message: Buffer) => message;
const noBytes = Buffer.alloc(0);
/** A call that takes longer has failed. */
const callMsMax = 30_000;
/** The same for a stream that a test may read slowly. */
const streamMsMax = 120_000;

/** What a server answered instead of a response. */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly code: number;
  readonly details: string;

  constructor({ code, details }: { readonly code: number; readonly details: string }) {
    super(`${code} ${details}`);
    this.code = code;
    this.details = details;
  }
}

export interface EtcdClientOptions {
  readonly credentials?: ChannelCredentials;
  readonly channel?: ChannelOptions;
  /** How long a call may take; default half a minute. */
  readonly callMsMax?: number;
  /** More endpoints of the same servers, for when the first is gone. */
  readonly others?: readonly string[];
}

/** A connection to one endpoint (`http://host:port`, with TLS `https://host:port`). */
export class EtcdClient {
  readonly endpoint: string;
  readonly #client: Client;
  readonly #callMsMax: number;
  #guard: WatchGuard | undefined;

  constructor(endpoint: string, options: EtcdClientOptions = {}) {
    this.endpoint = endpoint;
    this.#callMsMax = options.callMsMax ?? callMsMax;
    const hosts = [endpoint, ...(options.others ?? [])].map((each) => new URL(each).host);
    const target = hosts.length === 1 ? hosts[0]! : `ipv4:${hosts.join(',')}`;
    this.#client = new Client(target, options.credentials ?? credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc.use_local_subchannel_pool': 1,
      'grpc-node.flow_control_window': 8 * 1024 * 1024,
      ...options.channel,
    });
  }

  close(): void {
    this.#client.close();
  }

  /** From now on the watches and writes of this client are written down, to be judged by what happens in `range`; default all keys. */
  async guard(range?: KeyRange): Promise<WatchGuard> {
    this.#guard = await WatchGuard.open((request) => this.range(request.key, request), range);
    return this.#guard;
  }

  /** Any RPC of one request and one response, in bytes. `method`: `KV/Range`, or a whole path. @throws RpcError */
  async unary(method: string, request: Buffer): Promise<Buffer> {
    await this.#guard?.asking(method);
    const response = await this.#call(method, request);
    this.#guard?.answered(method, request, response);
    return response;
  }

  #call(method: string, request: Buffer): Promise<Buffer> {
    const path = method.startsWith('/') ? method : `/etcdserverpb.${method}`;
    const deadline = Date.now() + this.#callMsMax;
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path,
        identity,
        identity,
        request,
        { deadline },
        (error: ServiceError | null, response?: Buffer) => {
          if (error === null && response !== undefined) resolve(response);
          else reject(new RpcError(error ?? { code: 13, details: 'no response' }));
        },
      );
    });
  }

  async range(...request: Parameters<typeof rangeRequest>) {
    return decodeRangeResponse(await this.unary('KV/Range', encodeRangeRequest(rangeRequest(...request))));
  }

  async put(...request: Parameters<typeof putRequest>) {
    const message = encode(putRequest(...request), writePutRequest);
    return readPutResponse(new WireReader(await this.unary('KV/Put', message)));
  }

  async delete(...request: Parameters<typeof deleteRequest>) {
    const message = encode(deleteRequest(...request), writeDeleteRangeRequest);
    return readDeleteRangeResponse(new WireReader(await this.unary('KV/DeleteRange', message)));
  }

  async txn(request: Partial<TxnRequest>) {
    return decodeTxnResponse(await this.unary('KV/Txn', encodeTxnRequest(txnRequest(request))));
  }

  async compact(revision: bigint, mode: 'logical' | 'physical' = 'logical') {
    const message = encodeCompactionRequest({ revision, physical: mode === 'physical' });
    return decodeCompactionResponse(await this.unary('KV/Compact', message));
  }

  /** Id 0: the server chooses. */
  async grant(ttl: number, id: LeaseId = 0n) {
    const message = lease.encodeLeaseGrantRequest({ ttl, id });
    return lease.decodeLeaseGrantResponse(await this.unary('Lease/LeaseGrant', message));
  }

  async revoke(id: LeaseId) {
    return lease.decodeLeaseRevokeResponse(await this.unary('Lease/LeaseRevoke', lease.encodeLeaseId(id)));
  }

  async timeToLive(id: LeaseId, ask: 'keys' | 'no keys' = 'keys') {
    const message = lease.encodeLeaseTimeToLiveRequest({ id, keys: ask === 'keys' });
    return lease.decodeLeaseTimeToLiveResponse(await this.unary('Lease/LeaseTimeToLive', message));
  }

  async leases() {
    return lease.decodeLeaseLeasesResponse(await this.unary('Lease/LeaseLeases', noBytes));
  }

  /** The answers to one request, each as it is asked for; who leaves early cancels the call. @throws RpcError */
  async *serverStream(method: string, request: Buffer): AsyncGenerator<Buffer, void, void> {
    const path = `/etcdserverpb.${method}`;
    const deadline = Date.now() + streamMsMax;
    const call = this.#client.makeServerStreamRequest(path, identity, identity, request, { deadline });
    try {
      for await (const message of call) yield message as Buffer;
    } catch (error) {
      throw new RpcError(error as ServiceError);
    } finally {
      call.cancel();
    }
  }

  /** A beat for each of `ids` over one stream that is then half-closed; the answers in their order once it has ended. */
  keepAlives(
    ids: readonly LeaseId[],
  ): Promise<readonly ReturnType<typeof lease.decodeLeaseKeepAliveResponse>[]> {
    const path = '/etcdserverpb.Lease/LeaseKeepAlive';
    const deadline = Date.now() + callMsMax;
    const call = this.#client.makeBidiStreamRequest(path, identity, identity, { deadline });
    const answers: ReturnType<typeof lease.decodeLeaseKeepAliveResponse>[] = [];
    return new Promise((resolve, reject) => {
      call.on('error', (error: ServiceError) => reject(new RpcError(error)));
      call.on('data', (message: Buffer) => answers.push(lease.decodeLeaseKeepAliveResponse(message)));
      call.on('end', () => resolve(answers));
      for (const id of ids) call.write(lease.encodeLeaseId(id));
      call.end();
    });
  }

  /** One beat over a stream of its own. */
  keepAlive(id: LeaseId): Promise<ReturnType<typeof lease.decodeLeaseKeepAliveResponse>> {
    const call = this.#client.makeBidiStreamRequest(
      '/etcdserverpb.Lease/LeaseKeepAlive',
      identity,
      identity,
      {
        deadline: Date.now() + callMsMax,
      },
    );
    return new Promise((resolve, reject) => {
      call.on('error', (error: ServiceError) => reject(new RpcError(error)));
      call.on('end', () => reject(new RpcError({ code: 0, details: 'the stream ended' })));
      call.on('data', (message: Buffer) => {
        resolve(lease.decodeLeaseKeepAliveResponse(message));
        call.end();
      });
      call.write(lease.encodeLeaseId(id));
    });
  }

  /** Opens a watch stream. `metadata` as clientv3 sends it. With a recording of its own it is not this client's guard that judges it. */
  watchStream(recording?: StreamRecording): WatchStream {
    if (recording !== undefined) return new WatchStream(this.#client, recording);
    if (this.#guard === undefined) return new WatchStream(this.#client);
    return this.#guard.follow((recording) => new WatchStream(this.#client, recording));
  }

  async status() {
    return decodeStatusResponse(await this.unary('Maintenance/Status', noBytes));
  }
}
