// Which store answers a request. The server asks here before every call that names keys. Once a type has been resolved an
// answer is a map lookup.

import { EtcdError } from '../etcd/errors.ts';
import { overlaps, type KeyRange } from '../etcd/range.ts';
import type { CompactionRequest, CompactionResponse, Revision } from '../etcd/types.ts';
import type { Clock } from '../lib/clock.ts';
import { invariant } from '../lib/invariant.ts';
import type { Logger } from '../lib/log.ts';
import type { Store } from '../store/store.ts';
import { createClassifier, showRange, type Classifier } from './classify.ts';
import { Compaction } from './compaction.ts';
import type { PlacementMismatch } from './mismatches.ts';
import { Placements, type UnservedType } from './placement.ts';
import type { Topology } from './topology.ts';

export type { PlacementMismatch } from './mismatches.ts';
export type { UnservedType } from './placement.ts';

export interface Router {
  /** The store that holds every key of the range. @throws EtcdError crossStore naming the stores; timeout when that cannot be known now. */
  storeFor(range: KeyRange, signal: AbortSignal): Promise<Store>;
  /** Same, for all that a txn names; the default store for a txn without keys. */
  storeForAll(ranges: readonly KeyRange[], signal: AbortSignal): Promise<Store>;
  /** What the keys of the range are, for people: a type such as `configmaps`, `several types`, or `no type`. */
  typeOf(range: KeyRange): string;
  readonly defaultStore: Store;
  /** Every store, the default first. */
  stores(): readonly Store[];
  /** Compacts the default store, and the others at the point that was noted for this revision. */
  compact(request: CompactionRequest, signal: AbortSignal): Promise<CompactionResponse>;
  /**
   * To be called after a txn on `compact_rev_key`, with its header's revision and when it was asked for, by performance.now(). Resolves
   * when that is noted or given up, which may take seconds while a store is down; never rejects. A Compact waits for it.
   */
  noteCompactTxn(revision: Revision, askedAt: number): Promise<void>;
  mismatches(): readonly PlacementMismatch[];
  /** Types whose requests all fail, because the store that their record names is not open here. */
  unserved(): readonly UnservedType[];
  /**
   * Calls `listener` when a type is found to live elsewhere than before, with the ranges of its keys and its store (undefined: one
   * that is not open); a watch on another store would wait for ever. Answers the function that ends the calls.
   */
  onMove(listener: (ranges: readonly KeyRange[], store: Store | undefined) => void): () => void;
  close(): Promise<void>;
}

export interface RouterOptions {
  readonly topology: Topology;
  /** By name; holds the topology's default and backends. Closed by whoever opened them. */
  readonly stores: ReadonlyMap<string, Store>;
  /** kube-apiserver's `--etcd-prefix`, without a slash at its end. */
  readonly keyPrefix: string;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** Types named in the message about a range over several stores. */
const namedTypesMax = 5;

/** A router over opened stores; starts to follow the placement records at once. */
export function createRouter(options: RouterOptions): Router {
  const { topology, stores, keyPrefix, logger, clock } = options;
  const defaultStore = stores.get(topology.default.name);
  invariant(defaultStore !== undefined, 'the default store is opened before the router');
  const others = topology.backends.flatMap(({ name }) => stores.get(name) ?? []);
  const classifier = createClassifier(keyPrefix);
  const placements = new Placements({ topology, stores, defaultStore, classifier, clock, logger });
  const compaction = new Compaction({ defaultStore, others, clock, logger });
  placements.start();
  return new TypeRouter({ defaultStore, others, classifier, placements, compaction });
}

interface Parts {
  readonly defaultStore: Store;
  readonly others: readonly Store[];
  readonly classifier: Classifier;
  readonly placements: Placements;
  readonly compaction: Compaction;
}

class TypeRouter implements Router {
  readonly defaultStore: Store;
  readonly #all: readonly Store[];
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.defaultStore = parts.defaultStore;
    this.#all = [...new Set([parts.defaultStore, ...parts.others])];
  }

  stores(): readonly Store[] {
    return this.#all;
  }

  async storeFor(range: KeyRange, signal: AbortSignal): Promise<Store> {
    const { classifier, placements } = this.#parts;
    const location = classifier.locate(range);
    switch (location.type) {
      case 'root':
        return placements.known(location.root) ?? (await placements.resolve(location.root, signal));
      case 'rest':
        return this.defaultStore;
      case 'span':
        return this.#defaultUnlessMixed(range, signal);
    }
  }

  async storeForAll(ranges: readonly KeyRange[], signal: AbortSignal): Promise<Store> {
    let first: { readonly store: Store; readonly range: KeyRange } | undefined;
    for (const range of ranges) {
      const store = await this.storeFor(range, signal);
      first ??= { store, range };
      if (store === first.store) continue;
      throw new EtcdError('crossStore', {
        message:
          `switchyard: the transaction spans stores: ${showRange(first.range)} is in ${first.store.name}, ` +
          `${showRange(range)} in ${store.name}`,
      });
    }
    return first?.store ?? this.defaultStore;
  }

  typeOf(range: KeyRange): string {
    const location = this.#parts.classifier.locate(range);
    if (location.type === 'root') return location.root;
    return location.type === 'span' ? 'several types' : 'no type';
  }

  compact(request: CompactionRequest, signal: AbortSignal): Promise<CompactionResponse> {
    return this.#parts.compaction.compact(request, signal);
  }

  noteCompactTxn(revision: Revision, askedAt: number): Promise<void> {
    return this.#parts.compaction.noteSoon(revision, askedAt);
  }

  mismatches(): readonly PlacementMismatch[] {
    return this.#parts.placements.mismatches();
  }

  unserved(): readonly UnservedType[] {
    return this.#parts.placements.unserved();
  }

  onMove(listener: (ranges: readonly KeyRange[], store: Store | undefined) => void): () => void {
    const { classifier, placements } = this.#parts;
    return placements.onMove((root, store) => listener(classifier.unit(root), store));
  }

  async close(): Promise<void> {
    const { placements, compaction } = this.#parts;
    await Promise.all([placements.close(), compaction.close()]);
  }

  /** A range over several types is the default store's, unless one of them lives elsewhere. */
  async #defaultUnlessMixed(range: KeyRange, signal: AbortSignal): Promise<Store> {
    const { classifier, placements } = this.#parts;
    const placed = await placements.elsewhere(signal);
    const inside = placed.filter(({ root }) => classifier.unit(root).some((part) => overlaps(part, range)));
    if (inside.length === 0) return this.defaultStore;
    const named = inside
      .slice(0, namedTypesMax)
      .map(({ root, store }) => `${classifier.keyPrefix}/${root}/ is in ${store}`);
    const more =
      inside.length > namedTypesMax ? ` and ${inside.length - namedTypesMax} more types elsewhere` : '';
    throw new EtcdError('crossStore', {
      message:
        `switchyard: ${showRange(range)} spans stores: ${named.join(', ')}${more}, the rest in ${this.defaultStore.name}; ` +
        `ask for one type at a time, as in ${classifier.keyPrefix}/${inside[0]?.root}/`,
    });
  }
}
