// Where each type lives. The records in the default store are the truth and are watched; the rules of the topology are only the
// wish for types without a record. Used by router.ts.
//
// Invariants: `#routes` holds only what a record says; an event that changes it removes the entry first. That a type which a rule may
// name has no record is never known from memory: another gateway may have written one that the watch has not brought yet, so the
// default store is asked, after the request has come.

import type { Event, KeyValue, Revision } from '../etcd/types.ts';
import { linkedAbort } from '../lib/abort.ts';
import type { Store } from '../store/store.ts';
import { Kinds } from './kinds.ts';
import { Mismatches, type PlacementMismatch, type Wish } from './mismatches.ts';
import { Placer, type PlacerOptions } from './placing.ts';
import { parseRecord, recordKey, recordRoot, recordsRange, type PlacementRecord } from './records.ts';
import { readKey, readOf, unavailable } from './requests.ts';
import { matchRule, needsNames, typeOf } from './rules.ts';
import { tail } from './tail.ts';
import { defaultStoreName, type Topology } from './topology.ts';

/** A type whose placement record names a store that is not in the topology, or names none that can be read. */
export interface UnservedType {
  readonly root: string;
  /** What the record names; `unreadable` where that cannot be read. */
  readonly store: string;
}

/** Told when a type is found to live elsewhere than requests for it went before; undefined: in no store that is open. */
export type MoveListener = (root: string, store: Store | undefined) => void;

/** How long a request waits for the default store to tell where its type lives. */
const resolveTimeoutMs = 5_000;
/**
 * How far a store is ahead of the default store when a type is placed in it. Until another gateway has heard of the placement it may
 * lead lists and watches of the type to the default store, and progress of those watches: all of that must stay below the first
 * revision of the type in its own store, or a client that goes on from there would miss events. Nearly three hours of ten
 * thousand writes a second, and few enough for the counters of a key to stay short in the key index.
 */
export const placedAhead = 100_000_000n;

export interface PlacementsOptions extends PlacerOptions {
  readonly topology: Topology;
}

/** Where a type lives; `isPlaced`: a record says so, and the answer holds. */
interface Resolved {
  readonly store: Store;
  readonly isPlaced: boolean;
}

/** The placement of every type. `follow` must run. */
export class Placements {
  readonly #options: PlacementsOptions;
  readonly #placer: Placer;
  readonly #kinds: Kinds;
  readonly #records = new Map<string, PlacementRecord>();
  readonly #routes = new Map<string, Store>();
  readonly #underWay = new Map<string, Promise<Resolved>>();
  readonly #mismatches: Mismatches;
  readonly #loaded = Promise.withResolvers<void>();
  #isLoaded = false;
  /** By the clock; who comes later does not wait for the first list. */
  #loadedBy = Number.POSITIVE_INFINITY;
  readonly #closed = new AbortController();
  /** First segments of the types that rules may name. */
  readonly #named: ReadonlySet<string>;
  readonly #needsKinds: boolean;
  readonly #background: Promise<void>[] = [];
  readonly #moveListeners = new Set<MoveListener>();

  constructor(options: PlacementsOptions) {
    const { topology, classifier, clock, logger, defaultStore } = options;
    this.#options = options;
    this.#placer = new Placer(options);
    this.#kinds = new Kinds({
      store: defaultStore,
      keyPrefix: classifier.keyPrefix,
      clock,
      logger,
      onChange: (root) => this.#onDefinition(root),
    });
    this.#mismatches = new Mismatches({
      logger,
      records: this.#records,
      nameOf: (record) => this.#nameOf(record),
      isOpen: (record) => this.#openStoreOf(record) !== undefined,
      wish: (root) => this.#wish(root, this.#closed.signal),
    });
    this.#named = new Set(
      topology.rules.map(({ match }) => (match.type === 'prefix' ? match.root : match.group)),
    );
    this.#needsKinds = topology.rules.some(
      ({ match }) => match.type === 'customresource' && match.kind !== undefined,
    );
  }

  /** Starts following records and definitions. */
  start(): void {
    const { defaultStore: store, clock, logger } = this.#options;
    const { signal } = this.#closed;
    this.#loadedBy = clock.now() + resolveTimeoutMs;
    const records = tail(
      {
        store,
        range: recordsRange,
        what: 'placement records',
        clock,
        logger,
        onList: (kvs, revision) => this.#onList(kvs, revision),
        onEvents: (events) => this.#onEvents(events),
      },
      signal,
    );
    this.#background.push(records);
    if (this.#needsKinds) this.#background.push(this.#kinds.follow(signal));
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await Promise.allSettled(this.#background);
  }

  /** Calls `listener` until the function that it answers is called. */
  onMove(listener: MoveListener): () => void {
    this.#moveListeners.add(listener);
    return () => this.#moveListeners.delete(listener);
  }

  mismatches(): readonly PlacementMismatch[] {
    return this.#mismatches.all();
  }

  /** Types whose requests all fail, because their store is not open here. */
  unserved(): readonly UnservedType[] {
    const found: UnservedType[] = [];
    for (const [root, record] of this.#records)
      if (this.#openStoreOf(record) === undefined) found.push({ root, store: record.store ?? 'unreadable' });
    return found.toSorted((a, b) => (a.root < b.root ? -1 : 1));
  }

  /** Types recorded outside the default store, with the names of their stores. @throws EtcdError timeout. */
  async elsewhere(
    signal: AbortSignal,
  ): Promise<readonly { readonly root: string; readonly store: string }[]> {
    await this.#bounded(
      () => (this.#named.size > 0 ? this.#readRecords(signal) : this.#loaded.promise),
      signal,
    );
    return [...this.#records.values()].flatMap((record) => {
      const store = this.#nameOf(record) ?? record.store ?? 'unknown';
      return store === defaultStoreName ? [] : [{ root: record.root, store }];
    });
  }

  /** The store of a type when that is known; no I/O. */
  known(root: string): Store | undefined {
    const route = this.#routes.get(root);
    if (route !== undefined) return route;
    if (!this.#isLoaded || this.#records.has(root)) return undefined;
    return this.#mayBeNamed(root) ? undefined : this.#options.defaultStore;
  }

  /** The store of a type; reads definition and record, and places the type, where it must. @throws EtcdError timeout. */
  resolve(root: string, signal: AbortSignal): Promise<Store> {
    return this.#bounded(async () => {
      const before = await this.#underWay.get(root);
      if (before?.isPlaced === true) return before.store;
      // That there was no record when another request has asked may not be true any more.
      return (await (this.#underWay.get(root) ?? this.#begin(root))).store;
    }, signal);
  }

  #begin(root: string): Promise<Resolved> {
    const started = this.#resolveOnce(root).finally(() => this.#underWay.delete(root));
    this.#underWay.set(root, started);
    return started;
  }

  /** Not with the caller's signal: others wait for the same answer. */
  async #resolveOnce(root: string): Promise<Resolved> {
    await this.#loaded.promise;
    const bounded = linkedAbort(this.#closed.signal);
    const timer = setTimeout(() => bounded.abort(), resolveTimeoutMs);
    try {
      const record = this.#records.get(root) ?? (await this.#recordOf(root, bounded.signal));
      if (record === undefined) return { store: this.#options.defaultStore, isPlaced: false };
      const store = this.#storeOf(record);
      await this.#lift(store, record, bounded.signal);
      // A newer record may have come meanwhile; then this answer serves the requests that asked before it.
      if (this.#records.get(root)?.store === record.store) this.#routes.set(root, store);
      return { store, isPlaced: true };
    } catch (error) {
      if (bounded.signal.aborted) throw unavailable(`no answer in time about where ${root} lives`, error);
      throw error;
    } finally {
      clearTimeout(timer);
      bounded.abort();
    }
  }

  /** The record of a type of which none is known: another gateway's, or one that is written now, if a rule names the type. */
  async #recordOf(root: string, signal: AbortSignal): Promise<PlacementRecord | undefined> {
    const { rule } = await this.#wish(root, signal);
    if (rule === undefined) return this.#readRecord(root, signal);
    const placed = await this.#placer.place(root, rule, signal);
    const record = this.#learn(placed);
    if (this.#storeOf(record) !== this.#options.defaultStore)
      void this.#placer.reportStrays(root, this.#closed.signal);
    return record;
  }

  async #readRecord(root: string, signal: AbortSignal): Promise<PlacementRecord | undefined> {
    const [kv] = (await this.#options.defaultStore.range(readKey(recordKey(root)), signal)).kvs;
    return kv && this.#learn(parseRecord(kv));
  }

  async #readRecords(signal: AbortSignal): Promise<void> {
    await this.#loaded.promise;
    const { kvs } = await this.#options.defaultStore.range(readOf(recordsRange), signal);
    for (const kv of kvs) this.#learn(parseRecord(kv));
  }

  async #wish(root: string, signal: AbortSignal): Promise<Wish> {
    const { rules } = this.#options.topology;
    const type = typeOf(root);
    const first = matchRule(rules, type, undefined);
    if (first !== needsNames) return { rule: first, isSure: true };
    const names = await this.#kinds.namesOf(type, signal);
    const rule = matchRule(rules, type, names ?? null);
    return { rule: rule === needsNames ? undefined : rule, isSure: names !== undefined };
  }

  #mayBeNamed(root: string): boolean {
    const slash = root.indexOf('/');
    return this.#named.has(slash < 0 ? root : root.slice(0, slash));
  }

  #nameOf({ store }: PlacementRecord): string | undefined {
    return store === undefined ? undefined : this.#options.topology.storeNames.get(store);
  }

  #openStoreOf(record: PlacementRecord): Store | undefined {
    const name = this.#nameOf(record);
    return name === undefined ? undefined : this.#options.stores.get(name);
  }

  #storeOf(record: PlacementRecord): Store {
    const store = this.#openStoreOf(record);
    if (store !== undefined) return store;
    if (record.store === undefined)
      throw unavailable(`the placement record of ${record.root} cannot be read`);
    throw unavailable(
      `${record.root} lives in store ${record.store} by its placement record, and the topology has no backend of that name`,
    );
  }

  /** Resource versions of a type never go back, so its store must be ahead of whatever the default store may have told. */
  async #lift(store: Store, { modRevision }: PlacementRecord, signal: AbortSignal): Promise<void> {
    if (store === this.#options.defaultStore) return;
    await store.raiseRevision?.(modRevision + placedAhead, signal);
  }

  // Records as they come

  #onList(kvs: readonly KeyValue[], revision: Revision): void {
    const listed = new Set(kvs.map(({ key }) => recordRoot(key)));
    for (const { root, modRevision } of this.#records.values())
      if (!listed.has(root) && modRevision <= revision) this.#forget(root);
    for (const kv of kvs) this.#learn(parseRecord(kv));
    this.#isLoaded = true;
    this.#loaded.resolve();
    void this.#mismatches.assessAll();
  }

  #onEvents(events: readonly Event[]): void {
    for (const { type, kv } of events) {
      const root = recordRoot(kv.key);
      if (type === 'put') this.#learn(parseRecord(kv));
      else if ((this.#records.get(root)?.modRevision ?? 0n) < kv.modRevision) this.#forget(root);
      void this.#mismatches.assess(root);
    }
  }

  /** Takes a record in unless a newer one is known; answers the one that holds. */
  #learn(record: PlacementRecord): PlacementRecord {
    const before = this.#records.get(record.root);
    if (before !== undefined && before.modRevision >= record.modRevision) return before;
    this.#records.set(record.root, record);
    if (before?.store !== record.store) {
      this.#routes.delete(record.root);
      this.#tellMove(record);
    }
    return record;
  }

  /** Before the first list nothing was routed, so nothing has moved. */
  #tellMove(record: PlacementRecord): void {
    if (!this.#isLoaded) return;
    const store = this.#openStoreOf(record);
    for (const listener of this.#moveListeners) listener(record.root, store);
  }

  #forget(root: string): void {
    this.#records.delete(root);
    this.#routes.delete(root);
  }

  #onDefinition(root: string | undefined): void {
    if (root === undefined) void this.#mismatches.assessAll();
    else if (this.#records.has(root)) void this.#mismatches.assess(root);
  }

  /** The outcome of `work`, for as long as the caller waits and the bound allows. */
  async #bounded<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    if (!this.#isLoaded && this.#options.clock.now() > this.#loadedBy)
      throw unavailable('the default store has not told yet where types live');
    const waiting = linkedAbort(signal);
    const ended = Promise.withResolvers<never>();
    waiting.signal.addEventListener('abort', () =>
      ended.reject(
        signal.aborted ? signal.reason : unavailable('the default store does not tell where the type lives'),
      ),
    );
    const timer = setTimeout(() => waiting.abort(), resolveTimeoutMs);
    try {
      return await Promise.race([work(), ended.promise]);
    } finally {
      clearTimeout(timer);
      waiting.abort();
    }
  }
}
