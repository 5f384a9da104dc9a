// Writes a backup: each store as a snapshot of its own, the default store first, and in it the definitions of custom resources first,
// so that whoever reads the file knows the kinds before the objects. Used by the command `backup`.

import { createHash, randomUUID } from 'node:crypto';
import type { KeyRange } from '../etcd/range.ts';
import { keyRange, prefixRange } from '../etcd/range.ts';
import type { KeyValue, LeaseId } from '../etcd/types.ts';
import { version } from '../lib/version.ts';
import { createClassifier, type Classifier } from '../router/classify.ts';
import { definitionsPrefix } from '../router/kinds.ts';
import { parseRecord, recordsRange } from '../router/records.ts';
import type { BulkStore, LeaseTime, Snapshot } from '../store/bulk.ts';
import { backupFormat, BackupError, encodeLine, type Line, type Scope } from './format.ts';
import { markerKey, ownKeys, parseMarker } from './marker.ts';
import type { Output } from './output.ts';
import { showMark } from './under-way.ts';

/** What to read of a store. */
export interface StoreChosen {
  readonly store: BulkStore;
  /** Roots of types that live in it; absent: all that does. */
  readonly roots?: readonly string[];
}

export interface BackupOptions {
  readonly scope: Scope;
  /** In this order; the default store first, where it is among them. */
  readonly stores: readonly StoreChosen[];
  /** Name of the store that a placement record means; undefined: one that the topology does not have. */
  readonly storeNamed: (recorded: string) => string | undefined;
  readonly defaultName: string;
  readonly keyPrefix: string;
  /** What the default store, where clients renew leases, says of one; undefined: it has none of this id, or does not tell. */
  readonly leaseOf: (id: LeaseId) => Promise<LeaseTime | undefined>;
  readonly output: Output;
  /** Told of each page. */
  readonly progress: (store: string, done: Done) => void;
}

export interface Done {
  readonly pairs: number;
  /** Of keys and values. */
  readonly bytes: number;
}

/** What a store has given. */
export interface StoreDone extends Done {
  readonly store: string;
  readonly revision: bigint;
}

const everything: KeyRange = { start: Buffer.from([0]), end: undefined };

/** Writes it whole, and leaves the closing to the caller. @throws BackupError; what stores and output throw. */
export async function writeBackup(options: BackupOptions): Promise<readonly StoreDone[]> {
  return await new BackupWriter(options).write();
}

class BackupWriter {
  readonly #options: BackupOptions;
  readonly #classifier: Classifier;
  readonly #hash = createHash('sha256');
  /** Where types live, by root; undefined as long as the default store was not asked. */
  #recorded: ReadonlyMap<string, string | undefined> | undefined;

  constructor(options: BackupOptions) {
    this.#options = options;
    this.#classifier = createClassifier(options.keyPrefix);
  }

  async write(): Promise<readonly StoreDone[]> {
    const { scope, keyPrefix, stores, output } = this.#options;
    const createdAt = new Date().toISOString();
    const id = randomUUID();
    await this.#line({ type: 'header', format: backupFormat, id, createdAt, version, keyPrefix, scope });
    const done: StoreDone[] = [];
    for (const chosen of stores)
      done.push(await chosen.store.snapshot((snapshot) => this.#store(chosen, snapshot)));
    const pairs = done.reduce((sum, each) => sum + each.pairs, 0);
    await output.write(encodeLine({ type: 'end', pairs, sha256: this.#hash.digest('hex') }));
    return done;
  }

  async #store({ store, roots }: StoreChosen, snapshot: Snapshot): Promise<StoreDone> {
    const { name, engine } = store;
    const { defaultName, progress } = this.#options;
    const { revision } = snapshot;
    const isDefault = name === defaultName;
    await checkWhole(name, snapshot);
    if (isDefault && roots === undefined) this.#recorded = await this.#records(snapshot);
    await this.#line({ type: 'store', store: name, engine, revision });
    const leases = new Set<LeaseId>();
    let done: Done = { pairs: 0, bytes: 0 };
    for (const range of this.#ranges(isDefault, roots)) {
      for await (const page of snapshot.pairs(range)) {
        for (const pair of page) {
          if (roots === undefined && !this.#belongs(pair.key, name)) continue;
          if (pair.lease !== 0n && !leases.has(pair.lease)) {
            leases.add(pair.lease);
            await this.#lease(pair.lease, snapshot, isDefault);
          }
          await this.#line({ type: 'pair', pair });
          done = { pairs: done.pairs + 1, bytes: done.bytes + sizeOf(pair) };
        }
        progress(name, done);
      }
    }
    await this.#line({ type: 'storeEnd', store: name, pairs: done.pairs });
    return { store: name, revision, ...done };
  }

  /** What to read, in order. */
  #ranges(isDefault: boolean, roots: readonly string[] | undefined): readonly KeyRange[] {
    const { keyPrefix } = this.#options;
    if (roots !== undefined) return roots.flatMap((root) => this.#classifier.unit(root));
    if (!isDefault) return [everything];
    const definitions = prefixRange(Buffer.from(definitionsPrefix(keyPrefix)));
    return [
      definitions,
      { start: everything.start, end: definitions.start },
      { start: definitions.end ?? definitions.start, end: undefined },
    ];
  }

  /** Keys of switchyard's own are made anew by a restore; of a type that lives elsewhere there may be remains. */
  #belongs(key: Buffer, store: string): boolean {
    const { defaultName, storeNamed } = this.#options;
    if (key.subarray(0, ownKeys.length).equals(ownKeys)) return false;
    const location = this.#classifier.locate(keyRange(key, Buffer.alloc(0)));
    if (location.type !== 'root') return store === defaultName;
    if (this.#recorded?.has(location.root) !== true) return true;
    const recorded = this.#recorded.get(location.root);
    return recorded !== undefined && storeNamed(recorded) === store;
  }

  /** @throws BackupError with a line for each type whose store is not known: it would be in no file, and nobody would be told. */
  async #records(snapshot: Snapshot): Promise<ReadonlyMap<string, string | undefined>> {
    const { storeNamed } = this.#options;
    const records = new Map<string, string | undefined>();
    const problems: string[] = [];
    for await (const page of snapshot.pairs(recordsRange)) {
      for (const { root, store } of page.map(parseRecord)) {
        records.set(root, store);
        if (store === undefined || storeNamed(store) === undefined)
          problems.push(
            `Expected a backend named ${store ?? 'by the placement record'} in the topology, where ${root} lives, got none: ` +
              'its objects would be missing',
          );
      }
    }
    if (problems.length > 0) throw new BackupError(problems.join('\n'));
    return records;
  }

  /** A store beside the default one has leases for a few minutes at a time. */
  async #lease(id: LeaseId, snapshot: Snapshot, isDefault: boolean): Promise<void> {
    let lease = (await snapshot.lease(id)) ?? { id, grantedTtlSeconds: 0, ttlSeconds: 0 };
    const granted = isDefault ? undefined : await this.#options.leaseOf(id);
    if (granted !== undefined && granted.ttlSeconds > lease.ttlSeconds) lease = granted;
    await this.#line({ type: 'lease', ...lease });
  }

  async #line(line: Line): Promise<void> {
    const text = encodeLine(line);
    this.#hash.update(text);
    await this.#options.output.write(text);
  }
}

function sizeOf({ key, value }: KeyValue): number {
  return key.length + value.length;
}

/** @throws BackupError when a restore into the store has not ended. */
async function checkWhole(store: string, snapshot: Snapshot): Promise<void> {
  for await (const [marker] of snapshot.pairs(keyRange(markerKey, Buffer.alloc(0)))) {
    if (marker === undefined) continue;
    throw new BackupError(
      `Expected a store without a restore under way, got ${store}, where one has not ended: ${showMark({ marker: parseMarker(marker) })}`,
    );
  }
}
