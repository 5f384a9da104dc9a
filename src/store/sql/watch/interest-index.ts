// Who wants to hear of a key. Watchers of the same range share one interest; looking a key up costs in proportion to
// the interests that match, not to those that exist. Used by the watch hub only.

import { contains, prefixRange, successor, type KeyRange } from '../../../etcd/range.ts';

/** A distinct range and its members; never empty while it is in the index. */
export interface Interest<Member> {
  readonly range: KeyRange;
  readonly members: Set<Member>;
}

function sameEnd(a: Buffer | undefined, b: Buffer | undefined): boolean {
  return a === undefined || b === undefined ? a === b : a.equals(b);
}

/**
 * Point interests are found by the key, prefix interests by each prefix of the key that has a length in use. What is
 * neither (from-key and odd ranges, which Kubernetes does not use) is compared one by one.
 */
export class InterestIndex<Member> {
  readonly #points = new Map<string, Interest<Member>>();
  readonly #prefixes = new Map<string, Interest<Member>>();
  /** Length of prefix → how many prefix interests have it. */
  readonly #prefixLengths = new Map<number, number>();
  readonly #others = new Map<string, Interest<Member>>();

  add(range: KeyRange, member: Member): void {
    const { map, name } = this.#place(range);
    let interest = map.get(name);
    if (interest === undefined) {
      interest = { range, members: new Set() };
      map.set(name, interest);
      if (map === this.#prefixes) this.#countLength(range.start.length, 1);
    }
    interest.members.add(member);
  }

  delete(range: KeyRange, member: Member): void {
    const { map, name } = this.#place(range);
    const interest = map.get(name);
    if (interest === undefined || !interest.members.delete(member) || interest.members.size > 0) return;
    map.delete(name);
    if (map === this.#prefixes) this.#countLength(range.start.length, -1);
  }

  /** Calls `visit` with every interest whose range has `key` in it. */
  match(key: Buffer, visit: (interest: Interest<Member>) => void): void {
    const name = key.toString('latin1');
    const point = this.#points.get(name);
    if (point !== undefined) visit(point);
    for (const length of this.#prefixLengths.keys()) {
      if (length > name.length) continue;
      const prefix = this.#prefixes.get(name.slice(0, length));
      if (prefix !== undefined) visit(prefix);
    }
    for (const interest of this.#others.values()) if (contains(interest.range, key)) visit(interest);
  }

  #place(range: KeyRange): { map: Map<string, Interest<Member>>; name: string } {
    const start = range.start.toString('latin1');
    if (sameEnd(range.end, successor(range.start))) return { map: this.#points, name: start };
    if (sameEnd(range.end, prefixRange(range.start).end)) return { map: this.#prefixes, name: start };
    const name = `${range.start.toString('hex')}-${range.end?.toString('hex') ?? 'end'}`;
    return { map: this.#others, name };
  }

  #countLength(length: number, change: number): void {
    const count = (this.#prefixLengths.get(length) ?? 0) + change;
    if (count === 0) this.#prefixLengths.delete(length);
    else this.#prefixLengths.set(length, count);
  }
}
