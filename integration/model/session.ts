// Plays a random history on several gateways of one store, and has its answers explained by the model after each step.

import { checkTxn } from '../../src/server/validate.ts';
import { EtcdError } from '../../src/etcd/errors.ts';
import { isEmptyRange, isFromKey, keyRange } from '../../src/etcd/range.ts';
import type { LeaseId, RequestOp, Revision, TxnRequest } from '../../src/etcd/types.ts';
import { isReadOnly } from '../../src/store/sql/write/txn.ts';
import type { Store } from '../../src/store/store.ts';
import { deleteRequest, fromKey, putRequest, txnRequest } from '../conformance/requests.ts';
import { soon } from '../stores.ts';
import { explain, type Call } from './explain.ts';
import { initialState, overLeases, pass, type Request, type Response, type State } from './model.ts';
import { Recording } from './recording.ts';
import {
  crowd,
  fillers,
  gatewaysMax,
  placed,
  placedWatch,
  type Action,
  type Client,
  type Step,
} from './steps.ts';

/** A store that may be opened several times. */
export interface Place {
  open(): Promise<Store>;
  /** Where the store's clock can be set: it goes on by so much; a lease expires if it is over by it. */
  readonly time?: {
    pass(seconds: number): Promise<void>;
    expire(id: LeaseId): Promise<{ readonly revision: Revision; readonly found: boolean }>;
  };
  /** A txn under way when it is closed may be done without an answer. */
  readonly losesAnswers: boolean;
  /** See ExplainOptions. */
  readonly isOrderOfEqualsOpen: boolean;
  dispose(): Promise<void>;
}

/** What has been done so far, for the log. */
export interface Tally {
  requests: number;
  reads: number;
}

/** The stores of a place, opened once for many histories. */
export class Gateways {
  readonly place: Place;
  readonly tally: Tally = { requests: 0, reads: 0 };
  readonly #stores: Store[];
  readonly #restarts = new Map<number, Promise<void>>();
  readonly #closed = new WeakSet<Store>();
  readonly #held = new Map<Store, number>();

  constructor(place: Place, stores: Store[]) {
    this.place = place;
    this.#stores = stores;
  }

  static async open(place: Place): Promise<Gateways> {
    return new Gateways(place, await Promise.all(Array.from({ length: gatewaysMax }, () => place.open())));
  }

  at(index: number): Store {
    return this.#stores[index]!;
  }

  /** One that is not being closed, and will not be before it is released as often as it was held. */
  async hold(index: number): Promise<Store> {
    while (this.isClosed(this.at(index))) await this.#restarts.get(index);
    const store = this.at(index);
    this.#held.set(store, (this.#held.get(store) ?? 0) + 1);
    return store;
  }

  release(store: Store): void {
    const left = this.#held.get(store)! - 1;
    if (left === 0) this.#held.delete(store);
    else this.#held.set(store, left);
  }

  isClosed(store: Store): boolean {
    return this.#closed.has(store);
  }

  /** Closes one and opens it again; who asks meanwhile waits for the same. */
  restart(index: number): Promise<void> {
    const reopen = async () => {
      while (this.#held.has(this.at(index))) await new Promise((resolve) => setImmediate(resolve));
      this.#closed.add(this.at(index));
      await this.at(index)[Symbol.asyncDispose]();
      this.#stores[index] = await this.place.open();
      this.#restarts.delete(index);
    };
    const restart = this.#restarts.get(index) ?? reopen();
    this.#restarts.set(index, restart);
    return restart;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#stores.map((store) => store[Symbol.asyncDispose]()));
    await this.place.dispose();
  }
}

/** One history, from an empty store on. */
export class Session {
  readonly #gateways: Gateways;
  readonly #start: Revision;
  #state: State;
  #acknowledged: Revision;
  #ticks = 0;
  #calls: Call[] = [];
  readonly #watches = new Map<number, { readonly recording: Recording; readonly gateway: number }>();

  constructor(gateways: Gateways, state: State, start: Revision) {
    this.#gateways = gateways;
    this.#state = state;
    this.#start = start;
    this.#acknowledged = start;
  }

  /** Removes what the history before left, and compacts it. */
  static async begin(gateways: Gateways): Promise<Session> {
    const store = gateways.at(0);
    for (const id of (await store.leaseLeases(soon())).leases) await store.leaseRevoke(id, soon());
    const all = deleteRequest('\0', { rangeEnd: fromKey });
    await store.txn(txnRequest({ success: [{ type: 'deleteRange', request: all }] }), soon());
    const put = putRequest('base', 'base');
    const { header } = await store.txn(txnRequest({ success: [{ type: 'put', request: put }] }), soon());
    const { revision } = header;
    await store.compact({ revision, physical: false }, soon());
    const { key, value } = put;
    const kv = { key, createRevision: revision, modRevision: revision, version: 1n, value, lease: 0n };
    return new Session(gateways, initialState(revision, [kv]), revision);
  }

  /** @throws Error when an answer or an event is not the model's. */
  async play(steps: readonly Step[]): Promise<void> {
    try {
      for (const [index, step] of steps.entries()) {
        try {
          await this.#step(step);
        } catch (error) {
          throw new Error(`Step ${index} of ${steps.length} (${step.do}): ${(error as Error).message}`, {
            cause: error,
          });
        }
      }
      await this.#readAll();
    } finally {
      for (const { recording } of this.#watches.values()) recording.cancel();
    }
  }

  async #step(step: Step): Promise<void> {
    switch (step.do) {
      case 'together':
        return await this.#together(step.clients);
      case 'fill':
        return await this.#together(fillers(step));
      case 'crowd':
        return await this.#together(crowd(step));
      case 'alone': {
        const { request, gateway } = step;
        // Whether one that is over can be renewed until it is removed is left open.
        if (request.do === 'keepAlive' && overLeases(this.#state).includes(request.id)) return;
        return await this.#together([{ gateway, actions: [request] }]);
      }
      case 'pass': {
        const { time } = this.#gateways.place;
        if (time === undefined) return;
        await time.pass(step.seconds);
        this.#state = pass(this.#state, step.seconds);
        return;
      }
    }
  }

  /** Every client at the same time; then everything is compared. */
  async #together(clients: readonly Client[]): Promise<void> {
    this.#calls = [];
    const outcomes = await Promise.allSettled(clients.map((client) => this.#act(client)));
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason as Error;
    this.#state = explain(this.#state, this.#calls, this.#gateways.place);
    for (const { recording } of this.#watches.values()) recording.compare(this.#state);
  }

  async #act({ gateway, actions }: Client): Promise<void> {
    for (const action of actions) await this.#do(gateway, action);
  }

  async #do(gateway: number, action: Action): Promise<void> {
    switch (action.do) {
      case 'watch':
        return await this.#watch(gateway, action);
      case 'read':
        return await this.#read(action.slot, action.batches);
      case 'cancel':
        this.#watches.get(action.slot)?.recording.cancel();
        this.#watches.delete(action.slot);
        return;
      case 'restart':
        return await this.#gateways.restart(gateway);
      case 'range':
      case 'txn':
      case 'compact':
      case 'grant':
      case 'revoke':
      case 'expire':
      case 'keepAlive':
      case 'timeToLive':
      case 'leases':
        return await this.#call(gateway, action);
    }
  }

  async #call(gateway: number, unplaced: Request): Promise<void> {
    const request = placed(unplaced, { start: this.#start, acknowledged: this.#acknowledged });
    if (request.do === 'txn' && !isValid(request)) return;
    if (request.do === 'expire' && this.#gateways.place.time === undefined) return;
    // One whose answer gets lost may have been done, which no revision shows.
    const { losesAnswers } = this.#gateways.place;
    const isSilent = losesAnswers || request.do === 'grant' || request.do === 'compact';
    const store = isSilent ? await this.#gateways.hold(gateway) : this.#gateways.at(gateway);
    const began = ++this.#ticks;
    let result: Call['result'];
    try {
      const response = await this.#ask(store, request);
      result = { response };
      if (response.header.revision > this.#acknowledged) this.#acknowledged = response.header.revision;
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      // Closed under it: if anything of a txn has been done all the same, its revision will be nobody's.
      const isRead = request.do === 'range' || (request.do === 'txn' && isReadOnly(request.request));
      const reasons = isRead ? closed : closed.slice(0, 1);
      if (this.#gateways.isClosed(store) && reasons.includes(error.reason)) return;
      result = { reason: error.reason };
    } finally {
      if (isSilent) this.#gateways.release(store);
    }
    this.#gateways.tally.requests++;
    this.#calls.push({ request, began, ended: ++this.#ticks, result });
  }

  #ask(store: Store, request: Request): Promise<Response> {
    switch (request.do) {
      case 'range':
        return store.range(request.request, soon());
      case 'txn':
        return store.txn(request.request, soon());
      case 'compact':
        return store.compact({ revision: request.revision, physical: false }, soon());
      case 'grant':
        return store.leaseGrant({ id: request.id, ttl: request.ttl }, soon());
      case 'revoke':
        return store.leaseRevoke(request.id, soon());
      case 'expire':
        return this.#expire(request.id);
      case 'keepAlive':
        return store.leaseKeepAlive(request.id, soon());
      case 'timeToLive':
        return store.leaseTimeToLive({ id: request.id, keys: true }, soon());
      case 'leases':
        return store.leaseLeases(soon());
    }
  }

  async #expire(id: LeaseId): Promise<Response> {
    const { revision, found } = await this.#gateways.place.time!.expire(id);
    return { header: { clusterId: 0n, memberId: 0n, revision, raftTerm: 0n }, found };
  }

  async #watch(gateway: number, action: Extract<Action, { do: 'watch' }>): Promise<void> {
    const acknowledged = this.#acknowledged;
    const request = placedWatch(action.request, { start: this.#start, acknowledged });
    if (isEmptyRange(keyRange(request.key, request.rangeEnd))) return;
    const store = this.#gateways.at(gateway);
    let recording: Recording;
    try {
      recording = await Recording.open(store, request);
    } catch (error) {
      const isClosed = error instanceof EtcdError && closed.includes(error.reason);
      if (isClosed && this.#gateways.isClosed(store)) return;
      throw error;
    }
    if (recording.createdRevision < acknowledged) {
      throw new Error(
        `Expected a watch created at ${acknowledged} or later, got ${recording.createdRevision}`,
      );
    }
    this.#watches.get(action.slot)?.recording.cancel();
    this.#watches.set(action.slot, { recording, gateway });
  }

  async #read(slot: number, batches: number): Promise<void> {
    const watch = this.#watches.get(slot);
    if (watch === undefined) return;
    const { recording, gateway } = watch;
    if (recording.isLost && !(await this.#reopen(recording, gateway))) return;
    this.#gateways.tally.reads++;
    await recording.read(this.#acknowledged, batches);
  }

  /** False when the gateway is being closed again. */
  async #reopen(recording: Recording, gateway: number): Promise<boolean> {
    const store = this.#gateways.at(gateway);
    try {
      await recording.reopen(store);
      return true;
    } catch (error) {
      const isClosed = error instanceof EtcdError && closed.includes(error.reason);
      if (isClosed && this.#gateways.isClosed(store)) return false;
      throw error;
    }
  }

  /** Nothing that was due to a watch may be missing in the end. */
  async #readAll(): Promise<void> {
    for (const slot of this.#watches.keys()) {
      await this.#read(slot, Number.POSITIVE_INFINITY);
      // It had been left on a gateway that was closed.
      if (this.#watches.get(slot)?.recording.isLost === true)
        await this.#read(slot, Number.POSITIVE_INFINITY);
      this.#watches.get(slot)?.recording.compare(this.#state);
    }
  }
}

/** What a store that is closed answers. */
const closed: readonly string[] = ['stopped', 'timeout'];

function isValid({ request }: Extract<Request, { do: 'txn' }>): boolean {
  try {
    checkTxn(withEnds(request));
    return true;
  } catch (error) {
    if (error instanceof EtcdError) return false;
    throw error;
  }
}

/** Above all keys of histories. */
const lastEnd = Buffer.alloc(3, 0xff);

/**
 * The same with an end to every deletion. etcd does not see that one without an end takes along what the txn puts, and
 * changes a key twice in one revision; the SQL stores do not.
 */
function withEnds({ compare, success, failure }: TxnRequest): TxnRequest {
  const withEnd = (op: RequestOp): RequestOp => {
    if (op.type === 'txn') return { ...op, request: withEnds(op.request) };
    if (op.type !== 'deleteRange' || !isFromKey(op.request.rangeEnd)) return op;
    return { ...op, request: { ...op.request, rangeEnd: lastEnd } };
  };
  return { compare, success: success.map(withEnd), failure: failure.map(withEnd) };
}
