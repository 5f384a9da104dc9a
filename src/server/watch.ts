// The Watch service: one WatchSession per gRPC stream. The session owns the watch ids and the order of answers; the
// watches themselves run in watch-sql.ts (a watch on a store of ours) and watch-etcd.ts (all watches that a stream has
// in one etcd, spliced as bytes).
//
// Ids. A stream whose watches are all in one place behaves as etcd does: etcd gives its own ids, SQL watches count from
// 0. As soon as a second place joins, every further watch gets an id from `mixedWatchIdMin` up, chosen here, so that
// ids can never collide.
// Order. Answers to create requests come in the order of the requests. A create whose store is slow to answer does not hold up
// cancels and progress of the watches that are there, nor, once it is given up, further creates.
// Progress. A mark with id -1 speaks for every watch of the stream, so it is sent only when all of them are in one store
// and have got the same; otherwise each watch gets a mark under its own id.

import {
  decodeWatchRequest,
  encodeWatchResponse,
  noWatchId,
  type WatchRequest,
} from '../etcd/codec/watch.ts';
import { EtcdError, etcdErrors } from '../etcd/errors.ts';
import { isEmptyRange, type KeyRange } from '../etcd/range.ts';
import type { ResponseHeader, WatchCreateRequest, WatchId } from '../etcd/types.ts';
import { inTime } from '../lib/in-time.ts';
import { type Store } from '../store/store.ts';
import type { CallContext, MessageStream } from './call.ts';
import { createHeaders, currentHeader, type Headers } from './headers.ts';
import type { Service, ServiceOptions } from './service.ts';
import { EtcdLeg } from './watch-etcd.ts';
import { StreamOutlet, type WatchOutlet } from './watch-outlet.ts';
import { StreamPace } from './watch-pace.ts';
import { ProgressRound } from './watch-progress.ts';
import { Registration } from './watch-registration.ts';
import { SqlWatch } from './watch-sql.ts';
import { WatchWeights } from './watch-weights.ts';
import { WatchedRanges } from './watched-ranges.ts';
import { StatusError } from '../grpc/status.ts';
import { grpcCode } from '../grpc/codes.ts';

/** Ids on a mixed stream start here: etcd counts its own from 0 and never gets this far. */
const mixedWatchIdMin = 2n ** 32n;
/** How long a create may take before requests behind it are looked at. */
const createPatienceMs = 500;
/** Creates of one stream that are on their way at a time, and the bytes of their requests. */
const createsUnderWayMax = 256;
const createBytesMax = 1024 * 1024;
/** Marks that progress requests get which came while the ones before were unanswered; an etcd that is behind gives them none. */
const progressAgainMax = 100;
/** What an id belongs to, and weighs. A watch that a compaction has ended keeps its id until the client cancels it, as in etcd. */
type Owner = { readonly weight: number } & ({ readonly watch: SqlWatch } | { readonly leg: EtcdLeg });

class WatchSession {
  readonly #options: ServiceOptions;
  readonly #headers: Headers;
  readonly #context: CallContext;
  readonly #stream: MessageStream;
  readonly #outlet: WatchOutlet;
  readonly #pace: StreamPace;
  readonly #failed = Promise.withResolvers<never>();
  readonly #owners = new Map<WatchId, Owner>();
  readonly #legs = new Map<Store, EtcdLeg>();
  /** The only store that ever had a watch here; `mixed` from the second one on. */
  #place: Store | 'none' | 'mixed' = 'none';
  readonly #watched = new WatchedRanges();
  #nextId = 0n;
  #nextMixedId = mixedWatchIdMin;
  #round: ProgressRound | undefined;
  /** Progress requests since the round was opened: its marks may be from before them. */
  #askedAgain = 0;
  /** The last create under way; those before it are done when it is. */
  #creating: Promise<void> | undefined;
  #createsUnderWay = 0;
  #createBytes = 0;
  readonly #weights: WatchWeights;
  /** When the last create was read. */
  #createdAt = 0;

  constructor(options: ServiceOptions, headers: Headers, stream: MessageStream, context: CallContext) {
    this.#options = options;
    this.#headers = headers;
    this.#stream = stream;
    this.#context = context;
    this.#pace = new StreamPace((store) => context.client.history(store));
    this.#weights = new WatchWeights(context.client.asked);
    const fail = (error: unknown) => this.#failed.reject(error);
    this.#outlet = new StreamOutlet(stream, { signal: context.signal, fail });
  }

  /** Serves until the client or a failure ends it; never resolves, since a stream ended with OK ends its watches for good. */
  run(): Promise<never> {
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(new EtcdError('watchCanceled'));
    this.#context.signal.addEventListener('abort', abort, { once: true });
    if (this.#context.signal.aborted) abort();
    // A client that has half-closed still gets its events, as with etcd.
    this.#receive().catch((error: unknown) => this.#failed.reject(error));
    const forget = this.#options.router.onMove((ranges, store) => this.#moved(ranges, store));
    const { progressNotifyIntervalMs } = this.#options;
    // One clock for all watches of a stream, and not the same for all streams: as in etcd.
    const intervalMs = progressNotifyIntervalMs * (1 + Math.random() / 10);
    const ticker = setInterval(() => this.#tick(), intervalMs).unref();
    return Promise.race([this.#failed.promise, aborted.promise]).finally(() => {
      clearInterval(ticker);
      forget();
      this.#weights.end();
    });
  }

  #tick(): void {
    for (const owner of this.#owners.values()) if ('watch' in owner) owner.watch.tick();
  }

  /** A watch of a type that now lives elsewhere would wait for ever: the client comes back and is led to the right store. */
  #moved(ranges: readonly KeyRange[], store: Store | undefined): void {
    if (this.#watched.moved(ranges, store)) this.#failed.reject(new EtcdError('timeout'));
  }

  #storeFor(range: KeyRange): Promise<Store> {
    return this.#watched.storeOf(range, (asked) =>
      this.#options.router.storeFor(asked, this.#context.signal),
    );
  }

  async #receive(): Promise<void> {
    for await (const message of this.#stream) {
      const request = decodeWatchRequest(message);
      if (request !== undefined) await this.#handle(request, message);
    }
    // What was asked for before the end still goes to its store.
    await this.#creating;
    for (const leg of this.#legs.values()) leg.end();
  }

  async #handle(request: WatchRequest, message: Buffer): Promise<void> {
    switch (request.type) {
      case 'create':
        return this.#enqueueCreate(request.request, message);
      case 'cancel':
        await this.#patience();
        return this.#cancel(request.watchId, message);
      case 'progress':
        await this.#patience();
        return this.#progress(message);
    }
  }

  /** Waits for the creates before a request, as long as it may be held up by them. */
  async #patience(): Promise<void> {
    if (this.#creating === undefined) return;
    const waitedMs = performance.now() - this.#createdAt;
    await inTime(this.#creating, Math.max(0, createPatienceMs - waitedMs));
  }

  /** Answers when the creates before it are answered. */
  async #enqueueCreate(asked: WatchCreateRequest, message: Buffer): Promise<void> {
    const create = this.#begin(asked, message);
    const before = this.#creating;
    this.#createsUnderWay++;
    this.#createBytes += message.length;
    this.#createdAt = performance.now();
    const creating = Promise.resolve(before)
      .then(create)
      .catch((error: unknown) => this.#failed.reject(error))
      .finally(() => {
        this.#createsUnderWay--;
        this.#createBytes -= message.length;
        if (this.#creating === creating) this.#creating = undefined;
      });
    this.#creating = creating;
    if (this.#createsUnderWay >= createsUnderWayMax || this.#createBytes >= createBytesMax) await creating;
  }

  /** Registers at once; gives what answers in its turn. */
  #begin(asked: WatchCreateRequest, message: Buffer): () => Promise<void> {
    const weight = this.#weights.take(asked.key.length + asked.rangeEnd.length);
    if (weight === undefined) {
      this.#context.client.watchRefused();
      return () => this.#createFailed(new EtcdError('tooManyRequests'));
    }
    const registration = new Registration({
      asked,
      storeFor: (range) => this.#storeFor(range),
      headerOf: (store, signal) => this.#headers.of(store, signal),
      paceOf: (store) => this.#pace.of(store),
      signal: this.#context.signal,
    });
    return () => this.#create(registration, message, weight);
  }

  async #create(registration: Registration, message: Buffer, weight: number): Promise<void> {
    const { request, range } = registration;
    let kept = weight;
    const abandon = () => {
      registration.abandon();
      this.#weights.drop(kept);
      kept = 0;
    };
    let store: Store;
    try {
      store = await registration.store;
      // The first answer of an etcd to ids of its own must be known before ids are chosen around them.
      if (this.#place !== store) for (const leg of this.#legs.values()) await leg.settled();
      const reason = this.#reasonAgainst(request, range, store);
      if (reason === undefined && store.passthrough === undefined)
        return await this.#createSql(store, registration, weight);
      abandon();
      if (reason !== undefined) return await this.#refuse(store, reason);
    } catch (error) {
      abandon();
      return this.#createFailed(error);
    }
    return this.#createEtcd(store, request, message);
  }

  /** Why the watch cannot be, in etcd's order; an etcd judges by itself, but does not know ids of other stores. */
  #reasonAgainst(request: WatchCreateRequest, range: KeyRange, store: Store): string | undefined {
    const owner = request.watchId === 0n ? undefined : this.#owners.get(request.watchId);
    const isTheirs = owner === undefined || ('leg' in owner && owner.leg === this.#legs.get(store));
    if (store.passthrough !== undefined && isTheirs) return undefined;
    if (request.startRevision < 0n) return etcdErrors.compacted[1];
    if (isEmptyRange(range)) return 'mvcc: watcher range is empty';
    return owner === undefined ? undefined : 'mvcc: duplicate watch ID provided on the WatchStream';
  }

  async #createSql(store: Store, registration: Registration, weight: number): Promise<void> {
    const { request, abort } = registration;
    const { template, watch } = await registration.registered();
    this.#join(store);
    const id = this.#choose(request.watchId, this.#place === store ? 'natural' : 'mixed');
    const sql = new SqlWatch({ id, store, watch, request, header: template, abort, outlet: this.#outlet });
    this.#owners.set(id, { watch: sql, weight });
    const header = { ...template, revision: watch.createdRevision };
    await this.#outlet.write(encodeWatchResponse({ header, watchId: id, created: true }));
    sql.start(() => this.#round?.leave(id));
  }

  #createEtcd(store: Store, request: WatchCreateRequest, message: Buffer): Promise<void> {
    let leg = this.#legs.get(store);
    if (leg === undefined) {
      const { passthrough } = store;
      if (passthrough === undefined) return Promise.resolve();
      leg = new EtcdLeg({
        passthrough,
        context: this.#context,
        outlet: this.#outlet,
        isAlone: () => this.#isAlone(store),
        created: (id, owner) => this.#owners.set(id, { leg: owner, weight: this.#weights.add(0) }),
        canceled: (id) => this.#forget(id),
      });
      this.#legs.set(store, leg);
    }
    this.#join(store);
    if (this.#place === store || request.watchId !== 0n) return leg.create(message);
    return leg.create(message, this.#choose(0n, 'mixed'));
  }

  #join(store: Store): void {
    if (this.#place === 'none') this.#place = store;
    else if (this.#place !== store) this.#place = 'mixed';
  }

  #choose(asked: WatchId, from: 'natural' | 'mixed'): WatchId {
    if (asked !== 0n) return asked;
    if (from === 'mixed') {
      while (this.#owners.has(this.#nextMixedId)) this.#nextMixedId++;
      return this.#nextMixedId++;
    }
    while (this.#owners.has(this.#nextId)) this.#nextId++;
    return this.#nextId++;
  }

  /** Created and canceled at once, as etcd answers a watch that cannot be. */
  async #refuse(store: Store, cancelReason: string): Promise<void> {
    const header = await currentHeader(store, this.#context.signal);
    const refused = { watchId: noWatchId, created: true, canceled: true, cancelReason };
    await this.#outlet.write(encodeWatchResponse({ header, ...refused }));
  }

  /**
   * A store that cannot be reached ends a stream that has nothing else, so that the client comes back by itself; watches
   * in other stores are not disturbed for it.
   */
  async #createFailed(error: unknown): Promise<void> {
    if (!(error instanceof EtcdError) && !(error instanceof StatusError)) throw error;
    if (error.code === grpcCode.unavailable && this.#owners.size === 0) throw error;
    const header: ResponseHeader = {
      clusterId: 0n,
      memberId: this.#options.identity.memberId,
      revision: 0n,
      raftTerm: 0n,
    };
    const refused = { watchId: noWatchId, created: true, canceled: true, cancelReason: error.message };
    await this.#outlet.write(encodeWatchResponse({ header, ...refused }));
  }

  async #cancel(id: WatchId, message: Buffer): Promise<void> {
    // The id may be one that the client has chosen for the watch that is being created.
    if (!this.#owners.has(id)) await this.#creating;
    const owner = this.#owners.get(id);
    if (owner === undefined) {
      // Perhaps a watch that an etcd has not answered yet; etcd ignores ids it does not know.
      for (const leg of this.#legs.values()) await leg.forward(message);
      return;
    }
    if ('leg' in owner) return owner.leg.forward(message);
    this.#forget(id);
    await owner.watch.cancel();
  }

  #forget(id: WatchId): void {
    this.#weights.drop(this.#owners.get(id)?.weight ?? 0);
    this.#owners.delete(id);
    this.#round?.leave(id);
  }

  #sqlWatches(): SqlWatch[] {
    return [...this.#owners.values()].flatMap((owner) => ('watch' in owner ? [owner.watch] : []));
  }

  /** True when every live watch of the stream is in `store`. */
  #isAlone(store: Store): boolean {
    for (const owner of this.#owners.values()) {
      const place = 'watch' in owner ? owner.watch.store : this.#storeOf(owner.leg);
      if (place !== store) return false;
    }
    return true;
  }

  #storeOf(leg: EtcdLeg): Store | undefined {
    for (const [store, candidate] of this.#legs) if (candidate === leg) return store;
    return undefined;
  }

  /** A stream without watches gets no answer, as with etcd: there is nothing to be said about any timeline. */
  async #progress(message: Buffer): Promise<void> {
    for (const leg of this.#legs.values()) await leg.forward(message);
    this.#askSql();
  }

  #askSql(times = 1): void {
    const watches = this.#sqlWatches();
    const live = watches.filter(({ isLive }) => isLive);
    const [first] = live;
    if (first === undefined) return;
    if (!this.#isAlone(first.store)) {
      for (const watch of live) watch.requestOwnProgress();
      return;
    }
    // etcd has nothing to say for all while one of them has ended and not been cancelled.
    if (live.length < watches.length) return;
    if (this.#round?.isOpen === true) {
      this.#askedAgain = Math.min(this.#askedAgain + times, progressAgainMax);
      return;
    }
    this.#askedAgain = 0;
    this.#round = new ProgressRound(watches, {
      outlet: this.#outlet,
      times,
      areAll: (members) => {
        if (this.#owners.size !== members.size) return false;
        return [...this.#owners].every(([id, owner]) => 'watch' in owner && owner.watch === members.get(id));
      },
      answered: () => {
        if (this.#askedAgain > 0) this.#askSql(this.#askedAgain);
      },
    });
  }
}

/** The Watch service over `router`. */
export function createWatchService(options: ServiceOptions): Service {
  const headers = createHeaders();
  return {
    bidi: {
      Watch: (stream, context) => new WatchSession(options, headers, stream, context).run(),
    },
  };
}
