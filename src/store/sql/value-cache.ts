// Values that were written a short while ago, so that the next write of a key need not read the one it replaces. Used by
// live-reader.ts and batch-writer.ts. Each value belongs to one key and revision, so it is out of date only where a database
// that has lost commits takes a revision again; then the cache is cleared.

import type { Revision } from '../../etcd/types.ts';

/** What an entry weighs beside its value, about. */
const entryBytes = 160;

interface Entry {
  readonly modRevision: Revision;
  readonly value: Buffer;
}

/** Values of the keys that were written last, one for each key, up to a number of bytes. */
export class ValueCache {
  readonly #bytesMax: number;
  /** By key as latin1, the one written longest ago first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor({ bytesMax }: { readonly bytesMax: number }) {
    this.#bytesMax = bytesMax;
  }

  /** The value that `key` got at `modRevision`, if it is still here. */
  get(key: Buffer, modRevision: Revision): Buffer | undefined {
    const entry = this.#entries.get(nameOf(key));
    return entry?.modRevision === modRevision ? entry.value : undefined;
  }

  set(key: Buffer, modRevision: Revision, value: Buffer): void {
    const name = nameOf(key);
    this.#remove(name);
    // Of its own: a view would keep the whole request in memory.
    const own = Buffer.allocUnsafeSlow(value.length);
    value.copy(own);
    this.#entries.set(name, { modRevision, value: own });
    this.#bytes += weightOf(name, value);
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#bytesMax) return;
      this.#remove(oldest);
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  delete(key: Buffer): void {
    this.#remove(nameOf(key));
  }

  #remove(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    this.#entries.delete(name);
    this.#bytes -= weightOf(name, entry.value);
  }
}

const nameOf = (key: Buffer) => key.toString('latin1');
const weightOf = (name: string, value: Buffer) => entryBytes + name.length + value.length;
