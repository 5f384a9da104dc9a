// The turn at a step of the tables, where definitions cannot be made in one transaction under a lock: programs are at a step one after the
// other. Two nodes of a Galera cluster that define the same view at once wait for each other for ever, and so does the cluster. Used by
// schema.ts. The turn is a row of `switchyard_migration` with the step's number below zero and its holder in the title. Invariants: only
// its holder keeps it and gives it back; it is taken from a holder that has not kept it for a while, and from nobody else.

import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { SqlFault, type Driver, type SqlFaultKind, type SqlValue } from '../../../dialect/dialect.ts';
import { systemClock } from '../../../lib/clock.ts';
import type { Logger } from '../../../lib/log.ts';
import { version } from '../../../lib/version.ts';
import type { MigrationStep } from './schema-steps.ts';

/** How often a holder says that it is still at it, and how long after the last time it is taken for gone. */
const keepMs = 2_000;
export const goneMs = 30_000;
const pauseMs = 50;
/** Who waits for longer says so. */
const patienceMs = 1_000;
/** A program that stops gives its turn back, if that takes no longer. */
const releaseMs = 5_000;
const releasesMax = 20;

/** Somebody else has the row. */
const othersTurn: ReadonlySet<SqlFaultKind> = new Set(['unique-violation', 'serialization', 'deadlock']);

/** A name for this program that no other has, for people too. */
export function newHolder(): string {
  return `${hostname().slice(0, 100)}, process ${process.pid}, ${randomBytes(4).toString('hex')}`;
}

export interface TurnOptions {
  readonly driver: Driver;
  /** Milliseconds since the epoch, as an expression of SQL. */
  readonly nowMs: string;
  readonly logger: Logger;
  /** Ends the waiting. */
  readonly signal: AbortSignal | undefined;
  /** See `newHolder`. A turn that this name has already is its own. */
  readonly holder: string;
}

/** Runs `work` when it is this program's turn at `step`. The table of steps must be there. @throws SqlFault; the abort reason. */
export async function inTurn(
  step: MigrationStep,
  options: TurnOptions,
  work: () => Promise<void>,
): Promise<void> {
  const turn = new Turn(step, options);
  try {
    await turn.take();
    await work();
  } finally {
    await turn.giveBack();
  }
}

class Turn {
  readonly #options: TurnOptions;
  readonly #step: MigrationStep;
  readonly #format: bigint;
  readonly #title: string;
  readonly #ended = new AbortController();
  #mayHold = false;
  #keeping: Promise<void> | undefined;

  constructor(step: MigrationStep, options: TurnOptions) {
    this.#options = options;
    this.#step = step;
    this.#format = -step.format;
    this.#title = `under way: ${step.title}, by ${options.holder}`;
  }

  /** Resolves when it is this program's turn, which is kept from then on. */
  async take(): Promise<void> {
    const { signal } = this.#options;
    const sayAt = systemClock.now() + patienceMs;
    let isSaid = false;
    while (!(await this.#claim())) {
      if (!isSaid && systemClock.now() >= sayAt) {
        isSaid = true;
        await this.#say();
      }
      await systemClock.sleep(pauseMs, signal);
    }
    this.#keeping = this.#keep();
  }

  /** Also where the program is being stopped. Where it fails others wait until the holder is taken for gone. */
  async giveBack(): Promise<void> {
    this.#ended.abort();
    await this.#keeping;
    if (!this.#mayHold) return;
    const late = AbortSignal.timeout(releaseMs);
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#run(`DELETE ${this.#own}`, [this.#format, this.#title], late);
        return;
      } catch (error) {
        // A look at the row by another program may come before the removal.
        const mayPass = error instanceof SqlFault && othersTurn.has(error.kind);
        if (!mayPass || attempt === releasesMax)
          return this.#options.logger.warn('The turn at a step of the tables is not given back', { error });
      }
      await systemClock.sleep(pauseMs * Math.random(), late);
    }
  }

  readonly #own = 'FROM switchyard_migration WHERE format = ? AND title = ?';

  async #claim(): Promise<boolean> {
    const { nowMs, signal } = this.#options;
    const gone = `DELETE ${this.#own} OR format = ? AND done_at < ${nowMs} - ${goneMs}`;
    const insert = `INSERT INTO switchyard_migration (format, title, version, done_at) VALUES (?, ?, ?, ${nowMs})`;
    try {
      await this.#run(gone, [this.#format, this.#title, this.#format], signal);
      this.#mayHold = true;
      await this.#run(insert, [this.#format, this.#title, version], signal);
      return true;
    } catch (error) {
      if (!(error instanceof SqlFault && othersTurn.has(error.kind))) throw error;
      this.#mayHold = false;
      return false;
    }
  }

  /** A step may take as long as it wants. */
  async #keep(): Promise<void> {
    const { logger, nowMs } = this.#options;
    const ended = this.#ended.signal;
    const text = `UPDATE switchyard_migration SET done_at = ${nowMs} WHERE format = ? AND title = ?`;
    let isFailing = false;
    for (;;) {
      await systemClock.sleep(keepMs, ended);
      if (ended.aborted) return;
      try {
        await this.#run(text, [this.#format, this.#title], ended);
        isFailing = false;
      } catch (error) {
        if (!isFailing && !ended.aborted)
          logger.warn('The turn at a step of the tables cannot be kept', { error });
        isFailing = true;
      }
    }
  }

  async #say(): Promise<void> {
    const { driver, logger, signal } = this.#options;
    const text = 'SELECT title, version FROM switchyard_migration WHERE format = ?';
    const { rows } = await driver.query({ name: 'schema.turn', text }, [this.#format], signal);
    const row = rows[0];
    // It is just being given back.
    if (row === undefined) return;
    const { format, title } = this.#step;
    const holder = String(row['title']).split(', by ').slice(1).join(', by ');
    logger.info('Waiting for another program that is at a step of the tables', {
      format,
      title,
      holder,
      holderVersion: row['version'],
      takenOverAfterSeconds: goneMs / 1000,
    });
  }

  async #run(text: string, params: readonly SqlValue[], signal: AbortSignal | undefined): Promise<void> {
    await this.#options.driver.query({ name: 'schema.turn', text }, params, signal);
  }
}
