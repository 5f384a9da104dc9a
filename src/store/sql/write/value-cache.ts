// Values that were written a short while ago, so that the next write of a key need not read the one it replaces. Used by
// live-reader.ts and batch-writer.ts. Each value belongs to one key and revision, so it is out of date only where a database
// that has lost commits takes a revision again; then the cache is cleared.

import type { Revision } from '../../../etcd/types.ts';

/** What an entry weighs beside its value, about. */
const entryBytes = 160;

/** A value that a key has got. */
export interface WrittenValue {
  readonly key: Buffer;
  readonly modRevision: Revision;
  readonly value: Buffer;
}

interface Entry {
  readonly modRevision: Revision;
  readonly value: Buffer;
  readonly batch: Batch;
}

/** Values that were written together and go together. */
interface Batch {
  readonly names: readonly string[];
  readonly bytes: number;
}

/** Values of the keys that were written last, one for each key; those that were written longest ago go first. */
export class ValueCache {
  readonly #bytesMax: number;
  /** By key as latin1. */
  readonly #entries = new Map<string, Entry>();
  /** The oldest first. What a value weighs counts until its batch goes, since they share an allocation. */
  #batches: Batch[] = [];
  #gone = 0;
  #bytes = 0;

  constructor({ bytesMax }: { readonly bytesMax: number }) {
    this.#bytesMax = bytesMax;
  }

  /** What all values weigh, about. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The value that `key` got at `modRevision`, if it is still here. */
  get(key: Buffer, modRevision: Revision): Buffer | undefined {
    const entry = this.#entries.get(nameOf(key));
    return entry?.modRevision === modRevision ? entry.value : undefined;
  }

  /** Keeps the values of one batch. */
  add(values: readonly WrittenValue[]): void {
    if (values.length === 0) return;
    // Of their own: a view would keep a whole request in memory. One allocation costs less than many.
    const all = Buffer.allocUnsafeSlow(values.reduce((sum, { value }) => sum + value.length, 0));
    const names = values.map(({ key }) => nameOf(key));
    const bytes = names.reduce((sum, name) => sum + entryBytes + name.length, all.length);
    const batch = { names, bytes };
    let at = 0;
    for (const [index, { modRevision, value }] of values.entries()) {
      const end = at + value.copy(all, at);
      this.#entries.set(names[index]!, { modRevision, value: all.subarray(at, end), batch });
      at = end;
    }
    this.#batches.push(batch);
    this.#bytes += bytes;
    while (this.#bytes > this.#bytesMax) this.#dropOldest();
  }

  delete(key: Buffer): void {
    this.#entries.delete(nameOf(key));
  }

  clear(): void {
    this.#entries.clear();
    this.#batches = [];
    this.#gone = 0;
    this.#bytes = 0;
  }

  #dropOldest(): void {
    const oldest = this.#batches[this.#gone++]!;
    for (const name of oldest.names)
      if (this.#entries.get(name)?.batch === oldest) this.#entries.delete(name);
    this.#bytes -= oldest.bytes;
    if (this.#gone * 2 < this.#batches.length) return;
    this.#batches = this.#batches.slice(this.#gone);
    this.#gone = 0;
  }
}

const nameOf = (key: Buffer) => key.toString('latin1');
