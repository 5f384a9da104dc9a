// The dynamic table of HPACK (RFC 7541, 2.3.2 and 4): the last entries put in, as many as its size allows. A ring, so that
// neither an insertion nor an eviction moves an entry. Slots of evicted entries are emptied, so that no more than the
// size is kept in memory.

import type { Entry } from './static-table.ts';

/** What an entry counts beside the bytes of its name and value (RFC 7541, 4.1; the same in lists, RFC 9113, 6.5.2). */
export const entryOverheadBytes = 32;

export class DynamicTable {
  readonly #slots: (Entry | undefined)[];
  /** The slot of the next entry; there are a power of two of them. */
  #next = 0;
  #length = 0;
  #bytes = 0;
  #bytesMax: number;
  #changes = 0;

  /** `capacityBytes`: the largest size that it will be given; its size at first. */
  constructor(capacityBytes: number) {
    const entriesMax = Math.floor(capacityBytes / entryOverheadBytes);
    this.#slots = Array<undefined>(2 ** Math.ceil(Math.log2(entriesMax + 1))).fill(undefined);
    this.#bytesMax = capacityBytes;
  }

  /** Entries. */
  get length(): number {
    return this.#length;
  }

  get bytesMax(): number {
    return this.#bytesMax;
  }

  /** Insertions and evictions so far: while it is the same, so is every index. */
  get changes(): number {
    return this.#changes;
  }

  /** `age` 0 is the entry put in last; undefined beyond the oldest. */
  at(age: number): Entry | undefined {
    return age < this.#length ? this.#slots[(this.#next - 1 - age) & (this.#slots.length - 1)] : undefined;
  }

  /** The age of this pair; undefined where there is none. */
  ageOfPair([name, value]: Entry): number | undefined {
    for (let age = 0; age < this.#length; age++) {
      const entry = this.at(age)!;
      if (entry[1] === value && entry[0] === name) return age;
    }
    return undefined;
  }

  /** The age of the last pair with this name; undefined where there is none. */
  ageOfName(name: string): number | undefined {
    for (let age = 0; age < this.#length; age++) if (this.at(age)![0] === name) return age;
    return undefined;
  }

  /** Whether the table, emptied, has room for this pair. */
  fits(entry: Entry): boolean {
    return entryBytes(entry) <= this.#bytesMax;
  }

  /** Evicts what must go first; a pair that is larger than the table leaves it empty, and is no error (RFC 7541, 4.4). */
  insert(entry: Entry): void {
    const bytes = entryBytes(entry);
    this.#evictDownTo(Math.max(this.#bytesMax - bytes, 0));
    if (bytes > this.#bytesMax) return;
    this.#slots[this.#next] = entry;
    this.#next = (this.#next + 1) & (this.#slots.length - 1);
    this.#length++;
    this.#bytes += bytes;
    this.#changes++;
  }

  /** `bytesMax`: at most the capacity. Evicts what no longer fits (RFC 7541, 4.3). */
  resize(bytesMax: number): void {
    this.#bytesMax = bytesMax;
    this.#evictDownTo(bytesMax);
  }

  #evictDownTo(bytes: number): void {
    while (this.#bytes > bytes) {
      const oldest = (this.#next - this.#length) & (this.#slots.length - 1);
      this.#bytes -= entryBytes(this.#slots[oldest]!);
      this.#slots[oldest] = undefined;
      this.#length--;
      this.#changes++;
    }
  }
}

function entryBytes([name, value]: Entry): number {
  return name.length + value.length + entryOverheadBytes;
}
