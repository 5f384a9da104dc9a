// Brings one batch of jobs into the database, once and whole. Used by committer.ts, one batch at a time. Two ways: over the key
// index, evaluated without a read and written in one script that is guarded by what the meta row must say; and under the lock of the
// meta row, where the tables are read first: for jobs that look at ranges, while the index is not there, and when other
// gateways write. Invariants: what is answered was evaluated against the state that the batch follows; a batch whose COMMIT got no
// answer is looked for in the database before anybody hears anything.

import { randomBytes } from 'node:crypto';
import {
  SqlFault,
  type Dialect,
  type Driver,
  type Session,
  type SqlValue,
  type Step,
} from '../../../dialect/dialect.ts';
import type { KeyValue, Revision } from '../../../etcd/types.ts';
import { createBackoff } from '../../../lib/backoff.ts';
import type { Clock } from '../../../lib/clock.ts';
import { inTime } from '../../../lib/in-time.ts';
import type { Logger } from '../../../lib/log.ts';
import { isConflict, isTransient } from '../faults.ts';
import { combine, evaluate, type Job, type Outcome } from './job.ts';
import { IndexReader, readValues, StaleIndexError, TableReader, type KnownKeys } from './live-reader.ts';
import { isSame, metaStateOf, type MetaState, type WriteName } from './meta-state.ts';
import { openingOf, readAhead } from './opening.ts';
import { BatchState, type Change, type Needs } from './state.ts';
import {
  padded,
  paddedRows,
  queryOf,
  writeStatements,
  type Query,
  type WriteStatements,
} from '../statements.ts';
import { ValueCache } from './value-cache.ts';

/** How long a batch is tried again after faults that left nothing behind, and looked for after a lost COMMIT. */
const retryForMs = 5_000;
const findOutForMs = 15_000;
const retryFirstMs = 5;
const retryMaxMs = 250;
/** After another gateway has written, batches take the lock for so long rather than find it again and again. */
const contendedForMs = 100;
/** How long an answer waits for the values before its batch, when the batch is there; else its events come from the log. */
const completeWithinMs = 10;
/** Leases that one script looks after. */
const leasesMax = 1_024;
/** Recent values kept for the writes that replace them. */
const cachedBytesMax = 32 * 1024 * 1024;

/** A batch that is durable. */
export interface Written {
  /** Of the jobs, in their order. */
  readonly outcomes: readonly Outcome[];
  /** The store's revision before and after. */
  readonly before: Revision;
  readonly after: Revision;
  /** Undefined when there were too many to keep. */
  readonly changes: readonly Change[] | undefined;
  /** Over the key index: nobody was held off while it was evaluated. */
  readonly isScript: boolean;
}

export interface BatchWriterOptions {
  readonly driver: Driver;
  readonly dialect: Dialect;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly index: KnownKeys;
  /** Whether somebody wants the events of commits; then previous values are read along. */
  readonly wantsEvents: () => boolean;
}

/** What was sent to the database, and how to recognise it there. */
interface Attempt extends Written {
  readonly hasWritten: boolean;
  /** The write that the meta row named before. */
  readonly last: WriteName;
  /** What it names when this one is there. */
  readonly name: WriteName;
}

/** A transaction that holds the lock of the meta row. */
interface Locked {
  readonly session: Session;
  readonly query: Query;
  readonly meta: ReturnType<typeof metaStateOf>;
  /** What has been read ahead. */
  readonly needs: Needs;
}

/** Filled before the commit is sent. */
interface Sent {
  attempt: Attempt | undefined;
}

export class BatchWriter {
  readonly #options: BatchWriterOptions;
  readonly #statements: WriteStatements;
  /** Names this process's writes in the meta row. */
  readonly #writer = (randomBytes(8).readBigUInt64BE() >> 1n) | 1n;
  readonly #values = new ValueCache({ bytesMax: cachedBytesMax });
  /** The build of the index that the values go with. */
  #builds = 0;
  #batch = 0n;
  /** The meta row as this process has last left or seen it; undefined when it may have changed since. */
  #meta: MetaState | undefined;
  /** The same, remembered: a state with its revision but another name is of another history. */
  #seenLast: MetaState | undefined;
  /** Until then other gateways are taken to be writing. */
  #contendedUntil = Number.NEGATIVE_INFINITY;

  constructor(options: BatchWriterOptions) {
    this.#options = options;
    this.#statements = writeStatements(options.dialect);
  }

  get valueBytes(): number {
    return this.#values.bytes;
  }

  /**
   * Tries until the batch is known to be durable, or fails; `closed` ends the attempts.
   * @throws SqlFault, and what a job throws beside EtcdErrors: then nothing was written, or `outcomeUnknown` says so.
   */
  async write(jobs: readonly Job<unknown>[], closed: AbortSignal): Promise<Written> {
    if (this.#options.index.builds !== this.#builds) {
      this.#builds = this.#options.index.builds;
      this.#values.clear();
    }
    const written = await this.#persist(jobs, closed);
    const puts: KeyValue[] = [];
    for (const { type, kv } of written.changes ?? []) {
      if (type === 'put') puts.push(kv);
      else this.#values.delete(kv.key);
    }
    this.#values.add(puts);
    return written;
  }

  async #persist(jobs: readonly Job<unknown>[], closed: AbortSignal): Promise<Written> {
    const { clock, logger } = this.#options;
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
    const deadline = clock.now() + retryForMs;
    for (;;) {
      const batch = ++this.#batch;
      const sent: Sent = { attempt: undefined };
      try {
        return (await this.#overIndex(jobs, batch, sent)) ?? (await this.#underLock(jobs, batch, sent));
      } catch (error) {
        const { attempt } = sent;
        this.#meta = undefined;
        if (error instanceof SqlFault && error.outcomeUnknown && attempt !== undefined) {
          logger.warn('A commit was not answered; looking for it in the database', { error });
          if (!attempt.hasWritten) return attempt;
          const found = await this.#findOut(attempt, closed);
          const said = typeof found === 'string' ? found : 'there';
          logger.warn('A commit that was not answered has been looked for', { found: said });
          if (found === 'unknown') throw error;
          if (found !== 'not there') return this.#seen(found);
          // Nothing of it was kept: what it would be refused again for is told.
          const known = new SqlFault(error.kind, error.message, { cause: error });
          if (!attempt.isScript && !isTransient(known)) throw known;
          this.#contend();
        } else if (!isTransient(error)) throw error;
        // Another one was before it: who waits longer each time would never be the first.
        else if (isConflict(error)) backoff.reset();
        if (clock.now() > deadline || closed.aborted) throw error;
      }
      await clock.sleep(backoff.next(), closed);
    }
  }

  /** Undefined when this is not the way for this batch, or nothing of it was done because others have written. */
  async #overIndex(jobs: readonly Job<unknown>[], batch: bigint, sent: Sent): Promise<Written | undefined> {
    const { index, driver, clock } = this.#options;
    const meta = this.#meta;
    if (meta === undefined || meta.revision !== index.revision || clock.now() < this.#contendedUntil)
      return undefined;
    if (!jobs.every(({ needs }) => needs.onlyKeys)) return undefined;
    try {
      const { state, outcomes } = await this.#evaluateOverIndex(jobs, meta.revision);
      const name = this.#nameOf(batch, state.revision > meta.revision);
      const known = { before: meta.revision, last: meta.last, name, isScript: true };
      const attempt = attemptOf({ state, outcomes, ...known });
      // Only a script looks whether leases are there.
      if (state.assumedLeases.length > (state.isTouched ? leasesMax : 0)) return undefined;
      if (state.isTouched) {
        const steps = this.#scriptOf(state, attempt);
        sent.attempt = attempt;
        // What it replaces stays in the log, and is read meanwhile.
        const completing = this.#complete(attempt.changes);
        await driver.script(steps);
        const isComplete = (await inTime(completing, completeWithinMs)) === 'done';
        return this.#seen(isComplete ? { ...attempt, changes: await completing } : attempt);
      }
      // Nothing guards answers that write nothing.
      const { revision, last } = metaStateOf(await driver.queryForWriter(this.#statements.selectMeta, []));
      if (revision === meta.revision && isSame(last, meta.last)) return attempt;
      this.#contend();
    } catch (error) {
      const isGuarded = error instanceof SqlFault && error.kind === 'not-null-violation';
      if (error instanceof StaleIndexError || isGuarded) this.#contend();
      // Whatever else the database refuses it refuses again under the lock, and that is told.
      else if (!(error instanceof SqlFault) || error.outcomeUnknown || isTransient(error)) throw error;
    }
    sent.attempt = undefined;
    return undefined;
  }

  async #evaluateOverIndex(jobs: readonly Job<unknown>[], before: Revision) {
    const { driver, dialect, index } = this.#options;
    const statements = this.#statements;
    const query: Query = (statement, params) => driver.queryForWriter(statement, params);
    const reader = new IndexReader({ query, statements, index, values: this.#values, revision: before });
    const state = new BatchState({
      reader,
      query,
      statements,
      can: dialect.can,
      revision: before,
      // Only reads of ranges and of the past look at it.
      compactRevision: 0n,
      assumeLeases: true,
    });
    await state.prefetch(combine(jobs, false));
    const outcomes = await evaluate(jobs, state);
    if (index.revision !== before || index.builds !== this.#builds) throw new StaleIndexError();
    return { state, outcomes };
  }

  #scriptOf(state: BatchState, attempt: Attempt): readonly Step[] {
    const statements = this.#statements;
    const leases = state.assumedLeases;
    const whole = leases.length === 0 ? this.#withGuard(state, attempt) : undefined;
    if (whole !== undefined) return [whole];
    const steps: Step[] = [{ statement: statements.guardMeta, params: guardOf(state, attempt) }];
    if (leases.length > 0) {
      const ids = padded(leases);
      // A statement of its own: it must see what was committed when the guard had the lock.
      steps.push({ statement: statements.guardLeases(ids.length), params: [...ids, BigInt(leases.length)] });
    }
    steps.push(...state.take());
    return steps;
  }

  /** The guard and all rows in one statement, where the engine has one and they fit. */
  #withGuard(state: BatchState, attempt: Attempt): Step | undefined {
    const { withGuard } = this.#statements;
    const taken = withGuard && state.takeRows();
    if (taken === undefined) return undefined;
    const rows = paddedRows(taken.rows);
    const params = [...guardOf(state, attempt), ...rows.flat()];
    return { statement: withGuard![taken.as](rows.length), params };
  }

  /** `changes` with the values before them, where somebody wants the events; as they are when those cannot be read. */
  async #complete(changes: readonly Change[] | undefined): Promise<readonly Change[] | undefined> {
    const { driver, wantsEvents, logger } = this.#options;
    if (changes === undefined || !wantsEvents()) return changes;
    const without = changes.flatMap(({ before }) => (before?.value === undefined ? (before ?? []) : []));
    if (without.length === 0) return changes;
    const query: Query = (statement, params) => driver.query(statement, params);
    try {
      const values = await readValues({ query, statements: this.#statements }, without);
      return changes.map((change) => {
        const value = change.before && values.get(change.before);
        return value === undefined ? change : { ...change, before: { ...change.before!, value } };
      });
    } catch (error) {
      logger.debug('The values before a batch cannot be read; its events come from the log', { error });
      return changes;
    }
  }

  async #underLock(jobs: readonly Job<unknown>[], batch: bigint, sent: Sent): Promise<Written> {
    const { driver, dialect, wantsEvents } = this.#options;
    const statements = this.#statements;
    const needs = combine(jobs, wantsEvents());
    const reads = await openingOf(needs, { statements, can: dialect.can });
    const lock: Step = { statement: statements.lockMeta, params: [] };
    const attempt = await driver.writeAfter([lock, ...reads], async (session, [locked, ...found]) => {
      const query = readAhead(reads, found, queryOf(session));
      const meta = metaStateOf(locked!);
      sent.attempt = await this.#apply({ session, query, meta, needs }, jobs, batch);
      return sent.attempt;
    });
    return this.#seen(attempt);
  }

  /** Whether what was found under the lock goes with what was known. */
  #compare({ revision, last }: MetaState): void {
    const { index } = this.#options;
    if (index.revision === undefined) return;
    if (index.revision !== revision) this.#contend();
    const isOther = this.#seenLast?.revision === revision && !isSame(this.#seenLast.last, last);
    if (index.revision > revision) index.distrust('the database has lost commits');
    // Commits were lost, and another gateway has taken their revisions. A write without a revision has a negative name.
    else if (isOther && last.writer > 0n) index.distrust('the database has another history');
  }

  /** Notes what the meta row says after `attempt`. */
  #seen(attempt: Attempt): Attempt {
    const { hasWritten, after, last, name } = attempt;
    this.#meta = this.#seenLast = { revision: after, last: hasWritten ? name : last };
    return attempt;
  }

  async #apply(
    { session, query, meta, needs }: Locked,
    jobs: readonly Job<unknown>[],
    batch: bigint,
  ): Promise<Attempt> {
    const statements = this.#statements;
    const { dialect } = this.#options;
    const { revision: before, compactRevision, last } = meta;
    // Before this batch can be seen by whatever reads on.
    this.#compare(meta);
    const reader = new TableReader({ query, statements });
    const { can } = dialect;
    const state = new BatchState({ reader, query, statements, can, revision: before, compactRevision });
    await state.prefetch(needs);
    const outcomes = await evaluate(jobs, state);
    const name = this.#nameOf(batch, state.revision > before);
    const attempt = attemptOf({ state, outcomes, before, last, name, isScript: false });
    if (state.isTouched) session.finish(this.#stepsUnderLock(state, attempt));
    return attempt;
  }

  /** The fewer round trips with the lock, the sooner the next gateway has it. */
  #stepsUnderLock(state: BatchState, attempt: Attempt): readonly Step[] {
    const { name } = attempt;
    const whole = this.#withGuard(state, attempt);
    if (whole !== undefined) return [whole];
    const params = [state.revision, name.writer, name.batch];
    return [...state.take(), { statement: this.#statements.updateMeta, params }];
  }

  #nameOf(batch: bigint, takesRevision: boolean): WriteName {
    return { writer: takesRevision ? this.#writer : -this.#writer, batch };
  }

  #contend(): void {
    this.#contendedUntil = this.#options.clock.now() + contendedForMs;
  }

  /**
   * Whether a batch that may have been committed is there; then as it is named now. Either way the row gets another name. Where the
   * batch is there, this commit is as safe as any, and what came before it with it, also where that was not yet in a replica when
   * its server ended; a row that stays as it is would be no commit on MySQL. And where it is not there, a script may still be on
   * its way, and a server that has been left for another one of its cluster may still be about to commit; either fails, whenever
   * it comes, at its guard or because another write of the row came before it.
   */
  async #findOut(attempt: Attempt, closed: AbortSignal): Promise<Attempt | 'not there' | 'unknown'> {
    const { driver, clock, logger } = this.#options;
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
    const deadline = clock.now() + findOutForMs;
    const found: Attempt = { ...attempt, name: this.#nameOf(++this.#batch, false) };
    const barrier = this.#nameOf(++this.#batch, false);
    for (;;) {
      try {
        return await driver.transaction('write', async (session) => {
          const { revision, last } = metaStateOf(await session.query(this.#statements.lockMeta, []));
          // Or it was a moment ago, and that commit was not answered either.
          const isThere = isSame(last, attempt.name) || isSame(last, found.name);
          const isMarked = isSame(last, barrier);
          // Somebody has written since, be it without a revision: the row names only the last writer.
          if (!isThere && !isMarked && !isSame(last, attempt.last)) return 'unknown';
          const { writer, batch } = isThere ? found.name : barrier;
          await session.query(this.#statements.updateMeta, [revision, writer, batch]);
          return isThere ? found : 'not there';
        });
      } catch (error) {
        // Who has lost the right to write is not given it back by waiting, and all other writes wait as well.
        const isRefused = error instanceof SqlFault && error.kind === 'refused';
        if (isRefused || clock.now() > deadline || closed.aborted) return 'unknown';
        logger.debug('The database cannot be asked for a commit yet', { error });
      }
      await clock.sleep(backoff.next(), closed);
    }
  }
}

/** What the meta row must say, and what it says next. */
function guardOf({ revision }: BatchState, { before, last, name }: Attempt): readonly SqlValue[] {
  return [before, last.writer, last.batch, revision - before, name.writer, name.batch];
}

function attemptOf({
  state,
  ...known
}: Pick<Attempt, 'outcomes' | 'before' | 'last' | 'name' | 'isScript'> & {
  readonly state: BatchState;
}): Attempt {
  return { ...known, after: state.revision, changes: state.changes, hasWritten: state.isTouched };
}
