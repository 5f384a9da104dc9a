// The views for people on SQLite. Used by sqlite.ts. JSON functions take bytes for SQLite's own form of JSON, so values are cast to text first;
// what a cast or a function cannot read is NULL, never an error.

const hex = (text: string) => `x'${Buffer.from(text).toString('hex')}'`;

/**
 * The columns of the key of `rows`, and those named in `others`; `rows` has a column k. The key below the prefix is made a JSON array of its
 * segments: SQLite puts the texts of subqueries in place of their names, and reads the same JSON once.
 */
function withKeyColumns(rows: string, others: readonly string[], keyPrefix: string): string {
  const below = `CAST(substr(k, ${Buffer.byteLength(keyPrefix) + 2}) AS TEXT)`;
  const segment = (index: string) => `json_extract(segments, '$[' || (${index}) || ']')`;
  // Where there are more than type, namespace and name: all in front of the last two.
  const rest = `CASE WHEN grouped THEN substr(${below}, instr(${below}, '/') + 1) ELSE ${below} END`;
  const front = `substr(${rest}, 1, length(${rest}) - length(${segment("'#-1'")}) - length(${segment("'#-2'")}) - 2)`;
  return `SELECT k, CASE WHEN grouped THEN ${segment('0')} END AS api_group,
    CASE WHEN json_array_length(segments) - grouped > 3 THEN ${front} ELSE ${segment('grouped')} END AS type,
    CASE WHEN json_array_length(segments) - grouped > 2 THEN ${segment("'#-2'")} END AS namespace,
    CASE WHEN json_array_length(segments) - grouped > 1 THEN ${segment("'#-1'")} END AS name,
    ${others.join(', ')}
    FROM (SELECT *, instr(${segment('0')}, '.') > 0 AS grouped
    FROM (SELECT *, '[' || replace(json_quote(${below}), '/', '","') || ']' AS segments FROM (${rows})))`;
}

const text = (value: string) => `CAST(${value} AS TEXT)`;
/** Text ends at a zero byte for some functions, and what is behind it would not be looked at. */
const object = (value: string) =>
  `CASE WHEN substr(${value}, 1, 1) = ${hex('{')} AND instr(${value}, x'00') = 0 AND json_valid(${text(value)})
      THEN ${text(value)} END`;

function isBelow(k: string, keyPrefix: string): string {
  return `${k} >= ${hex(`${keyPrefix}/`)} AND ${k} < ${hex(`${keyPrefix}0`)}`;
}

/** See `DialectSql.views`. */
export function sqliteViews(keyPrefix: string): readonly string[] {
  const labels = `CASE WHEN json_type(object, '$.metadata.labels') = 'object'
      THEN json_extract(object, '$.metadata.labels') END AS labels`;
  const live = `SELECT c.k AS k, c.mod_revision AS revision, length(l.value) AS value_bytes, ${object('l.value')} AS object
    FROM switchyard_current c
    LEFT JOIN switchyard_log l ON l.mod_revision = c.mod_revision AND l.k = c.k
    WHERE ${isBelow('c.k', keyPrefix)}`;
  const all = `SELECT l.k AS k, l.mod_revision AS revision, l.tombstone = 1 AS deleted,
    length(l.value) AS value_bytes, ${object('l.value')} AS object
    FROM switchyard_log l
    WHERE ${isBelow('l.k', keyPrefix)}`;
  const liveColumns = [
    `json_extract(object, '$.metadata.uid') AS uid`,
    labels,
    'revision',
    `datetime(json_extract(object, '$.metadata.creationTimestamp')) AS created`,
    'value_bytes',
    'object',
  ];
  return [
    'DROP VIEW IF EXISTS switchyard_objects',
    `CREATE VIEW switchyard_objects AS ${withKeyColumns(live, liveColumns, keyPrefix)}`,
    'DROP VIEW IF EXISTS switchyard_history',
    `CREATE VIEW switchyard_history AS ${withKeyColumns(
      all,
      ['revision', 'deleted', 'value_bytes', 'object'],
      keyPrefix,
    )}`,
  ];
}
