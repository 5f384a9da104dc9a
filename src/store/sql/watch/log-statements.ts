// The SQL that reads the log in revision order, and the counters. Used by log-reader.ts and hash-kv.ts, the counters by all
// who read. Each is one statement and so one snapshot:
// the meta row and the log rows of an answer belong to the same state, which is what makes a compaction that races the
// read visible. The limit stands in the text (MySQL takes no parameter of every type there); the reader uses few
// distinct limits, so prepared statements stay few.

import type { Statement } from '../../../dialect/dialect.ts';

/** Which keys a read is about. Parameters, in order: `all` none; `key` and `fromKey` the key; `range` start and end. */
export type LogScope = 'all' | 'key' | 'range' | 'fromKey';

const conditions: Record<LogScope, string> = {
  all: '',
  key: ' AND k = ?',
  range: ' AND k >= ? AND k < ?',
  fromKey: ' AND k >= ?',
};

/** The store's counters: one row (`revision`, `compact_revision`). */
export const selectRevisions: Statement = {
  name: 'log.revisions',
  text: 'SELECT revision, compact_revision FROM switchyard_meta WHERE id = 1',
};

/** The same with how far the sweep is and how many leases there are (`swept_revision`, `leases`). */
export const selectStatus: Statement = {
  name: 'status',
  text:
    'SELECT revision, compact_revision, swept_revision,' +
    ' (SELECT COUNT(*) FROM switchyard_lease) AS leases FROM switchyard_meta WHERE id = 1',
};

/**
 * At most `limit` rows of the log with after < mod_revision <= through, the lowest revisions first (rows come in no
 * order), each with the pair before it (`prev_…`, NULL where there is none) and with the meta row. Without log rows:
 * one row with the meta columns alone. `next_revision`: the first revision in the log above `through`, of any key.
 * Parameters: through, after, through, then those of the scope.
 */
export function selectLog(scope: LogScope, limit: number): Statement {
  // Ordered by the revision alone, as the primary key is, so that no engine sorts more than it returns. A derived
  // table with a LIMIT is evaluated by itself in every engine.
  const rows =
    'SELECT mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value' +
    ` FROM switchyard_log WHERE mod_revision > ? AND mod_revision <= ?${conditions[scope]}` +
    ` ORDER BY mod_revision LIMIT ${limit}`;
  return {
    name: `log.${scope}`,
    text:
      'SELECT m.revision AS revision, m.compact_revision AS compact_revision,' +
      ' (SELECT MIN(n.mod_revision) FROM switchyard_log n WHERE n.mod_revision > ?) AS next_revision,' +
      ' l.mod_revision AS mod_revision, l.k AS k, l.sub AS sub, l.create_revision AS create_revision,' +
      ' l.version AS version, l.lease AS lease, l.tombstone AS tombstone, l.value AS value,' +
      ' p.mod_revision AS prev_mod_revision, p.create_revision AS prev_create_revision,' +
      ' p.version AS prev_version, p.lease AS prev_lease, p.value AS prev_value' +
      ` FROM switchyard_meta m LEFT JOIN (${rows}) l ON 1 = 1` +
      ' LEFT JOIN switchyard_log p ON p.mod_revision = l.prev_revision AND p.k = l.k' +
      ' WHERE m.id = 1',
  };
}

/**
 * At most `limit` rows of the log with after < mod_revision <= through, the lowest revisions first (rows come in no order),
 * and with the meta row. Those at or below the compact revision, of which a key has few, with the revision that replaced them
 * (`next_revision`, NULL where it is the key's latest). Without log rows: one row with the meta columns alone. Parameters:
 * after, through.
 */
export function selectHistory(limit: number): Statement {
  const columns = 'mod_revision, k, sub, create_revision, version, lease, tombstone, prev_revision, value';
  return {
    name: 'log.history',
    text:
      'SELECT m.revision AS revision, m.compact_revision AS compact_revision,' +
      ' l.mod_revision AS mod_revision, l.k AS k, l.sub AS sub, l.create_revision AS create_revision,' +
      ' l.version AS version, l.lease AS lease, l.tombstone AS tombstone, l.prev_revision AS prev_revision,' +
      ' l.value AS value,' +
      // Not for every row: MySQL looks through all rows of the key for it.
      ' CASE WHEN l.mod_revision <= m.compact_revision THEN (SELECT MIN(n.mod_revision) FROM switchyard_log n' +
      ' WHERE n.k = l.k AND n.mod_revision > l.mod_revision) END AS next_revision' +
      ` FROM switchyard_meta m LEFT JOIN (SELECT ${columns} FROM switchyard_log` +
      ` WHERE mod_revision > ? AND mod_revision <= ? ORDER BY mod_revision LIMIT ${limit}) l ON 1 = 1` +
      ' WHERE m.id = 1',
  };
}
