// The statements about leases, but for those of their removal, which is the committer's. Used by lessor.ts. Times to live are by
// the database's clock alone.

import type { Dialect, Statement } from '../../../dialect/dialect.ts';

/** Leases that are over looked at in one go. */
const overMax = 10_000;
/** No lease ends later than a whole TTL from now, unless the clock was set back, or several servers disagree by less than this. */
const skewMs = 5_000;

/** What the lessor asks and changes. */
export interface LeaseStatements {
  /** id, ttl_seconds, milliseconds from now. */
  readonly insert: Statement;
  readonly insertIgnore: Statement;
  /** id; only one that is not over. */
  readonly renew: Statement;
  /** id. */
  readonly revive: Statement;
  /** milliseconds from now, id. */
  readonly extend: Statement;
  /** id → revision, now (ms); ttl_seconds and remaining (ms), NULL without such a lease. */
  readonly select: Statement;
  /** The same with k of each attached key. */
  readonly selectWithKeys: Statement;
  readonly selectAll: Statement;
  /**
   * Longest TTL in seconds → now (ms); id, ttl_seconds, remaining (ms) of those that are over, and of those that end later than they
   * can; one row with NULLs without any.
   */
  readonly selectDue: Statement;
  /** Gives those that end later than they can their whole TTL. */
  readonly shorten: Statement;
}

/** The statements for one engine. `longestSeconds`: what a renewal gives at most. */
export function leaseStatements(sql: Dialect['sql'], longestSeconds: number): LeaseStatements {
  const { nowMs } = sql;
  const insertColumns = ['id', 'ttl_seconds', 'expires_at'];
  const row = `(?, ?, ${nowMs} + ?)`;
  const select =
    `SELECT m.revision AS revision, ${nowMs} AS now, l.ttl_seconds AS ttl_seconds,` +
    ` l.expires_at - ${nowMs} AS remaining`;
  const seconds = `CASE WHEN ttl_seconds > ${longestSeconds} THEN ${longestSeconds} ELSE ttl_seconds END`;
  const renewAll = `UPDATE switchyard_lease SET expires_at = ${nowMs} + (${seconds}) * 1000`;
  const renew = `${renewAll} WHERE id = ?`;
  const isTooLate = (now: string) => `expires_at > ${now} + (${seconds}) * 1000 + ${skewMs}`;
  const from = 'FROM switchyard_meta m LEFT JOIN switchyard_lease l';
  return {
    insert: {
      name: 'lease.grant',
      text: `INSERT INTO switchyard_lease (${insertColumns.join(', ')}) VALUES ${row}`,
    },
    insertIgnore: { name: 'lease.adopt', text: sql.insertIgnore('switchyard_lease', insertColumns, row) },
    renew: { name: 'lease.renew', text: `${renew} AND expires_at > ${nowMs}` },
    revive: { name: 'lease.revive', text: renew },
    extend: {
      name: 'lease.extend',
      text: `UPDATE switchyard_lease SET expires_at = ${nowMs} + ? WHERE id = ?`,
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
    selectDue: {
      name: 'lease.due',
      // The clock is asked once, not for each lease: this runs every tick, and looks at all leases there are.
      text:
        `SELECT c.now AS now, l.id AS id, l.ttl_seconds AS ttl_seconds, l.expires_at - c.now AS remaining` +
        ` FROM (SELECT ${nowMs} AS now) c LEFT JOIN switchyard_lease l` +
        ` ON (l.expires_at <= c.now AND l.ttl_seconds <= ?) OR ${isTooLate('c.now')}` +
        ` ORDER BY l.expires_at LIMIT ${overMax}`,
    },
    shorten: { name: 'lease.shorten', text: `${renewAll} WHERE ${isTooLate(nowMs)}` },
  };
}
