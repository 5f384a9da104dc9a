// A set of keys made of ranges, for the many deletions of one txn. Adding a range and asking for a key cost a few comparisons
// each, however many ranges there are.

import { isEmptyRange, type KeyRange } from './range.ts';

/** Grows only. */
export class KeyRangeSet {
  /** Ranges in order that do not touch each other; each list is longer than the one after it. */
  readonly #lists: (readonly KeyRange[])[] = [];

  add(range: KeyRange): void {
    if (!isEmptyRange(range)) this.#addList([range]);
  }

  addAll(other: KeyRangeSet): void {
    for (const list of other.#lists) this.#addList(list);
  }

  has(key: Buffer): boolean {
    return this.#lists.some((list) => isIn(list, key));
  }

  #addList(added: readonly KeyRange[]): void {
    let list = added;
    while ((this.#lists.at(-1)?.length ?? Number.POSITIVE_INFINITY) <= list.length) {
      list = merged(this.#lists.pop()!, list);
    }
    this.#lists.push(list);
  }
}

function isIn(list: readonly KeyRange[], key: Buffer): boolean {
  let low = 0;
  let high = list.length;
  // The last range that begins at or before the key.
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (Buffer.compare(list[middle]!.start, key) <= 0) low = middle + 1;
    else high = middle;
  }
  const range = list[low - 1];
  return range !== undefined && (range.end === undefined || Buffer.compare(key, range.end) < 0);
}

function merged(a: readonly KeyRange[], b: readonly KeyRange[]): readonly KeyRange[] {
  const result: KeyRange[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    const isFromA = j === b.length || (i < a.length && Buffer.compare(a[i]!.start, b[j]!.start) <= 0);
    const next = isFromA ? a[i++]! : b[j++]!;
    const last = result.at(-1);
    if (last === undefined || isBefore(last, next)) result.push(next);
    else result[result.length - 1] = { start: last.start, end: laterEnd(last.end, next.end) };
  }
  return result;
}

/** Whether there is a gap between the two, of which `b` does not begin before `a`. */
function isBefore(a: KeyRange, b: KeyRange): boolean {
  return a.end !== undefined && Buffer.compare(a.end, b.start) < 0;
}

function laterEnd(a: KeyRange['end'], b: KeyRange['end']): KeyRange['end'] {
  if (a === undefined || b === undefined) return undefined;
  return Buffer.compare(a, b) >= 0 ? a : b;
}
