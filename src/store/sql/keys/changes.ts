// Which keys came and went lately, for counts at past revisions: what is there now less what has come since. Used by the
// key index. Updates do not count, so they are not in it. Bounded: the oldest changes are forgotten, and counts from before
// them are not known. Changes are kept in portions; those of a full one are sorted by key with running sums, so that a
// portion takes two searches.

import type { KeyRange } from '../../../etcd/range.ts';

const portionChanges = 1024;
const bytesMax = 8 * 1024 * 1024;
/** Of a change in a full portion, beside the key. */
const changeBytes = 4 + 4 + 8;

interface Change {
  readonly revision: number;
  readonly key: Buffer;
  readonly by: 1 | -1;
}

/** Sorted by key. */
interface Portion {
  readonly keys: Buffer;
  /** Where each key begins, and where the last one ends. */
  readonly offsets: Uint32Array;
  readonly revisions: Float64Array;
  /** The sum of the changes before each, and of all. */
  readonly sums: Int32Array;
  readonly firstRevision: number;
  readonly lastRevision: number;
  readonly bytes: number;
}

export class PastChanges {
  readonly #bytesMax: number;
  /** Oldest first. */
  readonly #portions: Portion[] = [];
  #recent: Change[] = [];
  #bytes = 0;
  #since: number;

  /** Without changes above the revision `since`. */
  constructor(since: number, limits: { readonly bytesMax: number } = { bytesMax }) {
    this.#since = since;
    this.#bytesMax = limits.bytesMax;
  }

  /** All changes above this revision are known. */
  get since(): number {
    return this.#since;
  }

  /** Bytes of full portions. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A key came (1) or went (-1), at a revision not below those added before. */
  add(revision: number, key: Uint8Array, by: 1 | -1): void {
    // The key may be a part of a large message.
    this.#recent.push({ revision, key: Buffer.from(key), by });
    if (this.#recent.length < portionChanges) return;
    const portion = portionOf(this.#recent);
    this.#recent = [];
    this.#portions.push(portion);
    this.#bytes += portion.bytes;
    while (this.#bytes > this.#bytesMax) {
      const oldest = this.#portions.shift()!;
      this.#bytes -= oldest.bytes;
      this.#since = oldest.lastRevision;
    }
  }

  /** How many keys more `range` has now than at `revision`; undefined when that is too long ago. */
  gained(range: KeyRange, revision: number): number | undefined {
    if (revision < this.#since) return undefined;
    let gained = 0;
    for (let i = this.#recent.length - 1; i >= 0; i--) {
      const change = this.#recent[i]!;
      if (change.revision <= revision) return gained;
      if (isIn(range, change.key)) gained += change.by;
    }
    for (let i = this.#portions.length - 1; i >= 0; i--) {
      const portion = this.#portions[i]!;
      if (portion.lastRevision <= revision) break;
      gained += gainedIn(portion, range, revision);
    }
    return gained;
  }
}

function isIn({ start, end }: KeyRange, key: Buffer): boolean {
  return start.compare(key) <= 0 && (end === undefined || end.compare(key) > 0);
}

function portionOf(changes: readonly Change[]): Portion {
  const sorted = changes.toSorted((a, b) => a.key.compare(b.key));
  const keys = Buffer.concat(sorted.map(({ key }) => key));
  const offsets = new Uint32Array(sorted.length + 1);
  const sums = new Int32Array(sorted.length + 1);
  for (const [index, { key, by }] of sorted.entries()) {
    offsets[index + 1] = offsets[index]! + key.length;
    sums[index + 1] = sums[index]! + by;
  }
  return {
    keys,
    offsets,
    revisions: Float64Array.from(sorted, ({ revision }) => revision),
    sums,
    firstRevision: changes[0]!.revision,
    lastRevision: changes.at(-1)!.revision,
    bytes: keys.length + changes.length * changeBytes,
  };
}

function gainedIn(portion: Portion, { start, end }: KeyRange, revision: number): number {
  const { sums, revisions, firstRevision } = portion;
  const from = firstAtOrAfter(portion, start);
  const to = end === undefined ? revisions.length : firstAtOrAfter(portion, end);
  if (to <= from) return 0;
  if (firstRevision > revision) return sums[to]! - sums[from]!;
  let gained = 0;
  for (let i = from; i < to; i++) if (revisions[i]! > revision) gained += sums[i + 1]! - sums[i]!;
  return gained;
}

/** The index of the first change of a key that is not before `key`. */
function firstAtOrAfter({ keys, offsets, revisions }: Portion, key: Buffer): number {
  let low = 0;
  let high = revisions.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys.compare(key, 0, key.length, offsets[middle], offsets[middle + 1]) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
