// The algebra of key ranges: single key, half-open range, from-key. Keys compare bytewise.

/** A range normalised from (key, rangeEnd): [start, end); `end` undefined = no upper bound. */
export interface KeyRange {
  readonly start: Buffer;
  readonly end: Buffer | undefined;
}

const zero = Buffer.from([0]);

/** The smallest key above `key`. */
export function successor(key: Buffer): Buffer {
  return Buffer.concat([key, zero]);
}

/** True for the wire's `range_end = "\0"`: every key from `key` on. */
export function isFromKey(rangeEnd: Buffer): boolean {
  return rangeEnd.length === 1 && rangeEnd[0] === 0;
}

/**
 * The range that (key, rangeEnd) of a Range, DeleteRange, Compare or Watch request names: empty `rangeEnd` = the single
 * key, `\0` = from key. An inverted range comes back as it is and contains nothing.
 */
export function keyRange(key: Buffer, rangeEnd: Buffer): KeyRange {
  if (rangeEnd.length === 0) return { start: key, end: successor(key) };
  if (isFromKey(rangeEnd)) return { start: key, end: undefined };
  return { start: key, end: rangeEnd };
}

/** The range of all keys that begin with `prefix`; an empty or all-0xff prefix has no upper bound. */
export function prefixRange(prefix: Buffer): KeyRange {
  for (let last = prefix.length - 1; last >= 0; last--) {
    const byte = prefix[last]!;
    if (byte < 0xff) {
      const end = Buffer.from(prefix.subarray(0, last + 1));
      end[last] = byte + 1;
      return { start: prefix, end };
    }
  }
  return { start: prefix, end: undefined };
}

/** True when no key can be in `range`. */
export function isEmptyRange(range: KeyRange): boolean {
  return range.end !== undefined && Buffer.compare(range.start, range.end) >= 0;
}

/** True when `range` is of a single key, as `keyRange` gives it for an empty end. */
export function isOneKey({ start, end }: KeyRange): boolean {
  return end?.length === start.length + 1 && end.at(-1) === 0 && end.subarray(0, -1).equals(start);
}

/** True when `key` is in `range`. */
export function contains(range: KeyRange, key: Buffer): boolean {
  return (
    Buffer.compare(key, range.start) >= 0 && (range.end === undefined || Buffer.compare(key, range.end) < 0)
  );
}

/** True when every key of `inner` is in `outer`; an empty `inner` is in everything. */
export function covers(outer: KeyRange, inner: KeyRange): boolean {
  if (isEmptyRange(inner)) return true;
  if (Buffer.compare(inner.start, outer.start) < 0) return false;
  if (outer.end === undefined) return true;
  return inner.end !== undefined && Buffer.compare(inner.end, outer.end) <= 0;
}

/** True when some key can be in both. */
export function overlaps(a: KeyRange, b: KeyRange): boolean {
  if (isEmptyRange(a) || isEmptyRange(b)) return false;
  const aBeforeB = a.end !== undefined && Buffer.compare(a.end, b.start) <= 0;
  const bBeforeA = b.end !== undefined && Buffer.compare(b.end, a.start) <= 0;
  return !aBeforeB && !bBeforeA;
}
