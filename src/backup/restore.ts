// Carries out a plan: marks the stores, lifts them, removes what is to be replaced, writes the pairs of the file in batches, and lifts the
// databases once more, so that a gateway that runs reads all of it anew. The markers are there until all of it is done; run again, everything
// is done again from the start. Used by the command `restore`.

import { randomUUID } from 'node:crypto';
import { EtcdError } from '../etcd/errors.ts';
import type { KeyValue, LeaseId, Revision } from '../etcd/types.ts';
import type { Clock } from '../lib/clock.ts';
import { createClassifier } from '../router/classify.ts';
import { placedAhead } from '../router/placement.ts';
import { recordKey, recordValue } from '../router/records.ts';
import type { BulkStore } from '../store/bulk.ts';
import { createAgain, type Again } from './again.ts';
import { BackupError } from './format.ts';
import { encodeMarker, markerKey } from './marker.ts';
import type { Plan, PlannedStore, PlannedType } from './plan.ts';
import { readBackup } from './read.ts';
import { isChosen, rootsUnder, type Choice, type Survey } from './survey.ts';
import { hold, release, type Holding } from './under-way.ts';

export interface RestoreOptions {
  readonly path: string;
  readonly survey: Survey;
  readonly choice: Choice;
  readonly plan: Plan;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Told once, before the first change: from here on the stores need the restore to end. */
  readonly begun: () => void;
  readonly progress: (pairs: number) => void;
}

/** What came of a store. */
export interface StoreRestored {
  readonly store: string;
  readonly pairs: number;
  /** Pairs left out because their lease was over when the backup was made. */
  readonly over: number;
  readonly revision: Revision;
}

/** Of one write. */
const batchBytes = 1024 * 1024;
const batchPairs = 256;
/** How often a write is done whose leases expire meanwhile. */
const leasedMax = 5;

/** @throws BackupError when the file is another one now, or another run has begun; what stores throw, with the markers left behind. */
export async function restoreBackup(options: RestoreOptions): Promise<readonly StoreRestored[]> {
  return await new Restorer(options).restore();
}

/** Pairs on their way to a store. */
interface Waiting {
  pairs: KeyValue[];
  bytes: number;
  written: number;
  over: number;
}

class Restorer {
  readonly #options: RestoreOptions;
  readonly #again: Again;
  readonly #holding: Holding;
  readonly #waiting = new Map<BulkStore, Waiting>();
  readonly #granted = new Set<string>();
  #written = 0;

  constructor(options: RestoreOptions) {
    const { plan, survey, clock, signal } = options;
    this.#options = options;
    this.#again = createAgain(clock, signal);
    const byWriting = plan.stores.filter(({ store }) => store.liftMax !== undefined);
    const value = encodeMarker({
      backup: survey.header.id,
      run: randomUUID(),
      begunAt: new Date().toISOString(),
      selection: plan.selection,
      types: [...plan.types.keys()],
      lifts: new Map(byWriting.map(({ store, atLeast }) => [store.name, atLeast])),
    });
    this.#holding = {
      stores: [...new Set([plan.defaultStore, ...plan.stores.map(({ store }) => store)])],
      note: { key: markerKey, value },
      again: this.#again,
    };
  }

  async restore(): Promise<readonly StoreRestored[]> {
    const { plan, survey, begun } = this.#options;
    await hold(this.#holding, plan.marks);
    begun();
    for (const planned of plan.stores) {
      await this.#lift(planned);
      this.#waiting.set(planned.store, { pairs: [], bytes: 0, written: 0, over: 0 });
    }
    const classifier = createClassifier(survey.header.keyPrefix);
    for (const type of plan.types.values()) {
      await this.#record(type);
      if (type.root === '') continue;
      for (const range of classifier.unit(type.root))
        await this.#again(() => type.target.clear(range, this.#holding.note));
    }
    await this.#fill();
    for (const { store } of plan.stores) await this.#again(() => store.lift(0n));
    await release(this.#holding);
    const restored: StoreRestored[] = [];
    for (const [store, { written, over }] of this.#waiting) {
      const revision = await this.#again(() => store.revision());
      restored.push({ store: store.name, pairs: written, over, revision });
    }
    return restored;
  }

  /** Above all that was told before the backup and after it, here and where the types were. */
  async #lift({ store, atLeast }: PlannedStore): Promise<void> {
    const { plan } = this.#options;
    let least = atLeast;
    if (store !== plan.defaultStore && store.keepsRevisions) {
      const ahead = (await this.#again(() => plan.defaultStore.revision())) + placedAhead;
      if (ahead > least) least = ahead;
    }
    await this.#again(() => store.lift(least));
  }

  async #record({ root, record }: PlannedType): Promise<void> {
    if (record === undefined) return;
    const { defaultStore } = this.#options.plan;
    await this.#again(() =>
      defaultStore.swap(recordKey(root), undefined, recordValue(record.store, record.because)),
    );
  }

  async #fill(): Promise<void> {
    const { path, survey, plan, choice, signal } = this.#options;
    const rootOf = rootsUnder(survey.header.keyPrefix);
    let store = '';
    for await (const line of readBackup(path, signal)) {
      if (line.type === 'header' && line.id !== survey.header.id) throw this.#changed();
      if (line.type === 'store') store = line.store;
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
    if (pair.lease !== 0n && !(await this.#grant(target, pair.lease))) {
      waiting.over++;
      return;
    }
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
    await this.#put(target, pairs);
    waiting.written += pairs.length;
    this.#written += pairs.length;
    progress(this.#written);
  }

  /** A lease may be over between two writes that need it, where the store lets them expire meanwhile. */
  async #put(target: BulkStore, pairs: readonly KeyValue[]): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#again(() => target.put(pairs, this.#holding.note));
      } catch (error) {
        const isOver = error instanceof EtcdError && error.reason === 'leaseNotFound';
        if (!isOver || attempt === leasedMax) throw error;
      }
      this.#granted.clear();
      for (const { lease } of pairs) if (lease !== 0n) await this.#grant(target, lease);
    }
  }

  /** False: the lease was over when the backup was made. Clients renew leases in the default store, so it is there too. */
  async #grant(target: BulkStore, id: LeaseId): Promise<boolean> {
    const { plan, survey } = this.#options;
    const ttlSeconds = survey.leases.get(id) ?? 0;
    if (ttlSeconds <= 0) return false;
    for (const store of new Set([plan.defaultStore, target])) {
      const name = `${store.name} ${id}`;
      if (this.#granted.has(name)) continue;
      await this.#again(() =>
        store === plan.defaultStore ? store.grant(id, ttlSeconds) : store.adopt(id, ttlSeconds),
      );
      this.#granted.add(name);
    }
    return true;
  }

  #changed(): BackupError {
    return new BackupError(`Expected ${this.#options.path} as it was when it was checked, got another file`);
  }
}
