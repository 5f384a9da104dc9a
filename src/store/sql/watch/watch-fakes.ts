// For tests only: a log in memory, a clock that is driven, a feed that is driven, and the watch guarantees as checks
// over what a watch has delivered.

import { EtcdError } from '../../../etcd/errors.ts';
import { contains, keyRange, type KeyRange } from '../../../etcd/range.ts';
import { watchRequest as plainWatchRequest } from '../../../etcd/requests.ts';
import type { Event, KeyValue, Revision, WatchCreateRequest } from '../../../etcd/types.ts';
import type { Clock } from '../../../lib/clock.ts';
import type { Watch, WatchBatch } from '../../store.ts';
import type { ChangeFeed, FeedBatch, FeedListener } from './change-feed.ts';
import type { LogChunk, LogQuery, LogReader, Revisions } from './log-reader.ts';

/** A promise that lets everything else that is ready run first. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Resolves when `condition` holds; rejects after a second. */
export async function until(condition: () => boolean, what = 'the condition'): Promise<void> {
  const deadline = Date.now() + 1000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`Expected ${what} within a second`);
    await turn();
  }
}

/** Time stands still until `advance`. */
export class FakeClock implements Clock {
  #now = 0;
  #sleepers = new Set<{ readonly at: number; readonly wake: () => void }>();

  now(): number {
    return this.#now;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const wake = () => {
        this.#sleepers.delete(sleeper);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      const sleeper = { at: this.#now + ms, wake };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', wake, { once: true });
    });
  }

  advance(ms: number): void {
    this.#now += ms;
    for (const sleeper of this.#sleepers) if (sleeper.at <= this.#now) sleeper.wake();
  }

  get sleeping(): number {
    return this.#sleepers.size;
  }
}

export type FakeWrite =
  | string
  | { readonly key: string; readonly value?: string; readonly isDelete?: boolean };

/** A store's log in memory with the reader's behaviour, small chunks and faults on demand. */
export class FakeLog implements LogReader {
  readonly events: Event[] = [];
  readonly #live = new Map<string, KeyValue>();
  revision = 1n;
  compactRevision = 0n;
  /** Reads reject while set. */
  fault: Error | undefined;
  /** Awaited by each read before it looks. */
  gate: (() => Promise<void>) | undefined;
  /** Awaited by each read after it has looked. */
  delay: (() => Promise<void>) | undefined;
  reads: LogQuery[] = [];
  revisionReads = 0;

  /** One txn; returns its revision. */
  commit(...writes: readonly FakeWrite[]): Revision {
    this.revision += 1n;
    for (const write of writes) {
      const {
        key,
        value = `${this.revision}`,
        isDelete = false,
      } = typeof write === 'string' ? { key: write } : write;
      const prevKv = this.#live.get(key);
      const kv: KeyValue = {
        key: Buffer.from(key),
        createRevision: isDelete ? 0n : (prevKv?.createRevision ?? this.revision),
        modRevision: this.revision,
        version: isDelete ? 0n : (prevKv?.version ?? 0n) + 1n,
        value: Buffer.from(isDelete ? '' : value),
        lease: 0n,
      };
      if (isDelete) this.#live.delete(key);
      else this.#live.set(key, kv);
      const type = isDelete ? 'delete' : 'put';
      this.events.push(prevKv === undefined ? { type, kv } : { type, kv, prevKv });
    }
    return this.revision;
  }

  async revisions(): Promise<Revisions> {
    this.revisionReads++;
    const { revision, compactRevision } = this;
    await this.gate?.();
    if (this.fault !== undefined) throw this.fault;
    return { revision, compactRevision };
  }

  async read(query: LogQuery): Promise<LogChunk> {
    this.reads.push(query);
    await this.gate?.();
    if (this.fault !== undefined) throw this.fault;
    const { revision, compactRevision } = this;
    if (query.after < compactRevision - 1n) throw new EtcdError('compacted', { compactRevision });
    const through = query.through === undefined || query.through > revision ? revision : query.through;
    const events: Event[] = [];
    for (const event of this.events) {
      const at = event.kv.modRevision;
      if (at <= query.after || at > through) continue;
      if (query.range !== undefined && !contains(query.range, event.kv.key)) continue;
      if (events.length >= query.eventsMax && events.at(-1)!.kv.modRevision !== at) {
        await this.delay?.();
        return { events, through: at - 1n, revision };
      }
      events.push(event);
    }
    await this.delay?.();
    return { events, through, revision };
  }
}

/** A feed that publishes what the test says, when it says so. */
export class FakeFeed implements ChangeFeed {
  readonly #log: FakeLog;
  #listener: FeedListener | undefined;
  #askers: (() => void)[] = [];
  readonly published = { own: 0, log: 0 };
  applied = 0n;
  hints = 0;

  constructor(log: FakeLog) {
    this.#log = log;
  }

  get running(): boolean {
    return this.#listener !== undefined;
  }

  start(after: Revision, listener: FeedListener): void {
    this.applied = after;
    this.#listener = listener;
  }

  stop(): void {
    this.#listener = undefined;
  }

  hint(): void {
    this.hints++;
  }

  offer(batch: FeedBatch): void {
    this.applied = batch.through;
    this.#listener?.publish(batch);
  }

  caughtUp(): Promise<void> {
    return new Promise((resolve) => {
      this.#askers.push(resolve);
    });
  }

  get asked(): number {
    return this.#askers.length;
  }

  /** Publishes what the log has up to `through`, as one batch. */
  publish(through = this.#log.revision): void {
    const after = this.applied;
    const events = this.#log.events.filter(({ kv }) => kv.modRevision > after && kv.modRevision <= through);
    this.applied = through;
    this.#listener?.publish({ events, after, through });
  }

  /** Answers those who wait for caughtUp. */
  answer(): void {
    for (const resolve of this.#askers.splice(0)) resolve();
  }

  compacted(compactRevision: Revision): void {
    this.#listener?.compacted(compactRevision);
    this.applied = compactRevision - 1n;
  }
}

/** A watch request for `key` or, with a trailing `*`, for the prefix before it. */
export function watchRequest(pattern: string, options: Partial<WatchCreateRequest> = {}): WatchCreateRequest {
  const key = Buffer.from(pattern.replace(/\*$/, ''));
  const rangeEnd = Buffer.from(key);
  if (pattern.endsWith('*')) rangeEnd[rangeEnd.length - 1]! += 1;
  const end = pattern.endsWith('*') ? { rangeEnd } : {};
  return plainWatchRequest(key, { ...end, prevKv: true, ...options });
}

/** Takes batches from `watch` in the background into `batches`, until it ends or `stop`. */
export class Recorder {
  readonly watch: Watch;
  readonly request: WatchCreateRequest;
  readonly range: KeyRange;
  readonly start: Revision;
  readonly batches: WatchBatch[] = [];
  readonly #iterator: AsyncIterator<WatchBatch>;
  error: unknown;
  ended = false;
  #pulling = false;

  constructor(watch: Watch, request: WatchCreateRequest) {
    this.watch = watch;
    this.request = request;
    this.range = keyRange(request.key, request.rangeEnd);
    this.start = request.startRevision === 0n ? watch.createdRevision + 1n : request.startRevision;
    this.#iterator = watch[Symbol.asyncIterator]();
  }

  /** Takes one batch when there is one; false while the pull before is still waiting. */
  pull(): boolean {
    if (this.#pulling || this.ended) return false;
    this.#pulling = true;
    void this.#iterator.next().then(
      (result) => {
        this.#pulling = false;
        if (result.done === true) this.ended = true;
        else this.batches.push(result.value);
      },
      (error: unknown) => {
        this.#pulling = false;
        this.ended = true;
        this.error = error;
      },
    );
    return true;
  }

  /** Pulls on until it ends. */
  async run(): Promise<void> {
    while (!this.ended) {
      this.pull();
      await turn();
    }
  }

  async stop(): Promise<void> {
    await this.#iterator.return?.();
  }

  get events(): Event[] {
    return this.batches.flatMap((batch) => batch.events);
  }

  get marks(): Revision[] {
    return this.batches.filter((batch) => batch.events.length === 0).map((batch) => batch.revision);
  }

  get keys(): string[] {
    return this.events.map(
      (event) => `${event.type === 'put' ? '' : '-'}${event.kv.key.toString()}@${event.kv.modRevision}`,
    );
  }
}

export type Guarantee = 'ordered' | 'unique' | 'reliable' | 'atomic' | 'bookmarkable';

const nameOf = ({ type, kv }: Event) => `${type} ${kv.key.toString('latin1')}@${kv.modRevision}`;

/**
 * What a recorded watch has broken of etcd's watch guarantees, given all events of the log; empty = nothing. For a
 * watch without filters.
 */
export function brokenGuarantees(recorder: Recorder, log: readonly Event[]): string[] {
  const broken: string[] = [];
  const fail = (guarantee: Guarantee, text: string) => broken.push(`${guarantee}: ${text}`);
  const seen = new Set<string>();
  let last = 0n;
  let promised = recorder.start - 1n;
  /** Below `promised` only while the store has not got to a start in the future. */
  let told = 0n;
  for (const { events, revision } of recorder.batches) {
    const first = events[0]?.kv.modRevision;
    if (first !== undefined && first === last) fail('atomic', `revision ${first} is split over batches`);
    if (first !== undefined && first <= promised)
      fail('bookmarkable', `${nameOf(events[0]!)} after ${promised}`);
    for (const event of events) {
      if (event.kv.modRevision < last) fail('ordered', `${nameOf(event)} after ${last}`);
      last = event.kv.modRevision;
      if (seen.has(nameOf(event))) fail('unique', `${nameOf(event)} came twice`);
      seen.add(nameOf(event));
      if (event.kv.modRevision > revision)
        fail('bookmarkable', `${nameOf(event)} in a batch through ${revision}`);
    }
    if (revision < told) fail('bookmarkable', `${revision} after ${told}`);
    told = revision;
    if (revision > promised) promised = revision;
  }
  const due = log.filter(
    ({ kv }) =>
      kv.modRevision >= recorder.start && kv.modRevision <= promised && contains(recorder.range, kv.key),
  );
  for (const event of due)
    if (!seen.has(nameOf(event))) fail('reliable', `${nameOf(event)} is missing at ${promised}`);
  if (broken.length === 0 && due.map(nameOf).join() !== recorder.events.map(nameOf).join()) {
    fail('ordered', `expected ${due.map(nameOf).join()}, got ${recorder.events.map(nameOf).join()}`);
  }
  return broken;
}
