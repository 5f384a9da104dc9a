// The one way of writing to a SQL store: group commit. What waits in the queue goes through one database transaction that
// locks the meta row, evaluates each job in order and writes all effects as a few multi-row statements. Used by sql-store.ts and
// the lessor. Invariants: revisions are dense and taken under the lock, so commit order is revision order; nobody gets an
// answer before COMMIT; a batch whose COMMIT got no answer is looked for in the database before anybody hears anything.

import { randomBytes } from 'node:crypto';
import { SqlFault, type Dialect, type Driver, type Row, type Session } from '../../dialect/dialect.ts';
import { EtcdError } from '../../etcd/errors.ts';
import type { Event, LeaseId, Revision } from '../../etcd/types.ts';
import { createBackoff } from '../../lib/backoff.ts';
import type { Clock } from '../../lib/clock.ts';
import type { Logger } from '../../lib/log.ts';
import { updateCompactRevision } from './compactor.ts';
import { isTransient, toEtcdError } from './faults.ts';
import { bytes, int64 } from './row.ts';
import { BatchState, type Needs } from './state.ts';
import { queryOf, writeStatements, type WriteStatements } from './statements.ts';

/** Jobs in one database transaction, and bytes of their requests. */
const batchJobsMax = 256;
const batchBytesMax = 4 * 1024 * 1024;
/** Jobs and bytes that may wait; above, `tooManyRequests`. */
const queueJobsMax = 10_000;
const queueBytesMax = 256 * 1024 * 1024;
/** How long a job may wait for its batch; no client waits much longer, and a stale queue only delays who comes next. */
const waitMaxMs = 10_000;
/** What a revoked lease weighs in a batch: it may have a thousand keys. */
const revokeBytes = 128 * 1024;
/** Other gateways may have seen later revisions than the one that lifts, but not so many. */
const liftBy = 1_000_000n;
/** How long a batch is tried again after faults that left nothing behind, and looked for after a lost COMMIT. */
const retryForMs = 5_000;
const findOutForMs = 15_000;
const retryFirstMs = 5;
const retryMaxMs = 500;

/** What a job does with the locked state; an EtcdError fails this job alone and must come before any change. */
export interface Job<T> {
  /** About, for the bounds. */
  readonly bytes: number;
  /** What to read before. */
  readonly needs: Needs;
  apply(state: BatchState): Promise<T>;
}

/** One committed batch, for the feed: `events` undefined = read them from the log. */
export interface Commit {
  readonly after: Revision;
  readonly through: Revision;
  readonly events: readonly Event[] | undefined;
}

export interface Committer {
  /**
   * Runs `job` in a batch; resolves when it is durable. An abort takes effect while the job waits, not later.
   * @throws EtcdError as the job does; tooManyRequests; timeout when the database does not answer or the outcome is not
   * known; stopped after close.
   */
  run<T>(job: Job<T>, signal?: AbortSignal): Promise<T>;
  /**
   * Removes a lease and the keys attached to it, in key order and one revision. `found` is false when the lease is not
   * there or, with `onlyIfExpired`, when it is not over by the database's clock.
   */
  revoke(
    id: LeaseId,
    options: { readonly onlyIfExpired: boolean },
  ): Promise<{ readonly revision: Revision; readonly found: boolean }>;
  /** Lifts the revision to at least `revision`. */
  raise(revision: Revision, signal?: AbortSignal): Promise<void>;
  /**
   * Lifts a store that is found below `seen` well above it and compacts it there, as after a restored backup. Gives the
   * revision, or undefined when the store is not below.
   */
  lift(seen: Revision): Promise<Revision | undefined>;
  /**
   * Refuses new jobs and waits for those that were taken. While the database is away nothing is tried again, and the
   * jobs that wait fail with `stopped`.
   */
  close(): Promise<void>;
}

export interface CommitterOptions {
  readonly driver: Driver;
  readonly dialect: Dialect;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether somebody wants the events of commits; then previous values are read along. */
  readonly wantsEvents: () => boolean;
  /** Called after each commit that took a revision, in order, before the callers get their answers. */
  readonly committed: (commit: Commit) => void;
}

/** A committer with an empty queue. */
export function createCommitter(options: CommitterOptions): Committer {
  return new GroupCommitter(options);
}

interface Waiting {
  readonly job: Job<unknown>;
  readonly since: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

type Outcome = { readonly value: unknown } | { readonly error: EtcdError };

/** Who wrote last, as the meta row names it. */
interface WriteName {
  readonly writer: bigint;
  readonly batch: bigint;
}

/** What one attempt found and did. */
interface Attempt {
  readonly outcomes: readonly Outcome[];
  readonly before: Revision;
  readonly after: Revision;
  /** The write that the meta row named before. */
  readonly last: WriteName;
  readonly hasWritten: boolean;
  readonly events: readonly Event[] | undefined;
}

const noNeeds: Needs = { keys: [], valueKeys: [], leases: [] };

class GroupCommitter implements Committer {
  readonly #options: CommitterOptions;
  readonly #statements: WriteStatements;
  /** Names this process's writes in the meta row. */
  readonly #writer = (randomBytes(8).readBigUInt64BE() >> 1n) | 1n;
  #batch = 0n;
  #queue: Waiting[] = [];
  #queueBytes = 0;
  #running: Promise<void> | undefined;
  readonly #closed = new AbortController();

  constructor(options: CommitterOptions) {
    this.#options = options;
    this.#statements = writeStatements(options.dialect.sql);
  }

  run<T>(job: Job<T>, signal?: AbortSignal): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closed.signal.aborted) return reject(new EtcdError('stopped'));
      if (signal?.aborted) return reject(signal.reason as Error);
      if (this.#queue.length >= queueJobsMax || this.#queueBytes + job.bytes > queueBytesMax) {
        return reject(new EtcdError('tooManyRequests'));
      }
      this.#queueBytes += job.bytes;
      // The queue forgets the type; `resolve` gets what this very job's `apply` gave.
      const done = resolve as (value: unknown) => void;
      this.#queue.push({ job, since: this.#options.clock.now(), signal, resolve: done, reject });
      this.#running ??= this.#drain();
    });
  }

  revoke(id: LeaseId, { onlyIfExpired }: { readonly onlyIfExpired: boolean }) {
    const statements = this.#statements;
    return this.run({
      bytes: revokeBytes,
      needs: noNeeds,
      async apply(state) {
        const { rows } = await state.query(statements.lockLease, [id]);
        const row = rows[0];
        const isOver = row !== undefined && int64(row, 'expires_at') <= int64(row, 'now');
        if (row === undefined || (onlyIfExpired && !isOver)) {
          return { revision: state.revision, found: false };
        }
        // Attachments of this very batch may still be unwritten.
        await state.flush();
        const attached = (await state.query(statements.selectLeaseKeys, [id])).rows;
        const keys = attached.map((found) => bytes(found, 'k'));
        await state.prefetch({ keys, valueKeys: [], leases: [] });
        for (const key of keys) {
          const live = await state.get(key);
          if (live?.lease === id) state.remove(live);
        }
        state.endTxn();
        await state.removeLease(id);
        return { revision: state.revision, found: true };
      },
    });
  }

  async raise(revision: Revision, signal?: AbortSignal): Promise<void> {
    const apply = async (state: BatchState) => state.raise(revision);
    await this.run({ bytes: 0, needs: noNeeds, apply }, signal);
  }

  lift(seen: Revision): Promise<Revision | undefined> {
    const apply = async (state: BatchState) => {
      if (state.revision >= seen) return undefined;
      const lifted = seen + liftBy;
      state.raise(lifted);
      await state.query(updateCompactRevision, [lifted]);
      return lifted;
    };
    return this.run({ bytes: 0, needs: noNeeds, apply });
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#running;
  }

  async #drain(): Promise<void> {
    // One turn of the event loop, so that requests that arrived together share the first batch.
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    while (this.#queue.length > 0) {
      const batch = this.#take();
      if (batch.length > 0) await this.#commit(batch);
    }
    this.#running = undefined;
  }

  #take(): Waiting[] {
    const batch: Waiting[] = [];
    const oldest = this.#options.clock.now() - waitMaxMs;
    let taken = 0;
    let bytes = 0;
    for (const waiting of this.#queue) {
      if (batch.length >= batchJobsMax) break;
      if (batch.length > 0 && bytes + waiting.job.bytes > batchBytesMax) break;
      taken++;
      this.#queueBytes -= waiting.job.bytes;
      if (waiting.signal?.aborted) {
        waiting.reject(waiting.signal.reason);
        continue;
      }
      if (waiting.since < oldest) {
        waiting.reject(new EtcdError('timeout'));
        continue;
      }
      bytes += waiting.job.bytes;
      batch.push(waiting);
    }
    this.#queue = this.#queue.slice(taken);
    return batch;
  }

  async #commit(batch: readonly Waiting[]): Promise<void> {
    let attempt: Attempt;
    try {
      attempt = await this.#persist(batch.map(({ job }) => job));
    } catch (error) {
      const mayBeOfOne = !(toEtcdError(error) instanceof EtcdError) || isTooLarge(error);
      if (this.#closed.signal.aborted && !mayBeOfOne) this.#abandon();
      if (batch.length === 1 || !mayBeOfOne) {
        for (const { reject } of batch) reject(toEtcdError(error));
        return;
      }
      this.#options.logger.warn('A batch failed and is tried one by one', { jobs: batch.length, error });
      for (const waiting of batch) await this.#commit([waiting]);
      return;
    }
    const { before, after, events } = attempt;
    if (after > before) this.#options.committed({ after: before, through: after, events });
    for (const [index, { resolve, reject }] of batch.entries()) {
      const outcome = attempt.outcomes[index]!;
      if ('error' in outcome) reject(outcome.error);
      else resolve(outcome.value);
    }
  }

  /** Fails what waits. */
  #abandon(): void {
    for (const { reject } of this.#queue) reject(new EtcdError('stopped'));
    this.#queue = [];
    this.#queueBytes = 0;
  }

  /** Tries until the batch is known to be durable, or fails. */
  async #persist(jobs: readonly Job<unknown>[]): Promise<Attempt> {
    const { driver, clock, logger } = this.#options;
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
    const deadline = clock.now() + retryForMs;
    for (;;) {
      const batch = ++this.#batch;
      let attempt: Attempt | undefined;
      try {
        return await driver.transaction('write', async (session) => {
          attempt = await this.#apply(session, jobs, batch);
          return attempt;
        });
      } catch (error) {
        if (error instanceof SqlFault && error.outcomeUnknown && attempt !== undefined) {
          logger.warn('A commit was not answered; looking for it in the database', { error });
          if (!attempt.hasWritten) return attempt;
          const found = await this.#findOut(attempt, batch);
          logger.warn('A commit that was not answered has been looked for', { found });
          if (found === 'there') return attempt;
          if (found === 'unknown') throw error;
        } else if (!isTransient(error)) throw error;
        if (clock.now() > deadline || this.#closed.signal.aborted) throw error;
      }
      await clock.sleep(backoff.next(), this.#closed.signal);
    }
  }

  async #apply(session: Session, jobs: readonly Job<unknown>[], batch: bigint): Promise<Attempt> {
    const statements = this.#statements;
    const { dialect, wantsEvents } = this.#options;
    const { rows } = await session.query(statements.lockMeta, []);
    const meta = rows[0];
    if (meta === undefined) throw new SqlFault('other', 'Expected one row in switchyard_meta, got none');
    const before = int64(meta, 'revision');
    const compactRevision = int64(meta, 'compact_revision');
    const query = queryOf(session);
    const state = new BatchState({ query, statements, can: dialect.can, revision: before, compactRevision });
    await state.prefetch(combine(jobs, wantsEvents()));
    const outcomes: Outcome[] = [];
    for (const job of jobs) outcomes.push(await outcomeOf(job, state));
    await state.flush();
    const hasWritten = state.isTouched;
    if (hasWritten) {
      await session.query(statements.updateMeta, [state.revision, this.#writer, batch]);
      if (statements.notify !== undefined) await session.query(statements.notify, []);
    }
    return {
      outcomes,
      before,
      after: state.revision,
      last: writeNameOf(meta),
      hasWritten,
      events: state.events,
    };
  }

  /**
   * Whether a batch that may have been committed is there. The lock is given up only when the connection that held it
   * is over, so what is read under the lock is final.
   */
  async #findOut(attempt: Attempt, batch: bigint): Promise<'there' | 'not there' | 'unknown'> {
    const { driver, clock, logger } = this.#options;
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
    const deadline = clock.now() + findOutForMs;
    for (;;) {
      try {
        const { rows } = await driver.transaction('write', (session) =>
          session.query(this.#statements.lockMeta, []),
        );
        const meta = rows[0];
        if (meta === undefined) return 'unknown';
        const last = writeNameOf(meta);
        if (isSame(last, { writer: this.#writer, batch })) return 'there';
        // Nobody has written since. Where somebody has, be it without a revision, the row names only the last writer.
        return isSame(last, attempt.last) ? 'not there' : 'unknown';
      } catch (error) {
        if (clock.now() > deadline || this.#closed.signal.aborted) return 'unknown';
        logger.debug('The database cannot be asked for a commit yet', { error });
      }
      await clock.sleep(backoff.next(), this.#closed.signal);
    }
  }
}

function writeNameOf(meta: Row): WriteName {
  return { writer: int64(meta, 'writer'), batch: int64(meta, 'batch') };
}

function isSame(a: WriteName, b: WriteName): boolean {
  return a.writer === b.writer && a.batch === b.batch;
}

function isTooLarge(error: unknown): boolean {
  return error instanceof SqlFault && error.kind === 'too-large';
}

/** The needs of all jobs; with `allValues`, values of every key, so that events can be handed on complete. */
function combine(jobs: readonly Job<unknown>[], allValues: boolean): Needs {
  const keys = jobs.flatMap(({ needs }) => needs.keys);
  const valueKeys = jobs.flatMap(({ needs }) => needs.valueKeys);
  const leases = jobs.flatMap(({ needs }) => needs.leases);
  return allValues ? { keys: [], valueKeys: [...keys, ...valueKeys], leases } : { keys, valueKeys, leases };
}

async function outcomeOf(job: Job<unknown>, state: BatchState): Promise<Outcome> {
  try {
    return { value: await job.apply(state) };
  } catch (error) {
    if (error instanceof EtcdError) return { error };
    throw error;
  }
}
