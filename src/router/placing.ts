// Records where a type lives, the first time it is asked for. Used by placement.ts. Every gateway may try: one transaction on the
// default store decides, and its outcome holds for all.

import { EtcdError } from '../etcd/errors.ts';
import type { Clock } from '../lib/clock.ts';
import { linkedAbort } from '../lib/abort.ts';
import type { Logger } from '../lib/log.ts';
import type { Store } from '../store/store.ts';
import type { Classifier } from './classify.ts';
import {
  parseRecord,
  recordKey,
  recordValue,
  type PlacementReason,
  type PlacementRecord,
} from './records.ts';
import { absent, firstRange, holdsAny, putOp, readKey, readOp, unavailable, writtenAt } from './requests.ts';
import type { Rule } from './rules.ts';
import { defaultStoreName } from './topology.ts';

/** How long a store that is neither the default nor wished may hold up a placement. */
const bystanderTimeoutMs = 1_000;
/** When to look again whether a gateway with an older topology wrote meanwhile. */
const strayCheckDelayMs = 3_000;

export interface PlacerOptions {
  readonly classifier: Classifier;
  /** By name, the default store included. */
  readonly stores: ReadonlyMap<string, Store>;
  readonly defaultStore: Store;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Writes placement records. */
export class Placer {
  readonly #options: PlacerOptions;

  constructor(options: PlacerOptions) {
    this.#options = options;
  }

  /**
   * The record of a type that has none yet: where its objects are, if it has any, else where `rule` wishes it. Reads and
   * writes stop at `signal`. @throws EtcdError when the default or the wished store cannot be asked.
   */
  async place(root: string, rule: Rule, signal: AbortSignal): Promise<PlacementRecord> {
    const { defaultStore, stores, logger } = this.#options;
    const wished = stores.get(rule.store);
    if (wished === undefined) throw unavailable(`store ${rule.store} of rule ${rule.name} is not open`);
    const holder = await this.#holderOf(root, wished, signal);
    if (holder !== undefined) {
      return this.#record(
        root,
        { store: holder === wished ? rule.name : holder.name, because: 'objects' },
        signal,
      );
    }
    if (wished === defaultStore) return this.#record(root, { store: rule.name, because: 'rule' }, signal);
    const record = await this.#recordIfEmpty(root, rule.name, signal);
    if (record !== undefined) return record;
    logger.warn('type has objects in the default store and stays there', { type: root, wished: rule.name });
    return this.#record(root, { store: defaultStoreName, because: 'objects' }, signal);
  }

  /** Reports objects that a gateway without the rule wrote to the default store around the time of the record. */
  async reportStrays(root: string, signal: AbortSignal): Promise<void> {
    const { clock, defaultStore, logger } = this.#options;
    await clock.sleep(strayCheckDelayMs, signal);
    if (signal.aborted) return;
    try {
      if (!(await holdsAny(defaultStore, this.#options.classifier.unit(root), signal))) return;
      logger.error(
        'objects of a type were written to the default store while it was placed elsewhere; give all gateways one topology',
        { type: root },
      );
    } catch (error) {
      logger.debug('default store not searched for strays', { type: root, error });
    }
  }

  /** A store other than the default that has objects of the type; the wished one first. */
  async #holderOf(root: string, wished: Store, signal: AbortSignal): Promise<Store | undefined> {
    const { stores, defaultStore } = this.#options;
    const others = [...new Set(stores.values())].filter(
      (store) => store !== defaultStore && store !== wished,
    );
    const searches = others.map((store) => this.#bystanderHolds(store, root, signal));
    const inWished =
      wished !== defaultStore && (await holdsAny(wished, this.#options.classifier.unit(root), signal));
    const found = await Promise.all(searches);
    return inWished ? wished : others.find((_, index) => found[index]);
  }

  async #bystanderHolds(store: Store, root: string, signal: AbortSignal): Promise<boolean> {
    const { logger, clock } = this.#options;
    const bounded = linkedAbort(signal);
    const late = clock.sleep(bystanderTimeoutMs, bounded.signal).then(() => undefined);
    try {
      const answer = await Promise.race([
        holdsAny(store, this.#options.classifier.unit(root), bounded.signal),
        late,
      ]);
      if (answer === undefined)
        logger.warn('store not searched for objects of a new type', { type: root, store: store.name });
      return answer === true;
    } catch (error) {
      logger.warn('store not searched for objects of a new type', { type: root, store: store.name, error });
      return false;
    } finally {
      bounded.abort();
    }
  }

  /** Undefined: the default store has objects of the type. */
  async #recordIfEmpty(
    root: string,
    store: string,
    signal: AbortSignal,
  ): Promise<PlacementRecord | undefined> {
    const key = recordKey(root);
    const request = {
      compare: [writtenAt(key, 0n), ...this.#options.classifier.unit(root).map(absent)],
      success: [putOp(key, recordValue(store, 'rule'))],
      failure: [readOp(readKey(key))],
    };
    const response = await this.#options.defaultStore.txn(request, signal);
    if (response.succeeded) return this.#created(root, { store, because: 'rule' }, response.header.revision);
    const found = firstRange(response)?.kvs[0];
    return found && parseRecord(found);
  }

  async #record(
    root: string,
    wish: { readonly store: string; readonly because: PlacementReason },
    signal: AbortSignal,
  ): Promise<PlacementRecord> {
    const key = recordKey(root);
    const request = {
      compare: [writtenAt(key, 0n)],
      success: [putOp(key, recordValue(wish.store, wish.because))],
      failure: [readOp(readKey(key))],
    };
    const response = await this.#options.defaultStore.txn(request, signal);
    if (response.succeeded) return this.#created(root, wish, response.header.revision);
    const found = firstRange(response)?.kvs[0];
    // Written and deleted again in between: the next request tries anew.
    if (found === undefined) throw new EtcdError('timeout');
    return parseRecord(found);
  }

  #created(
    root: string,
    { store, because }: { readonly store: string; readonly because: PlacementReason },
    modRevision: bigint,
  ): PlacementRecord {
    this.#options.logger.info('type placed', { type: root, placedIn: store, because });
    return { root, store, modRevision };
  }
}
