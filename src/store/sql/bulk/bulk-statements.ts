// The SQL that only backup and restore need. Used by bulk.ts. Ranges are half-open, and open at the end where `toEnd` is true.

import type { DialectSql, Statement } from '../../../dialect/dialect.ts';
import { leaseStatements } from '../lease/lease-statements.ts';

/** Keys whose sizes are looked at in one go. */
export const pageRows = 1024;
/** Keys that are removed in one transaction. */
export const clearRows = 256;

export interface BulkStatements {
  /** start, end → k and size (bytes of the value) of the first `pageRows` live keys, in order. */
  selectSizes(toEnd: boolean): Statement;
  /** start, end → the first `clearRows` keys that the log has, in order. */
  selectKeys(toEnd: boolean): Statement;
  /** start, end. */
  readonly deleteLogRange: Statement;
  readonly deleteCurrentRange: Statement;
  /** start, end: no lease has a key of the range any more. */
  detachRange(toEnd: boolean): Statement;
  /** n keys (padded). */
  deleteLogKeys(n: number): Statement;
  /** id → now (ms); ttl_seconds, remaining (ms), NULL without such a lease. */
  readonly selectLease: Statement;
  /** id, ttl_seconds, milliseconds from now. */
  readonly grant: Statement;
}

const within = (column: string, toEnd: boolean) => `${column} >= ?${toEnd ? '' : ` AND ${column} < ?`}`;

/** The statements for one engine. */
export function bulkStatements(sql: DialectSql): BulkStatements {
  const lease = leaseStatements(sql, 0);
  return {
    selectSizes: (toEnd) => ({
      name: 'bulk.sizes',
      text:
        'SELECT c.k AS k, COALESCE(LENGTH(l.value), 0) AS size FROM switchyard_current c' +
        ' LEFT JOIN switchyard_log l ON l.mod_revision = c.mod_revision AND l.k = c.k' +
        ` WHERE ${within('c.k', toEnd)} ORDER BY c.k LIMIT ${pageRows}`,
    }),
    selectKeys: (toEnd) => ({
      name: 'bulk.keys',
      text: `SELECT DISTINCT k FROM switchyard_log WHERE ${within('k', toEnd)} ORDER BY k LIMIT ${clearRows}`,
    }),
    deleteLogRange: {
      name: 'bulk.clear_log',
      text: `DELETE FROM switchyard_log WHERE ${within('k', false)}`,
    },
    deleteCurrentRange: {
      name: 'bulk.clear_current',
      text: `DELETE FROM switchyard_current WHERE ${within('k', false)}`,
    },
    detachRange: (toEnd) => ({
      name: 'bulk.detach',
      text: `DELETE FROM switchyard_lease_key WHERE ${within('k', toEnd)}`,
    }),
    deleteLogKeys: (n) => ({
      name: 'bulk.clear_keys',
      text: `DELETE FROM switchyard_log WHERE k IN (${Array.from({ length: n }, () => '?').join(', ')})`,
    }),
    selectLease: lease.select,
    grant: lease.insertIgnore,
  };
}
