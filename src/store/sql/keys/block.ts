// Some hundred keys in order, with their counters, in one buffer: what the key index is made of (live-keys.ts). Each
// entry has how many bytes its key shares with the one before it, the rest of the key, and the counters as varints.
// Invariants: keys ascend; what is shared is always the longest common prefix, 0 for the first entry. So a search passes
// over most entries by comparing two numbers.
//
// An entry: shared (varint), length of the rest (varint), length of the counters (byte), rest, counters. Counters: mod
// revision, mod - create revision, version (varints), and where there is a lease its 8 bytes.

/** Numbers, for speed: see `safeNumber`. */
export interface KeyCounters {
  readonly createRevision: number;
  readonly modRevision: number;
  readonly version: number;
  /** 0 = none. */
  readonly lease: bigint;
}

/** Keys and bytes from which on a block is too large. Those of one key may be more bytes. */
const blockKeysMax = 256;
const blockBytesMax = 16 * 1024;
/** Below, in keys and in bytes, a block may be joined with the one beside it. */
const joinKeysMax = 96;
const joinBytesMax = 6 * 1024;
/** Room to grow, so that most changes happen in place: a part of the block, and no less than some bytes. */
const slackPart = 1 / 8;
const slackBytesMin = 64;
const keyBytesMax = 0x3fff;
const leaseBytes = 8;

/** Where a search ended; one for all, since searches do not overlap. */
const found = {
  /** Whether the key is there. */
  isThere: false,
  /** Keys before it. */
  index: 0,
  /** Its entry, or the one that it would stand before: where that begins, and its two parts. */
  offset: 0,
  rest: 0,
  counters: 0,
  end: 0,
  /** Bytes that the key shares with the entry before it, and the entry at `offset` with that one. */
  sharedBefore: 0,
  shared: 0,
  /** Bytes that the key shares with the entry at `offset`. */
  sharedAfter: 0,
};

/** What `#read` has read last: where the parts of an entry are. */
const entry = { shared: 0, rest: 0, counters: 0, end: 0 };

/** `value` as the index keeps it. @throws RangeError beyond 2^53, where numbers are not exact any more. */
export function safeNumber(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 0)
    throw new RangeError(`Expected a counter below 2^53, got ${value}`);
  return number;
}

/** Entries are put together here before they go into a block. */
const scratch = Buffer.alloc(64 * 1024);

function writeVarint(into: Uint8Array, at: number, value: number): number {
  let rest = value;
  let next = at;
  while (rest >= 0x80) {
    into[next++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  into[next++] = rest;
  return next;
}

const varint = { value: 0, end: 0 };

function readVarint(from: Uint8Array, at: number): void {
  let value = 0;
  let scale = 1;
  let next = at;
  for (;;) {
    const byte = from[next++]!;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) break;
    scale *= 0x80;
  }
  varint.value = value;
  varint.end = next;
}

/** Length of the counters at `at` in `scratch`. */
function writeCounters(at: number, { createRevision, modRevision, version, lease }: KeyCounters): number {
  let end = writeVarint(scratch, at, modRevision);
  end = writeVarint(scratch, end, modRevision - createRevision);
  end = writeVarint(scratch, end, version);
  if (lease !== 0n) end = scratch.writeBigInt64LE(lease, end);
  return end - at;
}

/** Writes lengths of an entry at `at` in `scratch`. */
function writeHead(at: number, shared: number, restLength: number, countersLength: number): number {
  let next = writeVarint(scratch, at, shared);
  next = writeVarint(scratch, next, restLength);
  scratch[next++] = countersLength;
  return next;
}

function writeEntry(at: number, key: Uint8Array, shared: number, counters: KeyCounters): number {
  const restLength = key.length - shared;
  // The counters' length is known once they are written, behind where they will stand.
  const countersLength = writeCounters(at + restLength + 8, counters);
  const rest = writeHead(at, shared, restLength, countersLength);
  for (let i = 0; i < restLength; i++) scratch[rest + i] = key[shared + i]!;
  scratch.copyWithin(rest + restLength, at + restLength + 8, at + restLength + 8 + countersLength);
  return rest + restLength + countersLength;
}

function checkLength(key: Uint8Array): void {
  if (key.length > keyBytesMax)
    throw new RangeError(`Expected a key of at most ${keyBytesMax} bytes, got ${key.length}`);
}

export class KeyBlock {
  #bytes: Buffer;
  #used = 0;
  #keys = 0;

  constructor(bytes = Buffer.alloc(0), keys = 0) {
    this.#bytes = bytes;
    this.#used = bytes.length;
    this.#keys = keys;
  }

  get keys(): number {
    return this.#keys;
  }

  get isFull(): boolean {
    return this.#keys >= blockKeysMax || (this.#used > blockBytesMax && this.#keys > 1);
  }

  /** Whether this block and `next` make one that is not near full. */
  fits(next: KeyBlock): boolean {
    return this.#keys + next.#keys <= joinKeysMax && this.#used + next.#used <= joinBytesMax;
  }

  /** Below 0 when the first key is before `key`, 0 when it is `key`, above 0 when it is after it. Not of an empty block. */
  compareFirst(key: Uint8Array): number {
    const bytes = this.#bytes;
    this.#read(0);
    const { rest, counters } = entry;
    const length = counters - rest;
    const common = length < key.length ? length : key.length;
    for (let i = 0; i < common; i++) {
      const difference = bytes[rest + i]! - key[i]!;
      if (difference !== 0) return difference;
    }
    return length - key.length;
  }

  get(key: Uint8Array): KeyCounters | undefined {
    this.#find(key);
    return found.isThere ? this.#countersAt(found.counters, found.end) : undefined;
  }

  /** How many keys are before `key`. */
  rank(key: Uint8Array): number {
    this.#find(key);
    return found.index;
  }

  /** Sets the counters of `key`; gives the mod revision that it had, 0 = it was not there. */
  put(key: Uint8Array, counters: KeyCounters): number {
    checkLength(key);
    this.#find(key);
    const { isThere, offset, end, sharedBefore } = found;
    if (isThere) {
      readVarint(this.#bytes, found.counters);
      const before = varint.value;
      this.#splice(offset, end, writeEntry(0, key, sharedBefore, counters));
      return before;
    }
    let length = writeEntry(0, key, sharedBefore, counters);
    let to = offset;
    if (offset < this.#used) {
      // The entry behind shares more with the new one than with the one before.
      const { rest, shared, sharedAfter } = found;
      const cut = rest + sharedAfter - shared;
      const restEnd = found.counters;
      const next = writeHead(length, sharedAfter, restEnd - cut, end - found.counters);
      this.#bytes.copy(scratch, next, cut, restEnd);
      length = next + restEnd - cut;
      to = restEnd;
    }
    this.#keys++;
    this.#splice(offset, to, length);
    return 0;
  }

  /** Takes `key` away; gives the mod revision that it had, 0 = it was not there. */
  delete(key: Uint8Array): number {
    this.#find(key);
    if (!found.isThere) return 0;
    const { offset, rest, counters, end, sharedBefore } = found;
    readVarint(this.#bytes, counters);
    const before = varint.value;
    this.#keys--;
    if (end === this.#used) {
      this.#used = offset;
      return before;
    }
    // What the entry behind shared with this one and not with the one before is its own now.
    this.#read(end);
    const shared = Math.min(sharedBefore, entry.shared);
    const regained = entry.shared - shared;
    const { rest: nextRest, counters: nextCounters, end: nextEnd } = entry;
    const restLength = regained + nextCounters - nextRest;
    const at = writeHead(0, shared, restLength, nextEnd - nextCounters);
    this.#bytes.copy(scratch, at, rest, rest + regained);
    this.#bytes.copy(scratch, at + regained, nextRest, nextCounters);
    this.#splice(offset, nextCounters, at + restLength);
    return before;
  }

  /** Cuts the second half off into a block of its own. */
  split(): KeyBlock {
    const half = this.#used / 2;
    const key: number[] = [];
    let offset = 0;
    let keys = 0;
    for (;;) {
      this.#read(offset);
      key.length = entry.shared;
      for (let i = entry.rest; i < entry.counters; i++) key.push(this.#bytes[i]!);
      // At least one on each side.
      if (keys > 0 && (offset >= half || entry.end === this.#used)) break;
      offset = entry.end;
      keys++;
    }
    const head = writeHead(0, 0, key.length, entry.end - entry.counters);
    scratch.set(key, head);
    const bytes = Buffer.concat([
      scratch.subarray(0, head + key.length),
      this.#bytes.subarray(entry.counters, this.#used),
    ]);
    const second = new KeyBlock(bytes, this.#keys - keys);
    this.#keys = keys;
    this.#used = offset;
    this.trim();
    return second;
  }

  /** Takes over the keys of `next`, which are all after those of this block. */
  join(next: KeyBlock): void {
    for (const [key, counters] of next.entries()) this.put(key, counters);
  }

  /** Adds a key behind the last one, `last`, without a search; undefined where the block is empty. */
  append(key: Uint8Array, counters: KeyCounters, last: Uint8Array | undefined): void {
    checkLength(key);
    let shared = 0;
    if (last !== undefined && this.#keys > 0)
      while (shared < last.length && last[shared] === key[shared]) shared++;
    this.#keys++;
    this.#splice(this.#used, this.#used, writeEntry(0, key, shared, counters));
  }

  /** Gives back what is kept for growth. */
  trim(): void {
    const bytes = Buffer.allocUnsafeSlow(this.#used);
    this.#bytes.copy(bytes, 0, 0, this.#used);
    this.#bytes = bytes;
  }

  /** In key order. */
  *entries(): Generator<readonly [Buffer, KeyCounters]> {
    let key = Buffer.alloc(0);
    for (let offset = 0; offset < this.#used;) {
      this.#read(offset);
      const { shared, rest, counters, end } = entry;
      key = Buffer.concat([key.subarray(0, shared), this.#bytes.subarray(rest, counters)]);
      offset = end;
      yield [key, this.#countersAt(counters, end)];
    }
  }

  /** Bytes held. */
  get bytes(): number {
    return this.#bytes.length;
  }

  #countersAt(offset: number, end: number): KeyCounters {
    const bytes = this.#bytes;
    readVarint(bytes, offset);
    const modRevision = varint.value;
    readVarint(bytes, varint.end);
    const createRevision = modRevision - varint.value;
    readVarint(bytes, varint.end);
    const version = varint.value;
    const lease = varint.end + leaseBytes === end ? bytes.readBigInt64LE(varint.end) : 0n;
    return { createRevision, modRevision, version, lease };
  }

  #read(offset: number): void {
    const bytes = this.#bytes;
    let at = offset;
    let shared = bytes[at++]!;
    if (shared >= 0x80) shared = (shared & 0x7f) | (bytes[at++]! << 7);
    let length = bytes[at++]!;
    if (length >= 0x80) length = (length & 0x7f) | (bytes[at++]! << 7);
    const countersLength = bytes[at++]!;
    entry.shared = shared;
    entry.rest = at;
    entry.counters = at + length;
    entry.end = at + length + countersLength;
  }

  #find(key: Uint8Array): void {
    const bytes = this.#bytes;
    const used = this.#used;
    /** What the key shares with the entry before. */
    let matched = 0;
    let index = 0;
    let offset = 0;
    found.isThere = false;
    for (; offset < used; index++) {
      let at = offset;
      let shared = bytes[at++]!;
      if (shared >= 0x80) shared = (shared & 0x7f) | (bytes[at++]! << 7);
      let length = bytes[at++]!;
      if (length >= 0x80) length = (length & 0x7f) | (bytes[at++]! << 7);
      const countersLength = bytes[at++]!;
      const end = at + length + countersLength;
      // An entry that shares more with the one before than the key does is before the key too; one that shares less is after it.
      if (shared <= matched) {
        let common = shared;
        if (shared === matched) {
          const most = Math.min(length, key.length - shared);
          let i = 0;
          while (i < most && bytes[at + i] === key[shared + i]) i++;
          common = shared + i;
          if (i === length && common === key.length) found.isThere = true;
          else if (i === length || (common < key.length && bytes[at + i]! < key[common]!)) {
            matched = common;
            offset = end;
            continue;
          }
        }
        found.shared = shared;
        found.sharedAfter = common;
        found.rest = at;
        found.counters = at + length;
        found.end = end;
        break;
      }
      offset = end;
    }
    found.index = index;
    found.offset = offset;
    found.sharedBefore = matched;
  }

  /** Replaces what is from `from` to `to` by the first `length` bytes of `scratch`. */
  #splice(from: number, to: number, length: number): void {
    const used = this.#used + length - (to - from);
    if (used <= this.#bytes.length) this.#bytes.copyWithin(from + length, to, this.#used);
    else {
      const slack = Math.max(slackBytesMin, Math.floor(used * slackPart));
      const bytes = Buffer.allocUnsafeSlow(used + slack);
      this.#bytes.copy(bytes, 0, 0, from);
      this.#bytes.copy(bytes, from + length, to, this.#used);
      this.#bytes = bytes;
    }
    scratch.copy(this.#bytes, from, 0, length);
    this.#used = used;
  }
}
