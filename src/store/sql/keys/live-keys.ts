// All live keys in order, with their counters, for the key index: lookups, counts of ranges and changes in microseconds at
// millions of keys. Blocks of some hundred keys stand in groups of some hundred blocks; each group knows how many keys it
// has, so a count adds up a few hundred numbers at most. Invariant: no block and no group is empty, and keys ascend.

import type { KeyRange } from '../../../etcd/range.ts';
import { KeyBlock, type KeyCounters } from './block.ts';

/** Blocks from which on a group is split. */
const groupBlocksMax = 256;

/** Keys of a block that is filled in order: there is room for others between them. */
const appendedKeys = 192;

interface Group {
  blocks: KeyBlock[];
  keys: number;
}

export class LiveKeys {
  readonly #groups: Group[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Bytes of the blocks, about what there is to them. */
  get bytes(): number {
    let total = 0;
    for (const { blocks } of this.#groups) for (const block of blocks) total += block.bytes;
    return total;
  }

  get(key: Uint8Array): KeyCounters | undefined {
    const group = this.#groupOf(key);
    return group && group.blocks[blockAt(group.blocks, key)]!.get(key);
  }

  /** How many keys are before `key`. */
  rank(key: Uint8Array): number {
    const last = this.#groupAt(key);
    const group = this.#groups[last];
    if (group === undefined) return 0;
    let rank = 0;
    for (let i = 0; i < last; i++) rank += this.#groups[i]!.keys;
    const at = blockAt(group.blocks, key);
    for (let i = 0; i < at; i++) rank += group.blocks[i]!.keys;
    return rank + group.blocks[at]!.rank(key);
  }

  /** Keys in `range`. */
  count({ start, end }: KeyRange): number {
    const through = end === undefined ? this.#size : this.rank(end);
    return Math.max(0, through - this.rank(start));
  }

  /** Sets the counters of `key`; gives the mod revision that it had, 0 = it was not there. */
  put(key: Uint8Array, counters: KeyCounters): number {
    let group = this.#groupOf(key);
    if (group === undefined) this.#groups.push((group = { blocks: [new KeyBlock()], keys: 0 }));
    const at = blockAt(group.blocks, key);
    const block = group.blocks[at]!;
    const before = block.put(key, counters);
    if (before === 0) {
      group.keys++;
      this.#size++;
    }
    if (block.isFull) {
      group.blocks.splice(at + 1, 0, block.split());
      if (group.blocks.length >= groupBlocksMax) this.#split(group);
    }
    return before;
  }

  /** Adds a key behind the last one, which is `last`; undefined for the first one. */
  append(key: Uint8Array, counters: KeyCounters, last: Uint8Array | undefined): void {
    let group = this.#groups.at(-1);
    if (group === undefined) this.#groups.push((group = { blocks: [new KeyBlock()], keys: 0 }));
    let block = group.blocks.at(-1)!;
    if (block.keys >= appendedKeys || block.isFull) {
      block.trim();
      group.blocks.push((block = new KeyBlock()));
      if (group.blocks.length >= groupBlocksMax) this.#split(group);
      group = this.#groups.at(-1)!;
    }
    block.append(key, counters, last);
    group.keys++;
    this.#size++;
  }

  /** Takes `key` away; gives the mod revision that it had, 0 = it was not there. */
  delete(key: Uint8Array): number {
    const group = this.#groupOf(key);
    if (group === undefined) return 0;
    const at = blockAt(group.blocks, key);
    const block = group.blocks[at]!;
    const before = block.delete(key);
    if (before === 0) return 0;
    group.keys--;
    this.#size--;
    if (block.keys === 0) {
      group.blocks.splice(at, 1);
      if (group.keys === 0) this.#groups.splice(this.#groups.indexOf(group), 1);
      return before;
    }
    if (!joinNext(group.blocks, at)) joinNext(group.blocks, at - 1);
    return before;
  }

  /** In key order. */
  *entries(): Generator<readonly [Buffer, KeyCounters]> {
    for (const { blocks } of this.#groups) for (const block of blocks) yield* block.entries();
  }

  #split(group: Group): void {
    const blocks = group.blocks.splice(groupBlocksMax / 2);
    let keys = 0;
    for (const block of blocks) keys += block.keys;
    group.keys -= keys;
    this.#groups.splice(this.#groups.indexOf(group) + 1, 0, { blocks, keys });
  }

  #groupOf(key: Uint8Array): Group | undefined {
    return this.#groups[this.#groupAt(key)];
  }

  /** The last group that begins at or before `key`, or the first one. */
  #groupAt(key: Uint8Array): number {
    const groups = this.#groups;
    let low = 1;
    let high = groups.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (groups[middle]!.blocks[0]!.compareFirst(key) <= 0) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

/** The last block that begins at or before `key`, or the first one. */
function blockAt(blocks: readonly KeyBlock[], key: Uint8Array): number {
  let low = 1;
  let high = blocks.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (blocks[middle]!.compareFirst(key) <= 0) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Joins the block at `at` with the next one where both are small. */
function joinNext(blocks: KeyBlock[], at: number): boolean {
  const block = blocks[at];
  const next = blocks[at + 1];
  if (block === undefined || next === undefined || !block.fits(next)) return false;
  block.join(next);
  blocks.splice(at + 1, 1);
  return true;
}
