// Brings the tables of a SQL store to the format of this program. Used by connection.ts before anything else is asked. Invariants: a
// step is done when it is noted in `switchyard_migration`, and only then; what is not noted is done again, whoever began it. Tables
// that need a later program are left alone.

import { randomBytes } from 'node:crypto';
import {
  SqlFault,
  type Dialect,
  type Driver,
  type Session,
  type SqlFaultKind,
  type SqlValue,
  type Statement,
} from '../../../dialect/dialect.ts';
import { silentLogger, type Logger } from '../../../lib/log.ts';
import { version } from '../../../lib/version.ts';
import { newerFormat } from './format.ts';
import { int64 } from '../row.ts';
import { createTable, steps as ownSteps, type MigrationStep } from './schema-steps.ts';
import { inTurn, newHolder } from './schema-turn.ts';

/** What is constant about a store. */
export interface StoreIdentity {
  /** Drawn when the store was created; not zero. */
  readonly clusterId: bigint;
}

export interface SchemaOptions {
  readonly signal?: AbortSignal;
  readonly logger?: Logger;
  /** What the keys of Kubernetes begin with, without a slash at the end; default: `/registry`. */
  readonly keyPrefix?: string | undefined;
  /** Who is at it, see `newHolder`: the same each time that it is tried again. Default: a new one. */
  readonly holder?: string;
  /** Default: those of this program. */
  readonly steps?: readonly MigrationStep[];
}

/** How far the tables are. */
interface Standing extends StoreIdentity {
  /** What a program has to know. */
  readonly needed: bigint;
  /** Formats whose steps are done. */
  readonly done: ReadonlySet<bigint>;
}

const firstFormat = 1n;

const selectStanding: Statement = {
  name: 'schema.standing',
  text:
    'SELECT m.format AS format, m.cluster_id AS cluster_id, s.format AS done' +
    ' FROM switchyard_meta m LEFT JOIN switchyard_migration s ON 1 = 1 WHERE m.id = 1',
};

/** Before there was a table of what is done. */
const selectFirst: Statement = {
  name: 'schema.first',
  text: 'SELECT format, cluster_id FROM switchyard_meta WHERE id = 1',
};

const selectMaker: Statement = {
  name: 'schema.maker',
  text: 'SELECT version FROM switchyard_migration WHERE format = ?',
};

const metaColumns = [
  'id',
  'format',
  'revision',
  'compact_revision',
  'swept_revision',
  'cluster_id',
  'writer',
  'batch',
];

const migrationColumns = ['format', 'title', 'version', 'done_at'];

/** A new store: revision 1, nothing compacted, as an empty etcd. */
function firstMeta(): readonly SqlValue[] {
  // 63 bits, the lowest set: positive as int64 and not zero.
  const clusterId = (randomBytes(8).readBigUInt64BE() >> 1n) | 1n;
  return [1n, firstFormat, 1n, 0n, 0n, clusterId, 0n, 0n];
}

/** What `read` gives; undefined where there is no such table. */
async function unlessMissing<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    // `other`: there is no such table.
    if (error instanceof SqlFault && error.kind === 'other') return undefined;
    throw error;
  }
}

/** What holds up the store also where the step is optional: all is tried again in a moment. */
const triedAgain: ReadonlySet<SqlFaultKind> = new Set([
  'disconnected',
  'serialization',
  'deadlock',
  'crowded',
]);

class Migration {
  readonly #driver: Driver;
  readonly #sql: Dialect['sql'];
  readonly #steps: readonly MigrationStep[];
  readonly #keyPrefix: string;
  readonly #logger: Logger;
  readonly #signal: AbortSignal | undefined;
  readonly #holder: string;

  constructor(driver: Driver, { sql }: Dialect, options: SchemaOptions) {
    this.#driver = driver;
    this.#sql = sql;
    this.#steps = options.steps ?? ownSteps;
    this.#keyPrefix = options.keyPrefix ?? '/registry';
    this.#logger = options.logger ?? silentLogger;
    this.#signal = options.signal;
    this.#holder = options.holder ?? newHolder();
  }

  /** Undefined: there is no store yet, or not the whole of its first tables. */
  async standing(): Promise<Standing | undefined> {
    const ask = (statement: Statement) =>
      unlessMissing(() => this.#driver.query(statement, [], this.#signal));
    const found = (await ask(selectStanding)) ?? (await ask(selectFirst));
    const row = found?.rows[0];
    if (found === undefined || row === undefined) return undefined;
    const noted = found.rows.filter((each) => typeof each['done'] === 'bigint');
    return {
      clusterId: int64(row, 'cluster_id'),
      needed: int64(row, 'format'),
      // The meta row is written when the first tables are there.
      done: new Set([firstFormat, ...noted.map((each) => int64(each, 'done'))]),
    };
  }

  /** @throws SqlFault `refused` */
  async check({ needed }: Standing): Promise<void> {
    const known = this.#steps.at(-1)!.format;
    if (needed <= known) return;
    const maker = await unlessMissing(() => this.#driver.query(selectMaker, [needed], this.#signal));
    const madeBy = maker?.rows[0]?.['version'];
    throw newerFormat(needed, { known, ...(typeof madeBy === 'string' ? { madeBy } : {}) });
  }

  /** Does what is missing, in order. */
  async run(standing: Standing | undefined): Promise<void> {
    for (const step of this.#steps) {
      if (standing?.done.has(step.format)) continue;
      try {
        await this.#inTurn(step, () => this.#take(step, standing === undefined));
      } catch (error) {
        const isBearable = step.isOptional && error instanceof SqlFault && !triedAgain.has(error.kind);
        if (!isBearable) throw error;
        this.#logger.warn('The database refuses a step of the tables; the store goes on without it', {
          format: step.format,
          title: step.title,
          error,
        });
      }
    }
  }

  /** Alone, where definitions cannot be made in one transaction under a lock. */
  async #inTurn(step: MigrationStep, work: () => Promise<void>): Promise<void> {
    const { definitionsCommit, nowMs } = this.#sql;
    if (!definitionsCommit) return await work();
    const [driver, logger, signal, holder] = [this.#driver, this.#logger, this.#signal, this.#holder];
    await driver.query({ name: 'schema.turn', text: this.#migrationTable() }, [], signal);
    await inTurn(step, { driver, nowMs, logger, signal, holder }, work);
  }

  /** One step, whole where the engine can undo changes of tables, else as far as it gets. */
  async #take(step: MigrationStep, isNew: boolean): Promise<void> {
    const { format, title } = step;
    const statement = (text: string): Statement => ({ name: `schema.${format}`, text });
    const isDone = await this.#driver.transaction(
      'write',
      async (session) => {
        const run = (text: string, params: readonly SqlValue[] = []) =>
          session.query(statement(text), params);
        for (const text of this.#sql.lockSchema) await run(text);
        await run(this.#migrationTable());
        const { rows } = await run('SELECT format FROM switchyard_migration WHERE format = ?', [format]);
        // Another gateway was faster.
        if (rows.length > 0) return false;
        this.#logger.info(isNew ? 'Creating tables' : 'Migrating the tables', { format, title });
        await this.#keepOut(session, step);
        const context = { sql: this.#sql, keyPrefix: this.#keyPrefix };
        for (const text of step.statements(context)) await run(text);
        if (format === firstFormat) await run(this.#insert('switchyard_meta', metaColumns), firstMeta());
        const note = `(?, ?, ?, ${this.#sql.nowMs})`;
        await run(this.#sql.insertIgnore('switchyard_migration', migrationColumns, note), [
          format,
          title,
          version,
        ]);
        return true;
      },
      this.#signal,
    );
    if (isDone && !isNew) this.#logger.info('The tables are migrated', { format, title });
  }

  /**
   * Before a step that programs of before cannot go on beside: from here on their starts and their writes are refused. They write in
   * the belief that they know who wrote last, so they look at the meta row again.
   */
  async #keepOut(session: Session, { knows, format }: MigrationStep): Promise<void> {
    if (knows <= firstFormat) return;
    const text =
      'UPDATE switchyard_meta SET format = ?, writer = 0, batch = batch + 1 WHERE id = 1 AND format < ?';
    await session.query({ name: `schema.${format}`, text }, [knows, knows]);
  }

  #migrationTable(): string {
    const { types, tableOptions } = this.#sql;
    const columns = [
      `format ${types.int64} NOT NULL PRIMARY KEY`,
      `title ${types.text} NOT NULL`,
      `version ${types.text} NOT NULL`,
      `done_at ${types.int64} NOT NULL`,
    ];
    return createTable('switchyard_migration', columns, tableOptions);
  }

  #insert(table: string, columns: readonly string[]): string {
    return this.#sql.insertIgnore(table, columns, `(${columns.map(() => '?').join(', ')})`);
  }
}

/**
 * Creates what is missing of the tables, brings older ones to the format of this program and gives the store's identity. Several
 * processes may do so at once, and be killed meanwhile. A user without the right to create tables is enough once they are there.
 * @throws SqlFault `refused` when the tables need a later program.
 */
export async function ensureSchema(
  driver: Driver,
  dialect: Dialect,
  options: SchemaOptions = {},
): Promise<StoreIdentity> {
  const migration = new Migration(driver, dialect, options);
  const standing = await migration.standing();
  if (standing !== undefined) await migration.check(standing);
  await migration.run(standing);
  if (standing !== undefined) return standing;
  const created = await migration.standing();
  if (created === undefined) throw new SqlFault('other', 'Expected one row in switchyard_meta, got none');
  // Another program may have created it.
  await migration.check(created);
  return created;
}

/** The identity of a store whose tables are there, whatever steps they lack; undefined without any. @throws SqlFault as `ensureSchema`. */
export async function readIdentity(
  driver: Driver,
  dialect: Dialect,
  signal: AbortSignal,
): Promise<StoreIdentity | undefined> {
  const migration = new Migration(driver, dialect, { signal });
  const standing = await migration.standing();
  if (standing !== undefined) await migration.check(standing);
  return standing;
}
