// Leases: granting, renewing, looking and letting them expire. Used by sql-store.ts. Deleting keys is the committer's.
// Invariants: times to live are by the database's clock alone; a lease is expired by a write that looks at that clock again
// under a lock, so of many gateways one succeeds. In the store that grants leases none expires whose owner may have been
// kept from renewing it; in another one none expires that is still there where it was granted, and however long a lease has,
// it is over every few minutes, to be looked for there: its revocation may not have come through.

import { SqlFault, type Dialect, type Driver, type Row } from '../../../dialect/dialect.ts';
import { EtcdError } from '../../../etcd/errors.ts';
import type { LeaseId, Revision } from '../../../etcd/types.ts';
import type { Clock } from '../../../lib/clock.ts';
import type { Logger } from '../../../lib/log.ts';
import type { LeaseStats } from '../../stats.ts';
import type { Committer } from '../write/committer.ts';
import { leaseStatements } from './lease-statements.ts';
import { Presence } from './presence.ts';
import { bytes, int64 } from '../row.ts';

/** As in an etcd with its default election timeout. */
const ttlSecondsMin = 2;
const ttlSecondsMax = 9_000_000_000;
/** How often it is looked for leases to expire, as in etcd. */
const tickMs = 500;
/** Leases expired at once: they share few batches of the committer. */
const expiriesMax = 64;
/** How long the store that grants leases may take to say whether some are still there. */
const findMsMax = 5_000;
/** How long a lease from elsewhere may be here without a look whether it is still there. */
const lookSeconds = 300;

/** A lease as it is asked for. */
export interface LeaseRequest {
  readonly id: LeaseId;
  readonly ttlSeconds: number;
}

export interface Lessor {
  readonly stats: LeaseStats;
  /** @throws EtcdError leaseExists, leaseTtlTooLarge */
  grant(
    lease: LeaseRequest,
    signal: AbortSignal,
  ): Promise<{ readonly revision: Revision; readonly ttlSeconds: number }>;
  /** Takes over a lease that another store granted; nothing when it is here already. */
  adopt(lease: LeaseRequest & { readonly remainingSeconds: number }, signal: AbortSignal): Promise<void>;
  /**
   * Gives the lease its whole TTL again; `ttlSeconds` is 0 when it is gone. One that is over and not removed yet is
   * removed first, as in etcd, unless it waits because its owner may have been kept from just this.
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

/** A lease as the store that granted it tells: no less than what remains of it. */
export interface FoundLease {
  readonly ttlSeconds: number;
  readonly remainingSeconds: number;
}

/** Asks the store that grants leases; undefined = there is none of that id. */
export type FindLease = (id: LeaseId, signal: AbortSignal) => Promise<FoundLease | undefined>;

export interface LessorOptions {
  readonly driver: Driver;
  readonly dialect: Dialect;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly revoke: Committer['revoke'];
  /** Where another store grants the leases, which alone decides whether they live. */
  readonly findLease?: FindLease;
}

/** A lessor that lets nothing expire yet. */
export function createLessor(options: LessorOptions): Lessor {
  return new SqlLessor(options);
}

class SqlLessor implements Lessor {
  readonly #options: LessorOptions;
  readonly #statements: ReturnType<typeof leaseStatements>;
  readonly #presence = new Presence();
  readonly #stop = new AbortController();
  readonly stats = { granted: 0, renewed: 0, expired: 0 };
  #running: Promise<void> | undefined;

  constructor(options: LessorOptions) {
    this.#options = options;
    const longestSeconds = options.findLease === undefined ? ttlSecondsMax : lookSeconds;
    this.#statements = leaseStatements(options.dialect.sql, longestSeconds);
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
    this.stats.granted++;
    const { rows } = await driver.query(this.#statements.select, [id], signal);
    return { revision: int64(metaOf(rows), 'revision'), ttlSeconds: granted };
  }

  async adopt(
    { id, ttlSeconds, remainingSeconds }: LeaseRequest & { readonly remainingSeconds: number },
    signal: AbortSignal,
  ): Promise<void> {
    const params = [id, BigInt(ttlSeconds), untilLookMs(remainingSeconds)];
    await this.#options.driver.query(this.#statements.insertIgnore, params, signal);
  }

  async keepAlive(id: LeaseId, signal: AbortSignal) {
    const { driver } = this.#options;
    const select = async () => metaOf((await driver.query(this.#statements.select, [id], signal)).rows);
    // The revision comes first, as in etcd: of two clients none sees the lease renewed after it was revoked.
    const before = await select();
    const revision = int64(before, 'revision');
    for (let row = before; row['ttl_seconds'] !== null; row = await select()) {
      const ttlSeconds = Number(int64(row, 'ttl_seconds'));
      const { affected } = await driver.query(this.#statements.renew, [id], signal);
      if (affected > 0 || (await this.#revived(id, signal))) {
        this.stats.renewed++;
        return { revision, ttlSeconds };
      }
      // Not found: it was removed elsewhere, or renewed.
      if ((await this.#options.revoke(id, { onlyIfExpired: true })).found) {
        this.stats.expired++;
        break;
      }
    }
    return { revision, ttlSeconds: 0 };
  }

  /** Renews a lease that is over, unless its owner has had its chance. */
  async #revived(id: LeaseId, signal: AbortSignal): Promise<boolean> {
    const { driver, clock, findLease } = this.#options;
    const { rows } = await driver.query(this.#statements.select, [id], signal);
    const row = metaOf(rows);
    this.#presence.seen(clock.now(), Number(int64(row, 'now')));
    const isOwn = findLease === undefined;
    if (isOwn && this.#presence.covers(Number(int64(row, 'ttl_seconds')) * 1000)) return false;
    return (await driver.query(this.#statements.revive, [id], signal)).affected > 0;
  }

  async timeToLive({ id, keys }: { readonly id: LeaseId; readonly keys: boolean }, signal: AbortSignal) {
    const statement = keys ? this.#statements.selectWithKeys : this.#statements.select;
    const { rows } = await this.#options.driver.query(statement, [id], signal);
    const row = metaOf(rows);
    const revision = int64(row, 'revision');
    if (row['ttl_seconds'] === null) return { revision, ttlSeconds: -1, grantedTtlSeconds: 0, keys: [] };
    const remainingMs = Number(int64(row, 'remaining'));
    const granted = Number(int64(row, 'ttl_seconds'));
    return {
      revision,
      // One that is over waits for its removal, which is no matter of seconds below zero; more than all has one whose clock went back.
      ttlSeconds: Math.min(granted, Math.max(0, Math.floor(remainingMs / 1000))),
      grantedTtlSeconds: granted,
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
      try {
        await this.#expire();
        isFailing = false;
      } catch (error) {
        // The outage itself is told elsewhere; one line for it is enough, and none for being stopped.
        if (!isFailing && !signal.aborted)
          logger.warn('Leases cannot expire while a database or store does not answer', { error });
        isFailing = true;
      }
      await clock.sleep(tickMs, signal);
    }
  }

  /** Lets what is over expire, some at a time, so that other writes find their place between. */
  async #expire(): Promise<void> {
    const { clock, logger, revoke, findLease } = this.#options;
    const ripe = findLease === undefined ? await this.#ripe() : await this.#over(ttlSecondsMax);
    for (let start = 0; start < ripe.length; start += expiriesMax) {
      const some = ripe.slice(start, start + expiriesMax);
      const ids = findLease === undefined ? some : await this.#gone(some, findLease);
      if (this.#stop.signal.aborted) return;
      if (ids.length === 0) continue;
      const outcomes = await Promise.allSettled(ids.map((id) => revoke(id, { onlyIfExpired: true })));
      const failed = outcomes.find((outcome) => outcome.status === 'rejected');
      this.stats.expired += outcomes.filter(
        (outcome) => outcome.status === 'fulfilled' && outcome.value.found,
      ).length;
      if (failed !== undefined) throw failed.reason;
      this.#presence.seen(clock.now());
      logger.debug('Leases have expired', { leases: ids.length });
    }
  }

  /** Leases granted here that are over and whose owners have had their chance. */
  async #ripe(): Promise<LeaseId[]> {
    const ms = this.#presence.sinceStartMs(this.#options.clock.now());
    return this.#over(Math.floor(ms / 1000), (ttlSeconds) => this.#presence.covers(ttlSeconds * 1000));
  }

  /** Leases that are over, of those with such TTLs. A clock that was set back keeps none for longer than its TTL. */
  async #over(longest: number, isRipe: (ttlSeconds: number) => boolean = () => true): Promise<LeaseId[]> {
    const { driver, clock, logger } = this.#options;
    const { signal } = this.#stop;
    const { rows } = await driver.query(this.#statements.selectDue, [BigInt(longest)], signal);
    this.#presence.seen(clock.now(), Number(int64(metaOf(rows), 'now')));
    const due = rows.filter((row) => row['id'] !== null);
    const over = due.filter((row) => int64(row, 'remaining') <= 0n);
    if (over.length < due.length) {
      const { affected } = await driver.query(this.#statements.shorten, [], signal);
      logger.warn('The clock of the database was set back; leases begin anew', { leases: affected });
    }
    return over.filter((row) => isRipe(Number(int64(row, 'ttl_seconds')))).map((row) => int64(row, 'id'));
  }

  /** Those of `ids` that are not there any more where they were granted; the others get time until the next look. */
  async #gone(ids: readonly LeaseId[], findLease: FindLease): Promise<LeaseId[]> {
    const { driver } = this.#options;
    const { signal } = this.#stop;
    const bounded = AbortSignal.any([signal, AbortSignal.timeout(findMsMax)]);
    const isGone = async (id: LeaseId) => {
      const found = await findLease(id, bounded);
      if (found === undefined) return true;
      await driver.query(this.#statements.extend, [untilLookMs(found.remainingSeconds), id], signal);
      return false;
    };
    const gone = await Promise.all(ids.map(isGone));
    return ids.filter((_, index) => gone[index]);
  }
}

/** For how long a lease from elsewhere is here without a look, where so much of it remains. */
export const untilLookMs = (remainingSeconds: number) =>
  BigInt(Math.round(Math.min(remainingSeconds, lookSeconds) * 1000));

function metaOf(rows: readonly Row[]): Row {
  const row = rows[0];
  if (row === undefined) throw new SqlFault('other', 'Expected one row in switchyard_meta, got none');
  return row;
}
