// The SQL of reads. Used by range.ts, past.ts and range-stream.ts. Each is one statement and so one snapshot: the meta row and the pairs of an
// answer belong to the same state. Without pairs there is one row with the meta columns alone. Limits stand in the text, so
// that planners see them, and come from few values, so that prepared statements stay few.

import type { Statement } from '../../../dialect/dialect.ts';

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

/**
 * Live pairs as they are now. A page of a range in key order names one bound where it cuts and the other one after: with
 * both at once, planners that do not look at the parameters take ranges for small, and read and sort all of a large one.
 * Its parameters are then start and end, or end and start when descending.
 */
export function selectLive({ scope, values, isFiltered, first }: PageOptions): Statement {
  const filter = isFiltered
    ? ' AND mod_revision >= ? AND mod_revision <= ? AND create_revision >= ? AND create_revision <= ?'
    : '';
  const descending = first?.order.isDescending ?? false;
  const isOneBound = isCutBeforeBound(scope, { isFiltered, first });
  const bound = isOneBound ? (descending ? 'k < ?' : 'k >= ?') : conditions[scope];
  const otherBound = isOneBound ? (descending ? 'c.k >= ?' : 'c.k < ?') : '1 = 1';
  const tieBreak = first?.order.column === 'k' ? '' : ', k';
  const cut =
    first === undefined
      ? ''
      : ` ORDER BY ${first.order.column}${descending ? ' DESC' : ''}${tieBreak} LIMIT ${first.rows}`;
  const page =
    'SELECT k, mod_revision, create_revision, version, lease FROM switchyard_current' +
    ` WHERE ${bound}${filter}${cut}`;
  return {
    name: `range.live.${scope}`,
    text:
      `SELECT ${meta}, c.k AS k, c.mod_revision AS mod_revision, c.create_revision AS create_revision,` +
      ` c.version AS version, c.lease AS lease${values ? ', l.value AS value' : ''}` +
      ` FROM switchyard_meta m LEFT JOIN (${page}) c ON ${otherBound}` +
      (values ? ' LEFT JOIN switchyard_log l ON l.mod_revision = c.mod_revision AND l.k = c.k' : '') +
      ' WHERE m.id = 1',
  };
}

/**
 * Live pairs of `n` keys, in no order; those that are not there have no row. Parameters: the keys, one as often as one likes. With
 * `valueBytesMax` larger values come as NULL, and `size` has their lengths.
 */
export function selectKeys(n: number, valueBytesMax?: number): Statement {
  const value =
    valueBytesMax === undefined
      ? 'l.value AS value'
      : `LENGTH(l.value) AS size, CASE WHEN LENGTH(l.value) <= ${valueBytesMax} THEN l.value END AS value`;
  const marks = Array.from({ length: n }, () => '?').join(', ');
  return {
    name: 'range.keys',
    text:
      `SELECT ${meta}, c.k AS k, c.mod_revision AS mod_revision, c.create_revision AS create_revision,` +
      ` c.version AS version, c.lease AS lease, ${value}` +
      ` FROM switchyard_meta m LEFT JOIN switchyard_current c ON c.k IN (${marks})` +
      ' LEFT JOIN switchyard_log l ON l.mod_revision = c.mod_revision AND l.k = c.k WHERE m.id = 1',
  };
}

/** Whether `selectLive` takes the bounds of a range in the order of the page. */
export function isCutBeforeBound(
  scope: KeyScope,
  { isFiltered, first }: Pick<PageOptions, 'isFiltered' | 'first'>,
): boolean {
  return scope === 'range' && first?.order.column === 'k' && !isFiltered;
}

const pastColumns = (values: boolean) =>
  'l.mod_revision AS mod_revision, l.create_revision AS create_revision, l.version AS version, l.lease AS lease,' +
  ` l.tombstone AS tombstone${values ? ', l.value AS value' : ''}`;

/** The row of one key at a revision, maybe a tombstone: the index read backwards. Parameters: the key, the revision. */
export function selectPastKey({ values }: { readonly values: boolean }): Statement {
  const row =
    'SELECT k, mod_revision FROM switchyard_log WHERE k = ? AND mod_revision <= ? ORDER BY mod_revision DESC LIMIT 1';
  return {
    name: 'range.past.key',
    text:
      `SELECT ${meta}, p.k AS k, ${pastColumns(values)} FROM switchyard_meta m LEFT JOIN (${row}) p ON 1 = 1` +
      ' LEFT JOIN switchyard_log l ON l.mod_revision = p.mod_revision AND l.k = p.k WHERE m.id = 1',
  };
}

/** Which keys are looked at for pairs of the past, and the revision of each there. */
export type PastSource =
  /** The log in key order: `entries` rows at most, whatever lies in the way. Parameters: the revision, the first key. */
  | { readonly type: 'walk'; readonly entries: number }
  /**
   * The pairs as they are now, with what the log has above the revision undone: `changes` rows of it at most. Parameters: the
   * revision, the first key, three times the revision, the first key, without `toEnd` the end.
   */
  | { readonly type: 'undo'; readonly changes: number };

interface PastOptions {
  readonly source: PastSource;
  readonly toEnd: boolean;
  readonly values: boolean;
  /** Most keys of the answer. */
  readonly keys: number;
  readonly bytesMax?: number | undefined;
}

/** k, entries, mod_revision. A walk sees keys from the end on too, whose pairs nobody wants. */
function pastKeys({ source, keys, toEnd }: PastOptions): string {
  if (source.type === 'walk') {
    const walk = `SELECT k, mod_revision FROM switchyard_log WHERE k >= ? ORDER BY k, mod_revision LIMIT ${source.entries}`;
    return (
      'SELECT k, COUNT(*) AS entries, MAX(CASE WHEN mod_revision <= ? THEN mod_revision END) AS mod_revision' +
      ` FROM (${walk}) e GROUP BY k ORDER BY k LIMIT ${keys}`
    );
  }
  // Those that have changed take places of those that have not.
  const now = `SELECT k, mod_revision FROM switchyard_current WHERE k >= ? ORDER BY k LIMIT ${keys + source.changes}`;
  const since = `SELECT k, prev_revision FROM switchyard_log WHERE mod_revision > ? ORDER BY mod_revision LIMIT ${source.changes}`;
  return (
    'SELECT k, 1 AS entries, mod_revision FROM' +
    ` (SELECT k, mod_revision FROM (${now}) n WHERE mod_revision <= ?` +
    // The first change of a key since; the later ones follow each other, or nothing.
    ` UNION ALL SELECT k, prev_revision FROM (${since}) s WHERE prev_revision > 0 AND prev_revision <= ? AND k >= ?) u` +
    `${toEnd ? '' : ' WHERE k < ?'} ORDER BY k LIMIT ${keys}`
  );
}

/**
 * Pairs as they were at a revision, from `source`. For each key: how many rows of it a walk has seen (`entries`), and its row at
 * the revision, maybe a tombstone, as far as it has seen; without `toEnd` none for keys from the end on. Parameters: those of the
 * source, without `toEnd` the end. With `undo`, `changes` is how many rows of the log above the revision were looked at.
 * With `bytesMax` (and the end twice) only the keys before which there are fewer bytes of values, so one at least;
 * `keys_seen` is then how many there were.
 */
export function selectPast(options: PastOptions): Statement {
  const { source, toEnd, values, keys, bytesMax } = options;
  const page = pastKeys(options);
  // Lengths alone, in a table of their own: engines carry the columns that a window is over through it, values too. The limit
  // cuts nothing; it keeps the tables from being merged.
  const sizes =
    'SELECT e.k AS k, e.entries AS entries, e.mod_revision AS mod_revision, COALESCE(LENGTH(v.value), 0) AS size' +
    ` FROM (${page}) e LEFT JOIN switchyard_log v ON v.mod_revision = e.mod_revision AND v.k = e.k` +
    `${toEnd ? '' : ' AND e.k < ?'} LIMIT ${keys}`;
  const weighed =
    'SELECT s.k AS k, s.entries AS entries, s.mod_revision AS mod_revision, COUNT(*) OVER () AS keys_seen,' +
    ` SUM(s.size) OVER (ORDER BY s.k) - s.size AS bytes_before FROM (${sizes}) s`;
  const [pairs, cut, seen] =
    bytesMax === undefined
      ? [page, '1 = 1', '']
      : [weighed, `p.bytes_before < ${bytesMax}`, ', p.keys_seen AS keys_seen'];
  const changes =
    source.type === 'walk'
      ? ''
      : `, (SELECT COUNT(*) FROM (SELECT k FROM switchyard_log WHERE mod_revision > ? ORDER BY mod_revision LIMIT ${source.changes}) s) AS changes`;
  return {
    name: `range.past.${source.type}`,
    text:
      `SELECT ${meta}, p.k AS k, p.entries AS entries${seen}${changes}, ${pastColumns(values)}` +
      ` FROM switchyard_meta m LEFT JOIN (${pairs}) p ON ${cut}` +
      ' LEFT JOIN switchyard_log l ON l.mod_revision = p.mod_revision AND l.k = p.k' +
      `${toEnd ? '' : ' AND p.k < ?'} WHERE m.id = 1`,
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
