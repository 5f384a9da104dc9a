// The one way of writing to a SQL store: group commit. What waits in the queue goes into the database together, in one
// transaction of batch-writer.ts, and each caller gets its own answer. Used by sql-store.ts and the lessor. Invariants: commit order is
// revision order; nobody gets an answer before the commit is known; a lone job waits for no company.

import { SqlFault } from '../../../dialect/dialect.ts';
import { EtcdError } from '../../../etcd/errors.ts';
import type { LeaseId, Revision } from '../../../etcd/types.ts';
import { countBounds, Histogram, latencyBounds } from '../../../lib/histogram.ts';
import type { WriteStats } from '../../stats.ts';
import { workFor, workForNobody, worksFor, type Work } from '../../../lib/work.ts';
import { BatchWriter, type BatchWriterOptions, type Written } from './batch-writer.ts';
import type { Job } from './job.ts';
import { updateCompactRevision } from '../compactor.ts';
import { toEtcdError } from '../faults.ts';
import { liftedAbove } from './meta-state.ts';
import { bytes, int64 } from '../row.ts';
import type { BatchState, Change, Needs } from './state.ts';
import { writeStatements, type WriteStatements } from '../statements.ts';

/** Jobs in one database transaction, and bytes of their requests. */
const batchJobsMax = 256;
const batchBytesMax = 4 * 1024 * 1024;
/** How long a batch may grow. */
const gatherMaxMs = 2;
/** Jobs and bytes that may wait; above, `tooManyRequests`. */
const queueJobsMax = 10_000;
const queueBytesMax = 128 * 1024 * 1024;
/** How long a job may wait for its batch; no client waits much longer, and a stale queue only delays who comes next. */
const waitMaxMs = 10_000;
/** What a revoked lease weighs in a batch: it may have a thousand keys. */
const revokeBytes = 128 * 1024;

/** One committed batch: `changes` undefined = read them from the log. */
export interface Commit {
  readonly after: Revision;
  readonly through: Revision;
  readonly changes: readonly Change[] | undefined;
}

export interface Committer {
  readonly stats: WriteStats;
  /** What the recent values take that are kept for writes. */
  readonly valueBytes: number;
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

export interface CommitterOptions extends BatchWriterOptions {
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
  readonly works: readonly Work[];
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

const noNeeds: Needs = { keys: [], valueKeys: [], leases: [], onlyKeys: false };

class GroupCommitter implements Committer {
  readonly #options: CommitterOptions;
  readonly #statements: WriteStatements;
  readonly #writer: BatchWriter;
  #queue: Waiting[] = [];
  #queueBytes = 0;
  readonly #batchTxns = new Histogram(countBounds);
  readonly #waitSeconds = new Histogram(latencyBounds);
  readonly #commitSeconds = new Histogram(latencyBounds);
  readonly #committed = { index: 0, lock: 0 };
  #failed = 0;
  #refused = 0;
  #late = 0;
  #running: Promise<void> | undefined;
  readonly #closed = new AbortController();

  constructor(options: CommitterOptions) {
    this.#options = options;
    this.#statements = writeStatements(options.dialect);
    this.#writer = new BatchWriter(options);
  }

  get stats(): WriteStats {
    return {
      queued: this.#queue.length,
      queuedBytes: this.#queueBytes,
      batchTxns: this.#batchTxns,
      waitSeconds: this.#waitSeconds,
      commitSeconds: this.#commitSeconds,
      committed: this.#committed,
      failed: this.#failed,
      refused: this.#refused,
      late: this.#late,
    };
  }

  get valueBytes(): number {
    return this.#writer.valueBytes;
  }

  run<T>(job: Job<T>, signal?: AbortSignal): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closed.signal.aborted) return reject(new EtcdError('stopped'));
      if (signal?.aborted) return reject(signal.reason as Error);
      if (this.#queue.length >= queueJobsMax || this.#queueBytes + job.bytes > queueBytesMax) {
        this.#refused++;
        return reject(new EtcdError('tooManyRequests'));
      }
      this.#queueBytes += job.bytes;
      // The queue forgets the type; `resolve` gets what this very job's `apply` gave.
      const done = resolve as (value: unknown) => void;
      const since = this.#options.clock.now();
      this.#queue.push({ job, since, signal, works: worksFor(signal), resolve: done, reject });
      this.#running ??= workForNobody(() => this.#drain());
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
        await state.prefetch({ ...noNeeds, keys });
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
      const lifted = liftedAbove(seen);
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
    while (this.#queue.length > 0) {
      await this.#gather();
      const batch = this.#take();
      if (batch.length > 0) await this.#commit(batch);
    }
    this.#running = undefined;
  }

  /**
   * Waits as long as each turn of the event loop brings more jobs, so that requests that are already here, and those of
   * clients that have just been answered, share a batch. A lone job waits for one turn.
   */
  async #gather(): Promise<void> {
    const until = performance.now() + gatherMaxMs;
    while (performance.now() < until) {
      const known = this.#queue.length;
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
      if (this.#queue.length <= known || this.#queue.length >= batchJobsMax) return;
    }
  }

  #take(): Waiting[] {
    const batch: Waiting[] = [];
    const now = this.#options.clock.now();
    const oldest = now - waitMaxMs;
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
      this.#waitSeconds.observe((now - waiting.since) / 1000);
      if (waiting.since < oldest) {
        this.#late++;
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
    let written: Written;
    const began = performance.now();
    const works = batch.flatMap((waiting) => waiting.works);
    try {
      const jobs = batch.map(({ job }) => job);
      written = await workFor(works, () => this.#writer.write(jobs, this.#closed.signal));
      this.#batchTxns.observe(batch.length);
      this.#commitSeconds.observe((performance.now() - began) / 1000);
      this.#committed[written.isScript ? 'index' : 'lock']++;
    } catch (error) {
      this.#failed++;
      const mayBeOfOne = !(toEtcdError(error) instanceof EtcdError) || isTooLarge(error);
      if (this.#closed.signal.aborted && !mayBeOfOne) this.#abandon();
      if (batch.length === 1 || !mayBeOfOne) {
        for (const { reject } of batch) reject(toEtcdError(error));
        return;
      }
      const about = { jobs: batch.length, error };
      workFor(works, () => this.#options.logger.warn('A batch failed and is tried one by one', about));
      for (const waiting of batch) await this.#commit([waiting]);
      return;
    }
    const { before, after, changes, outcomes } = written;
    if (after > before) this.#options.committed({ after: before, through: after, changes });
    for (const [index, { resolve, reject }] of batch.entries()) {
      const outcome = outcomes[index]!;
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
}

function isTooLarge(error: unknown): boolean {
  return error instanceof SqlFault && error.kind === 'too-large';
}
