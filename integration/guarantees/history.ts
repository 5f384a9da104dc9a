// What has happened to a range of keys, found out by other means than a watch: reads of the past, revision by revision, and
// the writes that were acknowledged.

import { contains, covers, type KeyRange } from '../../src/etcd/range.ts';
import { rangeRequest } from '../../src/etcd/requests.ts';
import type { Event, KeyValue, RangeRequest, RangeResponse, Revision } from '../../src/etcd/types.ts';
import type { Acknowledged } from './acknowledged.ts';

/** All events of some revisions. */
export interface History {
  /** Every event above this and through `through` is here. */
  readonly after: Revision;
  readonly through: Revision;
  /** Of an event at or below it the pair before may be gone. */
  readonly compactRevision: Revision;
  /** In order, each with the pair before it. */
  readonly events: readonly Event[];
  /** Revisions of several events whose order nobody knows. */
  readonly unordered: ReadonlySet<Revision>;
}

export type Read = (request: RangeRequest) => Promise<RangeResponse>;

/** Reads that are under way at once. */
const readsMax = 16;
/** More revisions than any test has; a watch that needs more must bring its history along. */
const revisionsMax = 20_000n;

const nameOf = (key: Buffer) => key.toString('latin1');
const isCompacted = (error: unknown) =>
  error instanceof Error && error.message.includes('has been compacted');

/** Rebuilds the history of a range of keys from reads, as far as it is asked to. */
export class HistoryReader {
  readonly #read: Read;
  readonly #range: KeyRange;
  #after: Revision;
  #through: Revision | undefined;
  #compactRevision = 0n;
  readonly #live = new Map<string, KeyValue>();
  #events: Event[] = [];

  /** `after`: the first revision of interest is the next one. */
  constructor(read: Read, range: KeyRange, after: Revision) {
    this.#read = read;
    this.#range = range;
    this.#after = after;
  }

  covers(range: KeyRange): boolean {
    return covers(this.#range, range);
  }

  /** Reads on until the present, or until the latest revision that changes before a compaction; gives the present revision. */
  async readOn(): Promise<Revision> {
    const now = (await this.#get(0n, { countOnly: true })).header.revision;
    try {
      await this.#readTo(now);
    } catch (error) {
      if (!isCompacted(error)) throw error;
      await this.#restart(now);
      await this.#readTo(now);
    }
    return now;
  }

  /** What is known, each revision in the order of the writes that were acknowledged. @throws Error when they disagree */
  history(acknowledged: readonly Acknowledged[]): History {
    const writes = new Map<Revision, Acknowledged>();
    for (const write of acknowledged) {
      if (write.effects.length === 0) continue;
      if (writes.has(write.revision)) throw new Error(`Two writes were acknowledged at ${write.revision}`);
      writes.set(write.revision, write);
    }
    const unordered = new Set<Revision>();
    const events: Event[] = [];
    const through = this.#through ?? this.#after;
    for (const [revision, group] of Map.groupBy(this.#events, ({ kv }) => kv.modRevision)) {
      const write = writes.get(revision);
      writes.delete(revision);
      if (write === undefined && group.length > 1) unordered.add(revision);
      events.push(...(write === undefined ? group : this.#inOrder(write, group)));
    }
    for (const write of writes.values()) {
      if (write.revision > this.#after && write.revision <= through) this.#inOrder(write, []);
    }
    return { after: this.#after, through, compactRevision: this.#compactRevision, events, unordered };
  }

  /** @throws Error when the write and the events are not the same */
  #inOrder({ revision, effects }: Acknowledged, group: readonly Event[]): Event[] {
    const left = new Set(group);
    const take = (matches: (event: Event) => boolean) => {
      const taken = [...left].filter(matches).toSorted((a, b) => Buffer.compare(a.kv.key, b.kv.key));
      for (const event of taken) left.delete(event);
      return taken;
    };
    const ordered = effects.flatMap((effect) => {
      if (effect.type === 'delete') {
        const taken = take(({ type, kv }) => type === 'delete' && contains(effect.range, kv.key));
        if (covers(this.#range, effect.range) && taken.length !== effect.deleted) {
          throw new Error(
            `${effect.deleted} deletions were acknowledged at ${revision}, ${taken.length} are there`,
          );
        }
        return taken;
      }
      const taken = take(({ type, kv }) => type === 'put' && kv.key.equals(effect.key));
      if (contains(this.#range, effect.key) && taken.length !== 1) {
        throw new Error(`The put of ${nameOf(effect.key)} acknowledged at ${revision} is not there`);
      }
      return taken;
    });
    for (const { kv } of left) throw new Error(`${nameOf(kv.key)} changed at ${revision} in another's write`);
    return ordered;
  }

  async #readTo(now: Revision): Promise<void> {
    if (this.#through === undefined) {
      const { kvs } = await this.#get(this.#after > 0n ? this.#after : 1n);
      this.#through = this.#after;
      for (const kv of kvs) this.#live.set(nameOf(kv.key), kv);
    }
    if (now - this.#through > revisionsMax) {
      throw new Error(`Expected at most ${revisionsMax} revisions to read, got ${now - this.#through}`);
    }
    while (this.#through < now) {
      const first = this.#through + 1n;
      const count = Math.min(readsMax, Number(now - this.#through));
      const revisions = Array.from({ length: count }, (_, index) => first + BigInt(index));
      const changes = await Promise.all(
        revisions.map((revision) => this.#get(revision, { minModRevision: revision })),
      );
      for (const [index, change] of changes.entries()) await this.#apply(revisions[index]!, change);
    }
  }

  /** The pairs written at `revision`, and how many there were of all: what is short of that was deleted. */
  async #apply(revision: Revision, { kvs, count }: RangeResponse): Promise<void> {
    const events: Event[] = [];
    const born = kvs.filter(({ key }) => !this.#live.has(nameOf(key))).length;
    const deleted = this.#live.size + born - count;
    if (deleted !== 0) {
      const { kvs: left } = await this.#get(revision, { keysOnly: true });
      const there = new Set(left.map(({ key }) => nameOf(key)));
      const gone = [...this.#live].filter(([name]) => !there.has(name));
      if (gone.length !== deleted) {
        throw new Error(`Expected ${deleted} keys to be gone at ${revision}, got ${gone.length}`);
      }
      events.push(...gone.map(([, kv]) => deletion(kv, revision)));
    }
    events.push(...kvs.map((kv) => putOf(kv, this.#live.get(nameOf(kv.key)))));
    for (const { type, kv } of events) {
      if (type === 'put') this.#live.set(nameOf(kv.key), kv);
      else this.#live.delete(nameOf(kv.key));
    }
    this.#events.push(...events.toSorted((a, b) => Buffer.compare(a.kv.key, b.kv.key)));
    this.#through = revision;
  }

  /** The past was compacted: begins at the first revision that can be read. */
  async #restart(now: Revision): Promise<void> {
    let [gone, there] = [this.#through ?? this.#after, now];
    while (there - gone > 1n) {
      const middle = (gone + there) / 2n;
      if (await this.#isReadable(middle)) there = middle;
      else gone = middle;
    }
    this.#after = there;
    this.#through = undefined;
    this.#compactRevision = there;
    this.#live.clear();
    this.#events = [];
  }

  async #isReadable(revision: Revision): Promise<boolean> {
    try {
      await this.#get(revision, { countOnly: true });
      return true;
    } catch (error) {
      if (isCompacted(error)) return false;
      throw error;
    }
  }

  /** Events at or below it may have lost the pair before them. */
  compacted(revision: Revision): void {
    if (revision > this.#compactRevision) this.#compactRevision = revision;
  }

  #get(revision: Revision, options: Partial<RangeRequest> = {}): Promise<RangeResponse> {
    const { start, end } = this.#range;
    const rangeEnd = end ?? Buffer.from([0]);
    return this.#read(rangeRequest(start, { rangeEnd, revision, ...options }));
  }
}

function putOf(kv: KeyValue, prevKv: KeyValue | undefined): Event {
  return prevKv === undefined ? { type: 'put', kv } : { type: 'put', kv, prevKv };
}

function deletion(prevKv: KeyValue, modRevision: Revision): Event {
  const { key } = prevKv;
  const kv = { key, modRevision, createRevision: 0n, version: 0n, value: Buffer.alloc(0), lease: 0n };
  return { type: 'delete', kv, prevKv };
}

/** The history that is all of `events`, which are in order, up to `through`. */
export function historyOf(events: readonly Event[], compactRevision: Revision = 0n): History {
  const through = events.at(-1)?.kv.modRevision ?? 0n;
  return { after: 0n, through, compactRevision, events, unordered: new Set() };
}
