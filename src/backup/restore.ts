// Carries out a plan: lifts the stores, removes what is to be replaced, writes the pairs of the file in batches, and lifts the databases
// once more, so that a gateway that runs reads all of it anew. Until a store is done it holds a marker; run again, everything is
// done again from the start. Used by the command `restore`.

import { EtcdError } from '../etcd/errors.ts';
import { keyRange } from '../etcd/range.ts';
import type { KeyValue, LeaseId, Revision } from '../etcd/types.ts';
import type { Clock } from '../lib/clock.ts';
import { createBackoff } from '../lib/backoff.ts';
import { createClassifier } from '../router/classify.ts';
import { placedAhead } from '../router/placement.ts';
import { recordKey, recordValue } from '../router/records.ts';
import type { BulkStore } from '../store/bulk.ts';
import { BackupError } from './format.ts';
import { markerKey } from './marker.ts';
import { liftedByWriting, type Plan, type PlannedStore, type PlannedType } from './plan.ts';
import { readBackup } from './read.ts';
import { isChosen, rootsUnder, type Choice, type Survey } from './survey.ts';

export interface RestoreOptions {
  readonly path: string;
  readonly survey: Survey;
  readonly choice: Choice;
  readonly plan: Plan;
  /** How far a database is lifted above the backup. */
  readonly margin: bigint;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly progress: (pairs: number) => void;
}

/** What came of a store. */
export interface StoreRestored {
  readonly store: string;
  readonly pairs: number;
  readonly revision: Revision;
}

/** Of one write. */
const batchBytes = 1024 * 1024;
const batchPairs = 256;
/** How long a store that does not answer is asked again. */
const retryForMs = 60_000;
const retryFirstMs = 100;
const retryMaxMs = 5_000;

/** @throws BackupError when the file is another one now; what stores throw, with the marker left behind. */
export async function restoreBackup(options: RestoreOptions): Promise<readonly StoreRestored[]> {
  return await new Restorer(options).restore();
}

/** Pairs on their way to a store. */
interface Waiting {
  pairs: KeyValue[];
  bytes: number;
  written: number;
}

class Restorer {
  readonly #options: RestoreOptions;
  readonly #waiting = new Map<BulkStore, Waiting>();
  /** What the backup says was left of each lease, in seconds. */
  readonly #leases = new Map<LeaseId, number>();
  #granted = new Set<string>();
  #written = 0;

  constructor(options: RestoreOptions) {
    this.#options = options;
  }

  async restore(): Promise<readonly StoreRestored[]> {
    const { plan, survey } = this.#options;
    for (const planned of plan.stores) {
      await this.#begin(planned);
      this.#waiting.set(planned.store, { pairs: [], bytes: 0, written: 0 });
    }
    const classifier = createClassifier(survey.header.keyPrefix);
    for (const type of plan.types.values()) {
      await this.#record(type);
      if (type.root === '') continue;
      for (const range of classifier.unit(type.root)) await this.#again(() => type.target.clear(range));
    }
    await this.#fill();
    const restored: StoreRestored[] = [];
    for (const { store } of plan.stores) {
      await this.#again(() => store.clear(keyRange(markerKey, Buffer.alloc(0))));
      const revision = await this.#again(() => store.lift(0n));
      restored.push({ store: store.name, pairs: this.#waiting.get(store)?.written ?? 0, revision });
    }
    return restored;
  }

  /** Above all that was told before the backup and after it, here and where the types were. */
  async #begin({ store, revision, isResumed }: PlannedStore): Promise<void> {
    const { plan, margin, survey } = this.#options;
    let least = revision + (store.liftMax === undefined ? margin : liftedByWriting);
    if (store !== plan.defaultStore && store.keepsRevisions) {
      const ahead = (await this.#again(() => plan.defaultStore.revision())) + placedAhead;
      if (ahead > least) least = ahead;
    }
    await this.#again(() => store.lift(least));
    if (isResumed) return;
    await this.#again(() => store.clear(keyRange(markerKey, Buffer.alloc(0))));
    await this.#again(() => store.create(markerKey, Buffer.from(survey.header.id)));
  }

  async #record({ root, record }: PlannedType): Promise<void> {
    if (record === undefined) return;
    const { defaultStore } = this.#options.plan;
    await this.#again(() => defaultStore.create(recordKey(root), recordValue(record.store, record.because)));
  }

  async #fill(): Promise<void> {
    const { path, survey, plan, choice } = this.#options;
    const rootOf = rootsUnder(survey.header.keyPrefix);
    let store = '';
    for await (const line of readBackup(path)) {
      if (line.type === 'header' && line.id !== survey.header.id) throw this.#changed();
      if (line.type === 'store') store = line.store;
      if (line.type === 'lease') this.#leases.set(line.id, line.ttlSeconds);
      if (line.type !== 'pair') continue;
      const root = rootOf(line.pair.key);
      if (!isChosen(choice, root, store) || (line.pair.lease !== 0n && !choice.leased)) continue;
      const target = plan.types.get(root)?.target;
      if (target === undefined) throw this.#changed();
      await this.#add(target, line.pair);
    }
    for (const target of this.#waiting.keys()) await this.#flush(target);
  }

  async #add(target: BulkStore, pair: KeyValue): Promise<void> {
    const waiting = this.#waiting.get(target);
    if (waiting === undefined) throw this.#changed();
    if (pair.lease !== 0n && !(await this.#grant(target, pair.lease))) return;
    waiting.pairs.push(pair);
    waiting.bytes += pair.key.length + pair.value.length;
    if (waiting.bytes >= batchBytes || waiting.pairs.length >= batchPairs) await this.#flush(target);
  }

  async #flush(target: BulkStore): Promise<void> {
    const { progress } = this.#options;
    const waiting = this.#waiting.get(target);
    if (waiting === undefined || waiting.pairs.length === 0) return;
    const { pairs } = waiting;
    waiting.pairs = [];
    waiting.bytes = 0;
    await this.#again(() => target.put(pairs));
    waiting.written += pairs.length;
    this.#written += pairs.length;
    progress(this.#written);
  }

  /** False: the lease was over when the backup was made. Clients renew leases in the default store, so it is there too. */
  async #grant(target: BulkStore, id: LeaseId): Promise<boolean> {
    const ttlSeconds = this.#leases.get(id) ?? 0;
    if (ttlSeconds <= 0) return false;
    for (const store of new Set([this.#options.plan.defaultStore, target])) {
      const name = `${store.name} ${id}`;
      if (this.#granted.has(name)) continue;
      await this.#again(() => store.grant(id, ttlSeconds));
      this.#granted.add(name);
    }
    return true;
  }

  #changed(): BackupError {
    return new BackupError(`Expected ${this.#options.path} as it was when it was checked, got another file`);
  }

  /** All that is done to a store may be done twice. */
  async #again<T>(work: () => Promise<T>): Promise<T> {
    const { clock, signal } = this.#options;
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
    const until = clock.now() + retryForMs;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const mayPass = error instanceof EtcdError && error.reason === 'timeout';
        if (!mayPass || signal.aborted || clock.now() > until) throw error;
      }
      await clock.sleep(backoff.next(), signal);
    }
  }
}
