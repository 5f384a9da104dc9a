// Fakes of our own interfaces for the tests of this folder: a Store in memory, small but with etcd's revisions, history and
// watches; a router by key prefix; and a real server over them with a real gRPC client.

import { Client, credentials, Metadata, type ClientDuplexStream, type ServiceError } from '@grpc/grpc-js';
import { EtcdError } from '../etcd/errors.ts';
import { contains, keyRange } from '../etcd/range.ts';
import { rangeRequest } from '../etcd/requests.ts';
import type {
  Compare,
  Event,
  KeyValue,
  LeaseId,
  RangeRequest,
  RangeResponse,
  RequestOp,
  ResponseHeader,
  ResponseOp,
  Revision,
  TxnRequest,
  TxnResponse,
  WatchCreateRequest,
} from '../etcd/types.ts';
import { systemClock } from '../lib/clock.ts';
import { parseListenUrl } from '../lib/listen-url.ts';
import { silentLogger } from '../lib/log.ts';
import { Observers } from '../lib/observer.ts';
import type { Router } from '../router/router.ts';
import type { Passthrough, Store, StoreStatus, Watch, WatchBatch } from '../store/store.ts';
import { startServer, type RunningServer, type ServerOptions } from './server.ts';

const noBytes = Buffer.alloc(0);

/** One watch of a MemoryStore. */
class MemoryWatch implements Watch {
  readonly createdRevision: Revision;
  readonly #store: MemoryStore;
  readonly #request: WatchCreateRequest;
  readonly #signal: AbortSignal;
  #through: Revision;
  #progress = false;
  #wake = Promise.withResolvers<void>();

  constructor(store: MemoryStore, request: WatchCreateRequest, signal: AbortSignal) {
    this.#store = store;
    this.#request = request;
    this.#signal = signal;
    this.createdRevision = store.revision;
    this.#through = request.startRevision > 0n ? request.startRevision - 1n : store.revision;
    signal.addEventListener('abort', () => this.wake(), { once: true });
  }

  get revision(): Revision {
    return this.#store.revision;
  }

  wake(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  requestProgress(): void {
    const due = () => {
      this.#progress = true;
      this.wake();
    };
    if (this.#store.holdMarks === undefined) due();
    else void this.#store.holdMarks.then(due);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<WatchBatch> {
    const range = keyRange(this.#request.key, this.#request.rangeEnd);
    while (!this.#signal.aborted) {
      const woken = this.#wake.promise;
      if (this.#through + 1n < this.#store.compactRevision)
        throw new EtcdError('compacted', { compactRevision: this.#store.compactRevision });
      const { revision } = this.#store;
      const events = this.#store.events.filter(
        ({ kv }) => kv.modRevision > this.#through && contains(range, kv.key),
      );
      if (revision > this.#through) this.#through = revision;
      if (events.length > 0) yield { events, revision };
      else if (this.#progress) {
        this.#progress = false;
        yield { events: [], revision };
      } else await woken;
    }
  }
}

/**
 * A store in memory. `failure` makes every call reject with it; `hold` makes every call wait for it first, `holdMarks` every
 * progress mark.
 */
export class MemoryStore implements Store {
  readonly name: string;
  readonly engine = 'sqlite';
  readonly passthrough?: Passthrough;
  readonly events: Event[] = [];
  readonly leases = new Map<LeaseId, number>();
  revision = 1n;
  compactRevision = 0n;
  failure: Error | undefined;
  hold: Promise<void> | undefined;
  holdMarks: Promise<void> | undefined;
  closed = false;
  readonly #watches = new Set<MemoryWatch>();
  readonly #live = new Map<string, KeyValue>();

  constructor(name: string, passthrough?: Passthrough) {
    this.name = name;
    if (passthrough !== undefined) this.passthrough = passthrough;
  }

  get header(): ResponseHeader {
    return { clusterId: 7n, memberId: 8n, revision: this.revision, raftTerm: 1n };
  }

  /** Writes one pair, as a client elsewhere would. */
  put(key: string, value = ''): void {
    this.#commit([this.#put(Buffer.from(key), Buffer.from(value), 0n)]);
  }

  async range(request: RangeRequest): Promise<RangeResponse> {
    await this.#gate();
    if (request.revision > this.revision) throw new EtcdError('futureRevision');
    return this.#range(request);
  }

  async txn(request: TxnRequest): Promise<TxnResponse> {
    await this.#gate();
    const succeeded = request.compare.every((compare) => this.#holds(compare));
    const events: Event[] = [];
    const ops = succeeded ? request.success : request.failure;
    const responses = ops.map((op) => this.#apply(op, events));
    this.#commit(events);
    return { header: this.header, succeeded, responses };
  }

  async watch(request: WatchCreateRequest, signal: AbortSignal): Promise<Watch> {
    await this.#gate();
    signal.throwIfAborted();
    const watch = new MemoryWatch(this, request, signal);
    this.#watches.add(watch);
    signal.addEventListener('abort', () => this.#watches.delete(watch), { once: true });
    return watch;
  }

  async compact({ revision }: { revision: Revision }) {
    await this.#gate();
    this.compactRevision = revision;
    for (const watch of this.#watches) watch.wake();
    return { header: this.header };
  }

  async leaseGrant({ id, ttl }: { id: LeaseId; ttl: number }) {
    await this.#gate();
    if (this.leases.has(id)) throw new EtcdError('leaseExists');
    this.leases.set(id, ttl);
    return { header: this.header, id, ttl };
  }

  async leaseRevoke(id: LeaseId) {
    await this.#gate();
    if (!this.leases.delete(id)) throw new EtcdError('leaseNotFound');
    return { header: this.header };
  }

  async leaseKeepAlive(id: LeaseId) {
    await this.#gate();
    return { header: this.header, id, ttl: this.leases.get(id) ?? 0 };
  }

  async leaseTimeToLive({ id }: { id: LeaseId }) {
    await this.#gate();
    const ttl = this.leases.get(id) ?? -1;
    return { header: this.header, id, ttl, grantedTtl: Math.max(ttl, 0), keys: [] };
  }

  async leaseLeases() {
    await this.#gate();
    return { header: this.header, leases: [...this.leases.keys()] };
  }

  async status(): Promise<StoreStatus> {
    await this.#gate();
    const { clusterId, memberId, revision, raftTerm } = this.header;
    const sizes = { dbSize: 4096, dbSizeInUse: 4096, version: '3.6.14' };
    return { revision, compactRevision: this.compactRevision, ...sizes, clusterId, memberId, raftTerm };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closed = true;
  }

  /** Watches registered and not ended. */
  get watchCount(): number {
    return this.#watches.size;
  }

  async #gate(): Promise<void> {
    if (this.hold !== undefined) await this.hold;
    if (this.failure !== undefined) throw this.failure;
  }

  #range(request: RangeRequest): RangeResponse {
    const range = keyRange(request.key, request.rangeEnd);
    const all = [...this.#live.values()].filter(({ key }) => contains(range, key));
    all.sort((a, b) => Buffer.compare(a.key, b.key));
    const kvs = request.countOnly ? [] : request.limit > 0 ? all.slice(0, request.limit) : all;
    return {
      header: this.header,
      kvs,
      more: !request.countOnly && kvs.length < all.length,
      count: all.length,
    };
  }

  #holds(compare: Compare): boolean {
    const kv = this.#live.get(compare.key.toString('latin1'));
    const found = compare.target === 'version' ? (kv?.version ?? 0n) : (kv?.modRevision ?? 0n);
    return found === compare.operand;
  }

  #put(key: Buffer, value: Buffer, lease: LeaseId): Event {
    const prevKv = this.#live.get(key.toString('latin1'));
    const modRevision = this.revision + 1n;
    const createRevision = prevKv?.createRevision ?? modRevision;
    const kv = { key, value, lease, createRevision, modRevision, version: (prevKv?.version ?? 0n) + 1n };
    return prevKv === undefined ? { type: 'put', kv } : { type: 'put', kv, prevKv };
  }

  #apply(op: RequestOp, events: Event[]): ResponseOp {
    const header = this.header;
    switch (op.type) {
      case 'range':
        return { type: 'range', response: this.#range(op.request) };
      case 'put':
        events.push(this.#put(op.request.key, op.request.value, op.request.lease));
        return { type: 'put', response: { header } };
      case 'deleteRange': {
        const { kvs } = this.#range(rangeRequest(op.request.key, { rangeEnd: op.request.rangeEnd }));
        const zero = { createRevision: 0n, version: 0n, value: noBytes, lease: 0n };
        for (const prevKv of kvs) {
          const kv = { ...zero, key: prevKv.key, modRevision: this.revision + 1n };
          events.push({ type: 'delete', kv, prevKv });
        }
        return { type: 'deleteRange', response: { header, deleted: kvs.length, prevKvs: [] } };
      }
      case 'txn':
        throw new EtcdError('unimplemented');
    }
  }

  #commit(events: readonly Event[]): void {
    if (events.length === 0) return;
    this.revision += 1n;
    for (const event of events) {
      if (event.type === 'put') this.#live.set(event.kv.key.toString('latin1'), event.kv);
      else this.#live.delete(event.kv.key.toString('latin1'));
      this.events.push(event);
    }
    for (const watch of this.#watches) watch.wake();
  }
}

/** Routes by the first letter of the key: `rules` by letter, else the default store. */
export function memoryRouter(defaultStore: Store, rules: Readonly<Record<string, Store>> = {}): Router {
  const storeOf = (key: Buffer) => rules[key.toString('latin1', 0, 1)] ?? defaultStore;
  return {
    defaultStore,
    stores: () => [...new Set([defaultStore, ...Object.values(rules)])],
    storeFor: async (range) => storeOf(range.start),
    storeForAll: async ([range]) => (range === undefined ? defaultStore : storeOf(range.start)),
    typeOf: (range) => `type ${range.start.toString('latin1', 0, 1)}`,
    compact: (request, signal) => defaultStore.compact(request, signal),
    noteCompactTxn: async () => undefined,
    onMove: () => () => undefined,
    mismatches: () => [{ root: 'example.com/things', recorded: 'default', wished: 'other' }],
    unserved: () => [],
    close: async () => undefined,
  };
}

const identity = (bytes: Buffer) => bytes;

/** A bidirectional stream as a test sees it. */
export class TestStream {
  readonly #call: ClientDuplexStream<Buffer, Buffer>;
  readonly #messages: AsyncIterator<Buffer>;
  constructor(call: ClientDuplexStream<Buffer, Buffer>) {
    this.#call = call;
    this.#messages = call[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }
  send(message: Buffer): void {
    this.#call.write(message);
  }
  /** The next message. @throws ServiceError at the stream's end. */
  async next(): Promise<Buffer> {
    const { done, value } = await this.#messages.next();
    if (done === true) throw new Error('Expected a message, got the end of the stream');
    return value;
  }
  cancel(): void {
    this.#call.cancel();
  }
}

/** A server on a free port and a client of it. */
export class TestGateway {
  readonly server: RunningServer;
  readonly #client: Client;

  private constructor(server: RunningServer) {
    this.server = server;
    this.#client = new Client(new URL(server.clientUrls[0]!).host, credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
    });
  }

  static async start(router: Router, options: Partial<ServerOptions> = {}): Promise<TestGateway> {
    const anyPort = parseListenUrl('http://127.0.0.1:0')!;
    const server = await startServer({
      router,
      name: 'test',
      memberId: 8n,
      listenClientUrls: [anyPort],
      listenMetricsUrls: [anyPort],
      advertiseClientUrls: [],
      progressNotifyIntervalMs: 600_000,
      shutdownDelayMs: 0,
      drainTimeoutMs: 2_000,
      version: '0.0.0',
      logger: silentLogger,
      clock: systemClock,
      observers: new Observers(),
      slowRequestsMs: Number.POSITIVE_INFINITY,
      slowStatementsMs: Number.POSITIVE_INFINITY,
      onBroken: (error) => {
        throw error;
      },
      ...options,
    });
    return new TestGateway(server);
  }

  /** @throws ServiceError. */
  unary(path: string, request: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) =>
      this.#client.makeUnaryRequest(
        `/etcdserverpb.${path}`,
        identity,
        identity,
        request,
        new Metadata(),
        (error: ServiceError | null, response?: Buffer) =>
          error === null ? resolve(response!) : reject(error),
      ),
    );
  }

  stream(path: string): TestStream {
    return new TestStream(
      this.#client.makeBidiStreamRequest(`/etcdserverpb.${path}`, identity, identity, new Metadata()),
    );
  }

  async close(): Promise<void> {
    this.#client.close();
    await this.server.drain();
  }
}
