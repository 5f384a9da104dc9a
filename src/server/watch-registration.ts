// A watch that a client has asked for, on its way to its store. It begins when the request is read, so that many requests
// share what they ask the database; what becomes of it is decided in the order of the requests.

import { EtcdError } from '../etcd/errors.ts';
import { isEmptyRange, keyRange, type KeyRange } from '../etcd/range.ts';
import type { ResponseHeader, WatchCreateRequest } from '../etcd/types.ts';
import { linkedAbort } from '../lib/abort.ts';
import { invariant } from '../lib/invariant.ts';
import type { Store, Watch, WatchPace } from '../store/store.ts';

/** How long a store of ours may take to register a watch. */
const registerTimeoutMs = 5_000;
const minimalKey = Buffer.from([0]);

export interface RegistrationOptions {
  readonly asked: WatchCreateRequest;
  readonly storeFor: (range: KeyRange) => Promise<Store>;
  readonly headerOf: (store: Store, signal: AbortSignal) => Promise<ResponseHeader>;
  readonly paceOf: (store: Store) => WatchPace;
  readonly signal: AbortSignal;
}

/** What a store of ours has registered. */
export interface Registered {
  readonly watch: Watch;
  /** Ids of the store. */
  readonly template: ResponseHeader;
}

function ownBytes(bytes: Buffer): Buffer {
  const own = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(own);
  return own;
}

export class Registration {
  readonly request: WatchCreateRequest;
  readonly range: KeyRange;
  /** Where the range lives. */
  readonly store: Promise<Store>;
  /** Ends the watch. */
  readonly abort: AbortController;
  readonly #options: RegistrationOptions;
  readonly #registered: Promise<Registered | undefined>;

  constructor(options: RegistrationOptions) {
    const { asked, signal } = options;
    this.#options = options;
    // Of their own: views would keep what came together with the request in memory for as long as the watch.
    const key = asked.key.length > 0 ? ownBytes(asked.key) : minimalKey;
    this.request = { ...asked, key, rangeEnd: ownBytes(asked.rangeEnd) };
    this.range = keyRange(this.request.key, this.request.rangeEnd);
    this.abort = linkedAbort(signal);
    this.store = options.storeFor(this.range);
    this.#registered = this.#begin();
    // Looked at in its turn, which may come after the failure.
    this.#registered.catch(() => undefined);
  }

  /**
   * The watch, for a store of ours and a request that it can take.
   * @throws EtcdError timeout when the store takes too long, whether it heeds its signal or not; what the store throws.
   */
  async registered(): Promise<Registered> {
    const registered = await this.#registered;
    invariant(registered !== undefined, 'A watch that no store of ours has registered is served');
    return registered;
  }

  /** It is not to be. */
  abandon(): void {
    this.abort.abort();
  }

  async #begin(): Promise<Registered | undefined> {
    const store = await this.store;
    const { request, range } = this;
    if (store.passthrough !== undefined || request.startRevision < 0n || isEmptyRange(range))
      return undefined;
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new EtcdError('timeout')), registerTimeoutMs);
    try {
      return await Promise.race([this.#register(store), late.promise]);
    } catch (error) {
      this.abandon();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #register(store: Store): Promise<Registered> {
    const { headerOf, paceOf } = this.#options;
    const { signal } = this.abort;
    const template = await headerOf(store, signal);
    return { template, watch: await store.watch(this.request, signal, paceOf(store)) };
  }
}
