// The SQL of reads. Used by range.ts only. Each is one statement and so one snapshot: the meta row and the pairs of an
// answer belong to the same state. Without pairs there is one row with the meta columns alone. Limits stand in the text, so
// that planners see them, and come from few values, so that prepared statements stay few.

import type { Statement } from '../../dialect/dialect.ts';

/** Which keys a read is about. Parameters, in order: `key` and `fromKey` the key; `range` start and end. */
export type KeyScope = 'key' | 'range' | 'fromKey';

const conditions: Record<KeyScope, string> = {
  key: 'k = ?',
  range: 'k >= ? AND k < ?',
  fromKey: 'k >= ?',
};

/** Numeric columns that pairs can be sorted by, beside the key. */
export type SortColumn = 'k' | 'version' | 'create_revision' | 'mod_revision';

export interface PageOrder {
  readonly column: SortColumn;
  readonly isDescending: boolean;
}

export interface PageOptions {
  readonly scope: KeyScope;
  readonly values: boolean;
  /** Bounds on revisions: parameters mod from, mod to, create from, create to (inclusive), after those of the scope. */
  readonly isFiltered: boolean;
  /** The first `rows` in `order`; absent = all, in no order. Rows of the answer come in no order either way. */
  readonly first?: { readonly order: PageOrder; readonly rows: number } | undefined;
}

const meta = 'm.revision AS revision, m.compact_revision AS compact_revision';

/** Live pairs as they are now. */
export function selectLive({ scope, values, isFiltered, first }: PageOptions): Statement {
  const filter = isFiltered
    ? ' AND mod_revision >= ? AND mod_revision <= ? AND create_revision >= ? AND create_revision <= ?'
    : '';
  const direction = first?.order.isDescending ? ' DESC' : '';
  const tieBreak = first?.order.column === 'k' ? '' : ', k';
  const cut =
    first === undefined ? '' : ` ORDER BY ${first.order.column}${direction}${tieBreak} LIMIT ${first.rows}`;
  const page =
    'SELECT k, mod_revision, create_revision, version, lease FROM switchyard_current' +
    ` WHERE ${conditions[scope]}${filter}${cut}`;
  return {
    name: `range.live.${scope}`,
    text:
      `SELECT ${meta}, c.k AS k, c.mod_revision AS mod_revision, c.create_revision AS create_revision,` +
      ` c.version AS version, c.lease AS lease${values ? ', l.value AS value' : ''}` +
      ` FROM switchyard_meta m LEFT JOIN (${page}) c ON 1 = 1` +
      (values ? ' LEFT JOIN switchyard_log l ON l.mod_revision = c.mod_revision AND l.k = c.k' : '') +
      ' WHERE m.id = 1',
  };
}

/**
 * The latest row at or below a revision of each of the first `rows` keys that had one by then, tombstones included, in no
 * order. Parameters: those of the scope, the revision.
 */
export function selectPast(options: {
  readonly scope: KeyScope;
  readonly values: boolean;
  readonly rows: number;
}): Statement {
  const { scope, values, rows } = options;
  const where = `WHERE ${conditions[scope]} AND mod_revision <= ?`;
  // One key: the index read backwards finds the row at once, where grouping would go through all of its versions.
  const page =
    scope === 'key'
      ? `SELECT k, mod_revision FROM switchyard_log ${where} ORDER BY mod_revision DESC LIMIT 1`
      : `SELECT k, MAX(mod_revision) AS mod_revision FROM switchyard_log ${where} GROUP BY k ORDER BY k LIMIT ${rows}`;
  return {
    name: `range.past.${scope}`,
    text:
      `SELECT ${meta}, p.k AS k, p.mod_revision AS mod_revision, l.create_revision AS create_revision,` +
      ` l.version AS version, l.lease AS lease, l.tombstone AS tombstone${values ? ', l.value AS value' : ''}` +
      ` FROM switchyard_meta m LEFT JOIN (${page}) p ON 1 = 1` +
      ' LEFT JOIN switchyard_log l ON l.mod_revision = p.mod_revision AND l.k = p.k WHERE m.id = 1',
  };
}

/**
 * `live`: keys there now. `gained`, only `since` a revision: how many more there are than at it. Parameters: those of the
 * scope; with `since` the revision from which on meta says that nothing has come since, the revision, those of the scope.
 */
export function selectCount(scope: KeyScope, options: { readonly since: boolean }): Statement {
  const live = `(SELECT COUNT(*) FROM switchyard_current WHERE ${conditions[scope]}) AS live`;
  const change = 'CASE WHEN tombstone <> 0 THEN -1 WHEN prev_revision = 0 THEN 1 ELSE 0 END';
  // Planners do not know that there are few rows above a recent revision; mostly there are none, so the log is left alone.
  const gained = options.since
    ? ', CASE WHEN m.revision <= ? THEN 0 ELSE' +
      ` (SELECT SUM(${change}) FROM switchyard_log WHERE mod_revision > ? AND ${conditions[scope]}) END AS gained`
    : '';
  return {
    name: `range.count.${scope}`,
    text: `SELECT ${meta}, ${live}${gained} FROM switchyard_meta m WHERE m.id = 1`,
  };
}
