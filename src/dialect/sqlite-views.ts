// The views for people on SQLite. Used by sqlite.ts. JSON functions take bytes for SQLite's own form of JSON, so values are cast to text first;
// what a cast or a function cannot read is NULL, never an error.

const hex = (text: string) => `x'${Buffer.from(text).toString('hex')}'`;

/** `text` up to and with its last slash. */
const upToSlash = (text: string) => `rtrim(${text}, replace(${text}, '/', ''))`;
const withoutLast = (text: string) => `substr(${text}, 1, length(${text}) - 1)`;

/** The columns of the key of `rows`, and those named in `others`; `rows` has a column k. */
function withKeyColumns(rows: string, others: readonly string[], keyPrefix: string): string {
  const pass = others.join(', ');
  const below = `CAST(substr(k, ${Buffer.byteLength(keyPrefix) + 2}) AS TEXT)`;
  const dot = `instr(below, '.')`;
  const slash = `instr(below || '/', '/')`;
  const hasGroup = `${dot} BETWEEN 1 AND ${slash}`;
  // below: group/type/namespace/name; rest: the same without group; head: the rest up to its last slash; body: without that slash;
  // front: the body up to its last slash.
  return `SELECT k, api_group,
    CASE WHEN front = '' THEN body ELSE ${withoutLast('front')} END AS type,
    CASE WHEN front <> '' THEN substr(body, length(front) + 1) END AS namespace,
    CASE WHEN head <> '' THEN substr(rest, length(head) + 1) END AS name,
    ${pass}
    FROM (SELECT *, ${upToSlash('body')} AS front
    FROM (SELECT *, CASE WHEN head = '' THEN rest ELSE ${withoutLast('head')} END AS body
    FROM (SELECT *, ${upToSlash('rest')} AS head
    FROM (SELECT *,
      CASE WHEN ${hasGroup} THEN substr(below, 1, ${slash} - 1) END AS api_group,
      CASE WHEN ${hasGroup} THEN substr(below, ${slash} + 1) ELSE below END AS rest
    FROM (SELECT *, ${below} AS below FROM (${rows})))))) `;
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
