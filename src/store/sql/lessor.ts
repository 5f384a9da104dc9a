// Leases: granting, renewing, looking and letting them expire. Used by sql-store.ts. Deleting keys is the committer's.
// Invariants: times to live are by the database's clock alone; a lease is expired by a write that looks at that clock again
// under a lock, so of many gateways one succeeds; no lease expires whose owner may have been kept from renewing it.

import { SqlFault, type Dialect, type Driver, type Row, type Statement } from '../../dialect/dialect.ts';
import { EtcdError } from '../../etcd/errors.ts';
import type { LeaseId, Revision } from '../../etcd/types.ts';
import type { Clock } from '../../lib/clock.ts';
import type { Logger } from '../../lib/log.ts';
import type { Committer } from './committer.ts';
import { Presence } from './presence.ts';
import { bytes, int64 } from './row.ts';

/** As in an etcd with its default election timeout. */
const ttlSecondsMin = 2;
const ttlSecondsMax = 9_000_000_000;
/** How often it is looked for leases to expire. */
const tickMs = 500;
/** Leases expired at once: they share few batches of the committer. */
const expiriesMax = 64;
/** Leases that are over looked at in one go. */
const overMax = 10_000;

/** A lease as it is asked for. */
export interface LeaseRequest {
  readonly id: LeaseId;
  readonly ttlSeconds: number;
}

export interface Lessor {
  /** @throws EtcdError leaseExists, leaseTtlTooLarge */
  grant(
    lease: LeaseRequest,
    signal: AbortSignal,
  ): Promise<{ readonly revision: Revision; readonly ttlSeconds: number }>;
  /** Takes over a lease that another store granted; nothing when it is there already. */
  adopt(lease: LeaseRequest & { readonly remainingSeconds: number }, signal: AbortSignal): Promise<void>;
  /**
   * Gives the lease its whole TTL again, also one that is over and not removed yet. `ttlSeconds` is 0 when it is gone.
   */
  keepAlive(
    id: LeaseId,
    signal: AbortSignal,
  ): Promise<{ readonly revision: Revision; readonly ttlSeconds: number }>;
  /** `ttlSeconds`: what remains, -1 without such a lease. */
  timeToLive(
    request: { readonly id: LeaseId; readonly keys: boolean },
    signal: AbortSignal,
  ): Promise<{
    readonly revision: Revision;
    readonly ttlSeconds: number;
    readonly grantedTtlSeconds: number;
    readonly keys: Buffer[];
  }>;
  /** The next to expire first. */
  leases(signal: AbortSignal): Promise<{ readonly revision: Revision; readonly ids: LeaseId[] }>;
  /** Begins to let leases expire. Once. */
  start(): void;
  /** Stops after the expiries under way. */
  close(): Promise<void>;
}

export interface LessorOptions {
  readonly driver: Driver;
  readonly dialect: Dialect;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly revoke: Committer['revoke'];
}

/** A lessor that lets nothing expire yet. */
export function createLessor(options: LessorOptions): Lessor {
  return new SqlLessor(options);
}

interface LeaseStatements {
  /** id, ttl_seconds, milliseconds from now. */
  readonly insert: Statement;
  readonly insertIgnore: Statement;
  /** id. */
  readonly renew: Statement;
  /** id → revision; ttl_seconds and remaining (ms), NULL without such a lease. */
  readonly select: Statement;
  /** The same with k of each attached key. */
  readonly selectWithKeys: Statement;
  readonly selectAll: Statement;
  /** Longest TTL in seconds → id, ttl_seconds of those that are over. */
  readonly selectOver: Statement;
}

function leaseStatements(sql: Dialect['sql']): LeaseStatements {
  const { nowMs } = sql;
  const insertColumns = ['id', 'ttl_seconds', 'expires_at'];
  const row = `(?, ?, ${nowMs} + ?)`;
  const select = `SELECT m.revision AS revision, l.ttl_seconds AS ttl_seconds, l.expires_at - ${nowMs} AS remaining`;
  const from = 'FROM switchyard_meta m LEFT JOIN switchyard_lease l';
  return {
    insert: {
      name: 'lease.grant',
      text: `INSERT INTO switchyard_lease (${insertColumns.join(', ')}) VALUES ${row}`,
    },
    insertIgnore: { name: 'lease.adopt', text: sql.insertIgnore('switchyard_lease', insertColumns, row) },
    renew: {
      name: 'lease.renew',
      text: `UPDATE switchyard_lease SET expires_at = ${nowMs} + ttl_seconds * 1000 WHERE id = ?`,
    },
    select: { name: 'lease.select', text: `${select} ${from} ON l.id = ? WHERE m.id = 1` },
    selectWithKeys: {
      name: 'lease.select_with_keys',
      text:
        `${select}, a.k AS k ${from} ON l.id = ? LEFT JOIN switchyard_lease_key a ON a.lease = l.id` +
        ' WHERE m.id = 1 ORDER BY a.k',
    },
    selectAll: {
      name: 'lease.list',
      text: `SELECT m.revision AS revision, l.id AS id ${from} ON 1 = 1 WHERE m.id = 1 ORDER BY l.expires_at, l.id`,
    },
    selectOver: {
      name: 'lease.over',
      text:
        `SELECT id, ttl_seconds FROM switchyard_lease WHERE expires_at <= ${nowMs} AND ttl_seconds <= ?` +
        ` ORDER BY expires_at LIMIT ${overMax}`,
    },
  };
}

class SqlLessor implements Lessor {
  readonly #options: LessorOptions;
  readonly #statements: LeaseStatements;
  readonly #presence = new Presence();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: LessorOptions) {
    this.#options = options;
    this.#statements = leaseStatements(options.dialect.sql);
  }

  async grant({ id, ttlSeconds }: LeaseRequest, signal: AbortSignal) {
    if (ttlSeconds > ttlSecondsMax) throw new EtcdError('leaseTtlTooLarge');
    const granted = Math.max(ttlSecondsMin, ttlSeconds);
    const { driver } = this.#options;
    try {
      await driver.query(this.#statements.insert, [id, BigInt(granted), BigInt(granted) * 1000n], signal);
    } catch (error) {
      if (error instanceof SqlFault && error.kind === 'unique-violation') {
        throw new EtcdError('leaseExists', { cause: error });
      }
      throw error;
    }
    const { rows } = await driver.query(this.#statements.select, [id], signal);
    return { revision: int64(metaOf(rows), 'revision'), ttlSeconds: granted };
  }

  async adopt(
    { id, ttlSeconds, remainingSeconds }: LeaseRequest & { readonly remainingSeconds: number },
    signal: AbortSignal,
  ): Promise<void> {
    const remainingMs = BigInt(Math.round(remainingSeconds * 1000));
    const params = [id, BigInt(ttlSeconds), remainingMs];
    await this.#options.driver.query(this.#statements.insertIgnore, params, signal);
  }

  async keepAlive(id: LeaseId, signal: AbortSignal) {
    const { driver } = this.#options;
    const { affected } = await driver.query(this.#statements.renew, [id], signal);
    const { rows } = await driver.query(this.#statements.select, [id], signal);
    const row = metaOf(rows);
    // Gone between the two: gone.
    return {
      revision: int64(row, 'revision'),
      ttlSeconds: affected === 0 ? 0 : Number(int64(row, 'ttl_seconds')),
    };
  }

  async timeToLive({ id, keys }: { readonly id: LeaseId; readonly keys: boolean }, signal: AbortSignal) {
    const statement = keys ? this.#statements.selectWithKeys : this.#statements.select;
    const { rows } = await this.#options.driver.query(statement, [id], signal);
    const row = metaOf(rows);
    const revision = int64(row, 'revision');
    if (row['ttl_seconds'] === null) return { revision, ttlSeconds: -1, grantedTtlSeconds: 0, keys: [] };
    const remainingMs = Number(int64(row, 'remaining'));
    return {
      revision,
      // One that is over waits for its removal, which is no matter of seconds below zero.
      ttlSeconds: Math.max(0, Math.floor(remainingMs / 1000)),
      grantedTtlSeconds: Number(int64(row, 'ttl_seconds')),
      keys: rows.filter((found) => Buffer.isBuffer(found['k'])).map((found) => bytes(found, 'k')),
    };
  }

  async leases(signal: AbortSignal) {
    const { rows } = await this.#options.driver.query(this.#statements.selectAll, [], signal);
    const revision = int64(metaOf(rows), 'revision');
    const ids = rows.filter((row) => row['id'] !== null).map((row) => int64(row, 'id'));
    return { revision, ids };
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  // Expiry

  async #run(): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = this.#stop;
    let isFailing = false;
    while (!signal.aborted) {
      let isMore = false;
      try {
        isMore = await this.#expire();
        isFailing = false;
      } catch (error) {
        // The outage itself is told elsewhere; one line for it is enough.
        if (!isFailing) logger.warn('Leases cannot expire while the database does not answer', { error });
        isFailing = true;
      }
      if (!isMore) await clock.sleep(tickMs, signal);
    }
  }

  /** Lets what is over expire, some at a time; true when there is more. */
  async #expire(): Promise<boolean> {
    const { driver, clock, logger, revoke } = this.#options;
    const longest = BigInt(Math.floor(this.#presence.sinceStartMs(clock.now()) / 1000));
    const { rows } = await driver.query(this.#statements.selectOver, [longest], this.#stop.signal);
    this.#presence.seen(clock.now());
    const ripe = rows.filter((row) => this.#presence.covers(Number(int64(row, 'ttl_seconds')) * 1000));
    const ids = ripe.slice(0, expiriesMax).map((row) => int64(row, 'id'));
    if (ids.length === 0 || this.#stop.signal.aborted) return false;
    const outcomes = await Promise.allSettled(ids.map((id) => revoke(id, { onlyIfExpired: true })));
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    this.#presence.seen(clock.now());
    logger.debug('Leases have expired', { leases: ids.length });
    return ripe.length > ids.length;
  }
}

function metaOf(rows: readonly Row[]): Row {
  const row = rows[0];
  if (row === undefined) throw new SqlFault('other', 'Expected one row in switchyard_meta, got none');
  return row;
}
