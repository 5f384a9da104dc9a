// Compaction: recording a compact revision, and sweeping away the rows of the log that nobody can ask for any more. Used by
// sql-store.ts. Invariants: the record comes first, so that no reader takes a swept row for one that never was; a row goes only
// after the row that it points to; swept_revision follows what is deleted, so a sweep goes on where another one, of any
// process, ended. Several may sweep at once.

import {
  SqlFault,
  type Dialect,
  type Driver,
  type Row,
  type SqlValue,
  type Statement,
} from '../../dialect/dialect.ts';
import { EtcdError } from '../../etcd/errors.ts';
import type { CompactionRequest, Revision } from '../../etcd/types.ts';
import { createBackoff } from '../../lib/backoff.ts';
import type { Clock } from '../../lib/clock.ts';
import type { Logger } from '../../lib/log.ts';
import { checkFormat } from './schema/format.ts';
import type { CompactionStats } from '../stats.ts';
import { createSlots } from './limits.ts';
import { bytes, int64 } from './row.ts';
import { pairsMax } from './statements.ts';

/** Rows of the log looked at, and so about as many deleted, in one transaction. */
const windowRows = 512;
/** Compactions that may wait for the one being recorded, so that each does not take a connection of those who write. */
const waitingMax = 100;
/** How often a gateway looks whether a sweep was left unfinished by another one. */
const lookMs = 60_000;
/** A sweep that finds another one ahead of it leaves it alone for so long. */
const yieldMs = 1_000;
const retryFirstMs = 250;
const retryMaxMs = 30_000;

export interface Compactor {
  readonly stats: CompactionStats;
  /**
   * Records the compact revision and wakes the sweep; with `physical` waits until everything up to it has been swept.
   * @throws EtcdError compacted at or below the compact revision, futureRevision, tooManyRequests
   */
  compact(request: CompactionRequest, signal: AbortSignal): Promise<{ readonly revision: Revision }>;
  /** Begins to sweep in the background, with what was left over. Once. */
  start(): void;
  /** Stops after the transaction under way. */
  close(): Promise<void>;
}

export interface CompactorOptions {
  readonly driver: Driver;
  readonly dialect: Dialect;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A compactor that does not sweep yet. */
export function createCompactor(options: CompactorOptions): Compactor {
  return new SqlCompactor(options);
}

const selectMeta: Statement = {
  name: 'compact.meta',
  text: 'SELECT format, revision, compact_revision, swept_revision FROM switchyard_meta WHERE id = 1',
};

/** The compact revision; under the lock of the meta row. */
export const updateCompactRevision: Statement = {
  name: 'compact.record',
  text: 'UPDATE switchyard_meta SET compact_revision = ? WHERE id = 1',
};

const updateSweptRevision: Statement = {
  name: 'compact.swept',
  text: 'UPDATE switchyard_meta SET swept_revision = ? WHERE id = 1 AND swept_revision < ?',
};

const columns = 'SELECT mod_revision, k, tombstone, prev_revision FROM switchyard_log';

const selectRevisionsAbove: Statement = {
  name: 'compact.rows',
  text: `${columns} WHERE mod_revision > ? AND mod_revision <= ? ORDER BY mod_revision, k LIMIT ${windowRows}`,
};

const selectRestOfRevision: Statement = {
  name: 'compact.rows_of_revision',
  text: `${columns} WHERE mod_revision = ? AND k > ? ORDER BY k LIMIT ${windowRows}`,
};

/** Deletes `n` rows. Parameters: mod_revision and k of each. */
function deletePairs(n: number): Statement {
  const pairs = Array.from({ length: n }, () => '(mod_revision = ? AND k = ?)').join(' OR ');
  return { name: 'compact.delete', text: `DELETE FROM switchyard_log WHERE ${pairs}` };
}

/** How far a sweep is: the last row it has dealt with, or with no key the last whole revision. */
interface Position {
  readonly revision: Revision;
  readonly key: Buffer | undefined;
}

interface Counters {
  readonly revision: Revision;
  readonly compactRevision: Revision;
  readonly sweptRevision: Revision;
}

interface Waiter {
  readonly revision: Revision;
  readonly resolve: () => void;
}

class SqlCompactor implements Compactor {
  readonly #options: CompactorOptions;
  readonly #stop = new AbortController();
  readonly #waiters = new Set<Waiter>();
  readonly #slot = createSlots(1, waitingMax);
  #rowsSwept = 0;
  #sweepsFailed = 0;
  #running: Promise<void> | undefined;
  /** Ends the pause of the sweep. */
  #wake = new AbortController();

  constructor(options: CompactorOptions) {
    this.#options = options;
  }

  get stats(): CompactionStats {
    return {
      rowsSwept: this.#rowsSwept,
      sweepsFailed: this.#sweepsFailed,
      refused: this.#slot.refused,
    };
  }

  async compact({ revision, physical }: CompactionRequest, signal: AbortSignal) {
    const current = await this.#slot.run(() => this.#record(revision, signal), signal);
    const swept = physical ? this.#whenSwept(revision, signal) : undefined;
    this.#wake.abort();
    await swept;
    return { revision: current };
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#stop.abort(new EtcdError('stopped'));
    this.#wake.abort();
    await this.#running;
  }

  async #record(revision: Revision, signal: AbortSignal): Promise<Revision> {
    const { driver, dialect } = this.#options;
    const lock: Statement = { name: 'compact.lock', text: `${selectMeta.text} ${dialect.sql.forUpdate}` };
    return await driver.transaction(
      'write',
      async (session) => {
        const meta = countersOf((await session.query(lock, [])).rows);
        if (revision <= meta.compactRevision) {
          throw new EtcdError('compacted', { compactRevision: meta.compactRevision });
        }
        if (revision > meta.revision) throw new EtcdError('futureRevision');
        await session.query(updateCompactRevision, [revision]);
        return meta.revision;
      },
      signal,
    );
  }

  #whenSwept(revision: Revision, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const either = AbortSignal.any([signal, this.#stop.signal]);
    const waiter: Waiter = { revision, resolve };
    const onAbort = () => reject(either.reason as Error);
    if (either.aborted) onAbort();
    either.addEventListener('abort', onAbort, { once: true });
    this.#waiters.add(waiter);
    return promise.finally(() => {
      either.removeEventListener('abort', onAbort);
      this.#waiters.delete(waiter);
    });
  }

  // Sweeping

  async #run(): Promise<void> {
    const { clock, logger } = this.#options;
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
    while (!this.#stop.signal.aborted) {
      this.#wake = new AbortController();
      let pauseMs: number;
      try {
        pauseMs = (await this.#sweep()) === 'done' ? lookMs : yieldMs;
        backoff.reset();
      } catch (error) {
        // Its end may break a sweep off.
        if (this.#stop.signal.aborted) return;
        pauseMs = backoff.next();
        this.#sweepsFailed++;
        logger.warn('Sweeping compacted rows failed; it goes on later', { error });
      }
      if (!this.#stop.signal.aborted) await clock.sleep(pauseMs, this.#wake.signal);
    }
  }

  /** Sweeps up to the compact revision, or until it is stopped or finds that another process is ahead. */
  async #sweep(): Promise<'done' | 'overtaken'> {
    const { driver, clock, logger } = this.#options;
    const begun = countersOf((await driver.query(selectMeta, [])).rows);
    const { compactRevision: target, sweptRevision } = begun;
    this.#announce(sweptRevision);
    if (sweptRevision >= target) return 'done';
    // The last swept revision again: its tombstones were kept for watches that start there.
    let position: Position = { revision: sweptRevision - 1n, key: undefined };
    let swept = sweptRevision;
    let deleted = 0;
    while (swept < target && !this.#stop.signal.aborted) {
      const startedAt = clock.now();
      const rows = await this.#rowsAfter(position, target);
      position = positionAfter(rows, { before: position, target });
      const upTo = position.key === undefined ? position.revision : position.revision - 1n;
      const pairs = garbageOf(rows, target);
      const outcome = await this.#delete(pairs, upTo > swept ? upTo : undefined);
      deleted += outcome.deleted;
      this.#rowsSwept += outcome.deleted;
      if (upTo > swept) {
        if (!outcome.isAhead) return 'overtaken';
        swept = upTo;
        this.#announce(swept);
      }
      // Half of the time is left to the others who write.
      if (swept < target) await clock.sleep(clock.now() - startedAt, this.#stop.signal);
    }
    logger.debug('Swept compacted rows', { from: sweptRevision, to: swept, deleted });
    return 'done';
  }

  async #rowsAfter({ revision, key }: Position, target: Revision): Promise<readonly Row[]> {
    const { driver } = this.#options;
    const { rows } =
      key === undefined
        ? await driver.query(selectRevisionsAbove, [revision, target])
        : await driver.query(selectRestOfRevision, [revision, key]);
    return rows;
  }

  /** Deletes `pairs` and notes how far the sweep is, in one transaction; the note last, for writers wait for that row. */
  async #delete(pairs: readonly (readonly [Revision, Buffer])[], swept: Revision | undefined) {
    const { driver, dialect } = this.#options;
    const pairsInStatement = Math.min(pairsMax, Math.floor(dialect.can.parametersMax / 2));
    if (pairs.length === 0 && swept === undefined) return { deleted: 0, isAhead: true };
    return await driver.transaction('write', async (session) => {
      let deleted = 0;
      for (let start = 0; start < pairs.length; start += pairsInStatement) {
        const part = pairs.slice(start, start + pairsInStatement);
        // Filled up with the last one, so that there is one statement.
        const filled = Array.from({ length: pairsInStatement }, (_, index) => part[index] ?? part.at(-1)!);
        const params: SqlValue[] = filled.flat();
        deleted += (await session.query(deletePairs(pairsInStatement), params)).affected;
      }
      if (swept === undefined) return { deleted, isAhead: true };
      const { affected } = await session.query(updateSweptRevision, [swept, swept]);
      return { deleted, isAhead: affected > 0 };
    });
  }

  #announce(sweptRevision: Revision): void {
    for (const { revision, resolve } of this.#waiters) if (revision <= sweptRevision) resolve();
  }
}

function countersOf(rows: readonly Row[]): Counters {
  const row = rows[0];
  if (row === undefined) throw new SqlFault('other', 'Expected one row in switchyard_meta, got none');
  checkFormat(row);
  return {
    revision: int64(row, 'revision'),
    compactRevision: int64(row, 'compact_revision'),
    sweptRevision: int64(row, 'swept_revision'),
  };
}

/** Where a sweep is after `rows`, which are the first ones after `before`. */
function positionAfter(
  rows: readonly Row[],
  { before, target }: { readonly before: Position; readonly target: Revision },
): Position {
  if (rows.length < windowRows) {
    return before.key === undefined
      ? { revision: target, key: undefined }
      : { revision: before.revision, key: undefined };
  }
  const last = rows.at(-1)!;
  return { revision: int64(last, 'mod_revision'), key: bytes(last, 'k') };
}

/**
 * What a compaction at `target` leaves nobody to ask for, as far as `rows` (at or below it) show: the pair before each row,
 * and tombstones below `target`. One at `target` stays for watches that start there.
 */
function garbageOf(rows: readonly Row[], target: Revision): (readonly [Revision, Buffer])[] {
  const pairs: (readonly [Revision, Buffer])[] = [];
  for (const row of rows) {
    const key = bytes(row, 'k');
    const revision = int64(row, 'mod_revision');
    const previous = int64(row, 'prev_revision');
    if (previous !== 0n) pairs.push([previous, key]);
    if (int64(row, 'tombstone') !== 0n && revision < target) pairs.push([revision, key]);
  }
  return pairs;
}
