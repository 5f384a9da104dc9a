// An in-memory copy of the live keys and their counters, exact at one revision: for counts without a scan, and for writes that
// need not read what they replace. Used by sql-store.ts, range.ts and committer.ts. It is built in the background
// and follows by what is offered to it (own commits, the change feed) and by reading the log. Invariant: while `revision` is
// defined, the index is the store at that revision, nothing more and nothing less; else it is not asked.
// States: building → ready → building … (when history it needs is gone, or is not the one it knows) → closed.

import type { Driver } from '../../../dialect/dialect.ts';
import { EtcdError } from '../../../etcd/errors.ts';
import type { KeyRange } from '../../../etcd/range.ts';
import type { Event, LeaseId, Revision } from '../../../etcd/types.ts';
import { orAborted } from '../../../lib/abort.ts';
import { createBackoff } from '../../../lib/backoff.ts';
import type { Clock } from '../../../lib/clock.ts';
import type { Logger } from '../../../lib/log.ts';
import { safeNumber } from './block.ts';
import { buildKeys } from './build.ts';
import { PastChanges } from './changes.ts';
import type { LiveKeys } from './live-keys.ts';
import { readChanges, type ChangeRow } from './reader.ts';
import { createShared } from '../limits.ts';
import type { Query } from '../statements.ts';

/** How often the log is read where nothing else brings what others write: a compaction must not overtake the index. */
const refreshMs = 5_000;
const retryFirstMs = 50;
const retryMaxMs = 5_000;

/** What etcd counts of a live key. */
export interface KeyMeta {
  /** Revision at which the key (re)appeared. */
  readonly createRevision: Revision;
  readonly modRevision: Revision;
  /** Puts since creation, from 1. */
  readonly version: bigint;
  /** 0 = none. */
  readonly lease: LeaseId;
}

/** All events with after < revision <= through, in order; `events` undefined = they are in the log. */
export interface OfferedCommit {
  readonly after: Revision;
  readonly through: Revision;
  readonly events: readonly Pick<Event, 'type' | 'kv'>[] | undefined;
}

export interface KeyIndex {
  /** The index is exactly the store at this revision; undefined while it is being built: then it knows nothing. */
  readonly revision: Revision | undefined;
  /** How often it was built: what was known before a build may be of another history. */
  readonly builds: number;
  /** How many keys it knows, and what they take in memory; undefined while it is being built. */
  readonly size: { readonly count: number; readonly bytes: number } | undefined;
  /** Undefined = the key is not there. Only while `revision` is defined. */
  get(key: Buffer): KeyMeta | undefined;
  /**
   * Live keys of `range` at the revision `at`; undefined when the index cannot tell: not built, not there yet, or too long
   * ago. Whether `at` is compacted is not its business.
   */
  count(range: KeyRange, at: Revision): number | undefined;
  /** A commit, own or read from the log; applied at once when it follows `revision`, else a hint to read. Never throws. */
  offer(commit: OfferedCommit): void;
  /**
   * Brings in what has been committed before the call, by whomever; gives the revision reached, undefined when the index
   * is being built. Calls share reads. @throws the abort reason; what the driver throws.
   */
  catchUp(signal?: AbortSignal): Promise<Revision | undefined>;
  /** The database may have another history at the index's revision: builds anew. */
  distrust(reason: string): void;
  /** Begins to build. Called once, when the tables are there. */
  start(): void;
  /** Forgets everything and ends what is under way. */
  close(): Promise<void>;
}

export interface KeyIndexOptions {
  readonly driver: Pick<Driver, 'query'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** An index that knows nothing yet. */
export function createKeyIndex(options: KeyIndexOptions): KeyIndex {
  return new DatabaseKeyIndex(options);
}

/** The live keys at a revision, and how they came to be so. */
interface Content {
  readonly keys: LiveKeys;
  readonly past: PastChanges;
  revision: Revision;
}

class DatabaseKeyIndex implements KeyIndex {
  readonly #options: KeyIndexOptions;
  readonly #stop = new AbortController();
  readonly #query: Query;
  readonly #read: () => Promise<void>;
  #content: Content | undefined;
  #builds = 0;
  #running: Promise<void> | undefined;
  #rest = new AbortController();
  #hinted = false;

  constructor(options: KeyIndexOptions) {
    this.#options = options;
    this.#query = (statement, params) => options.driver.query(statement, params, this.#stop.signal);
    this.#read = createShared(() => this.#readLog());
  }

  get revision(): Revision | undefined {
    return this.#content?.revision;
  }

  get builds(): number {
    return this.#builds;
  }

  get size(): { readonly count: number; readonly bytes: number } | undefined {
    const keys = this.#content?.keys;
    return keys && { count: keys.size, bytes: keys.bytes };
  }

  get(key: Buffer): KeyMeta | undefined {
    const found = this.#content?.keys.get(key);
    return (
      found && {
        createRevision: BigInt(found.createRevision),
        modRevision: BigInt(found.modRevision),
        version: BigInt(found.version),
        lease: found.lease,
      }
    );
  }

  count(range: KeyRange, at: Revision): number | undefined {
    const content = this.#content;
    if (content === undefined || at > content.revision) return undefined;
    const gained = at === content.revision ? 0 : content.past.gained(range, Number(at));
    return gained === undefined ? undefined : content.keys.count(range) - gained;
  }

  offer({ after, through, events }: OfferedCommit): void {
    const content = this.#content;
    if (content === undefined || through <= content.revision) return;
    // One that begins before and ends behind: a read stopped within it, or it lifts a database that has lost commits.
    if (events === undefined || after !== content.revision) return this.#hint();
    this.#guarded(content, () => {
      for (const { type, kv } of events) {
        const isNew = apply(content, kv, type === 'delete') === 0;
        if (isNew !== (type === 'put' && kv.version === 1n)) throw new DivergenceError(kv.modRevision);
      }
      content.revision = through;
    });
  }

  async catchUp(signal?: AbortSignal): Promise<Revision | undefined> {
    signal?.throwIfAborted();
    if (this.#content === undefined) return undefined;
    await orAborted(this.#read(), signal);
    return this.#content?.revision;
  }

  distrust(reason: string): void {
    if (this.#content !== undefined) this.#forget(reason);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#stop.abort(new EtcdError('stopped'));
    this.#rest.abort();
    await this.#running;
    this.#content = undefined;
  }

  async #run(): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = this.#stop;
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
    let isFailing = false;
    while (!signal.aborted) {
      this.#rest = new AbortController();
      this.#hinted = false;
      let restMs = refreshMs;
      try {
        if (this.#content === undefined) await this.#build();
        else await this.#read();
        if (this.#hinted) restMs = 0;
        else if (this.#content === undefined) restMs = backoff.next();
        else backoff.reset();
        isFailing = false;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof RangeError) {
          logger.error('The key index cannot hold what is in the store; it does without', { error });
          return;
        }
        if (!isFailing) logger.warn('The key index cannot be read from the database', { error });
        isFailing = true;
        restMs = backoff.next();
      }
      await clock.sleep(restMs, this.#rest.signal);
    }
  }

  #hint(): void {
    this.#hinted = true;
    this.#rest.abort();
  }

  async #build(): Promise<void> {
    const { clock, logger } = this.#options;
    const startedAt = clock.now();
    const built = await buildKeys(this.#query);
    if (built === undefined || this.#stop.signal.aborted) return;
    const { keys, revision } = built;
    this.#builds++;
    this.#content = { keys, revision, past: new PastChanges(safeNumber(revision)) };
    const ms = Math.round(clock.now() - startedAt);
    logger.info('The key index is built', { keys: keys.size, bytes: keys.bytes, revision, ms });
  }

  /** Applies what the log has above `revision`, until there is no more. */
  async #readLog(): Promise<void> {
    for (;;) {
      const content = this.#content;
      if (content === undefined) return;
      const after = content.revision;
      const { rows, through, revision, compactRevision } = await readChanges(this.#query, after);
      // What has been offered meanwhile may have overtaken the read.
      if (content !== this.#content) continue;
      if (revision < after) return this.#forget('the database has lost commits');
      if (content.revision < compactRevision - 1n) return this.#forget('a compaction has overtaken it');
      if (through === undefined) return this.#forget('a revision has too many changes');
      if (through > content.revision) this.#applyRows(content, rows, through);
      if (through >= revision) return;
    }
  }

  #applyRows(content: Content, rows: readonly ChangeRow[], through: Revision): void {
    this.#guarded(content, () => {
      for (const row of rows) {
        if (row.modRevision <= content.revision) continue;
        const before = apply(content, row, row.isDelete);
        if (before !== Number(row.previous)) throw new DivergenceError(row.modRevision);
      }
      content.revision = through;
    });
  }

  /** Changes that the index cannot take make it worthless. */
  #guarded(content: Content, change: () => void): void {
    try {
      change();
    } catch (error) {
      if (content === this.#content) this.#forget(error instanceof Error ? error.message : String(error));
    }
  }

  /** Begins anew. */
  #forget(reason: string): void {
    this.#options.logger.warn('The key index is built anew', { reason, revision: this.#content?.revision });
    this.#content = undefined;
    this.#hint();
  }
}

/** The log does not go on from what the index knows: somebody has changed the tables, or restored them. */
class DivergenceError extends Error {
  constructor(revision: Revision) {
    super(`a change at revision ${revision} does not follow from what was known`);
  }
}

/** Applies one change; gives the mod revision that the key had, 0 = it was not there. */
function apply(
  { keys, past }: Content,
  row: Omit<ChangeRow, 'isDelete' | 'previous'>,
  isDelete: boolean,
): number {
  const modRevision = safeNumber(row.modRevision);
  if (isDelete) {
    const before = keys.delete(row.key);
    if (before !== 0) past.add(modRevision, row.key, -1);
    return before;
  }
  const createRevision = safeNumber(row.createRevision);
  const version = safeNumber(row.version);
  const before = keys.put(row.key, { createRevision, modRevision, version, lease: row.lease });
  if (before === 0) past.add(modRevision, row.key, 1);
  return before;
}
