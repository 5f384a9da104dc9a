// Types that live elsewhere than the topology wishes, and types whose store is not open. Looked for when a record or a definition
// changes, and told in the log when that changes the outcome. Used by placement.ts.

import type { Logger } from '../lib/log.ts';
import type { PlacementRecord } from './records.ts';
import type { Rule } from './rules.ts';
import { defaultStoreName } from './topology.ts';

/** A type that lives elsewhere than the topology wishes. */
export interface PlacementMismatch {
  /** Root of its keys below the key prefix: `events`, `data.example.com/largedata`. */
  readonly root: string;
  /** What its placement record names. */
  readonly recorded: string;
  /** The store that the topology names. */
  readonly wished: string;
}

/** What the topology wishes; `isSure`: false where the type has no definition, so that nobody knows what it is called. */
export interface Wish {
  readonly rule: Rule | undefined;
  readonly isSure: boolean;
}

export interface MismatchesOptions {
  readonly logger: Logger;
  /** Those that are known, by root. */
  readonly records: ReadonlyMap<string, PlacementRecord>;
  /** The topology's name for the store of a record; undefined: it has none. */
  readonly nameOf: (record: PlacementRecord) => string | undefined;
  readonly isOpen: (record: PlacementRecord) => boolean;
  /** @throws EtcdError when the default store cannot be asked. */
  readonly wish: (root: string) => Promise<Wish>;
}

export class Mismatches {
  readonly #options: MismatchesOptions;
  readonly #found = new Map<string, PlacementMismatch>();
  /** By root, the store that the log has named as missing. */
  readonly #unservedTold = new Map<string, string>();

  constructor(options: MismatchesOptions) {
    this.#options = options;
  }

  /** By root. */
  all(): readonly PlacementMismatch[] {
    return [...this.#found.values()].toSorted((a, b) => (a.root < b.root ? -1 : 1));
  }

  async assessAll(): Promise<void> {
    for (const root of new Set([...this.#options.records.keys(), ...this.#found.keys()]))
      await this.assess(root);
  }

  /** Compares a record with the wish, and logs when the outcome is another than before. */
  async assess(root: string): Promise<void> {
    const { logger, records, nameOf, isOpen, wish } = this.#options;
    const record = records.get(root);
    const unserved = record !== undefined && !isOpen(record);
    this.#tellUnserved(root, unserved ? (record.store ?? 'unreadable') : undefined);
    const recorded = record && (nameOf(record) ?? record.store ?? 'unreadable');
    let wished: string;
    try {
      const { rule, isSure } = await wish(root);
      if (rule === undefined && !isSure) return;
      wished = rule?.store ?? defaultStoreName;
    } catch (error) {
      // The list after the next reconnection assesses all types again.
      logger.debug('placement not compared with the topology', { type: root, error });
      return;
    }
    if (records.get(root) !== record) return;
    const before = this.#found.get(root);
    if (recorded === undefined || recorded === wished) {
      if (this.#found.delete(root)) logger.info('type lives where the topology wishes', { type: root });
      return;
    }
    this.#found.set(root, { root, recorded, wished });
    if (!unserved && (before?.recorded !== recorded || before.wished !== wished))
      logger.warn('type lives elsewhere than the topology wishes and stays there', {
        type: root,
        recorded,
        wished,
      });
  }

  /** Logs when that changes: `store` is the one that is not in the topology. */
  #tellUnserved(root: string, store: string | undefined): void {
    const before = this.#unservedTold.get(root);
    if (before === store) return;
    if (store === undefined) {
      this.#unservedTold.delete(root);
      this.#options.logger.info('type is served again', { type: root });
      return;
    }
    this.#unservedTold.set(root, store);
    this.#options.logger.error('the store of a type is not in the topology; its requests fail', {
      type: root,
      store,
    });
  }
}
