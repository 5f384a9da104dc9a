// The views for people on MySQL and MariaDB. Used by mysql.ts. Everything stands in the columns themselves: a view without a subquery is
// merged into the query, which can then use the key. They run with the rights of who asks, so that they outlive the account that has
// created them.

const hex = (text: string) => `x'${Buffer.from(text).toString('hex')}'`;
const asText = (bytes: string) => `CONVERT(${bytes} USING utf8mb4) COLLATE utf8mb4_bin`;
const slashesIn = (bytes: string) => `(LENGTH(${bytes}) - LENGTH(REPLACE(${bytes}, '/', '')))`;

function keyColumns(k: string, keyPrefix: string): string {
  const below = `SUBSTRING(${k}, ${Buffer.byteLength(keyPrefix) + 2})`;
  const first = `SUBSTRING_INDEX(${below}, '/', 1)`;
  const hasGroup = `LOCATE('.', ${first}) > 0`;
  const rest = `IF(${hasGroup}, SUBSTRING(${below}, LENGTH(${first}) + 2), ${below})`;
  const slashes = slashesIn(rest);
  const namespace = `SUBSTRING_INDEX(SUBSTRING_INDEX(${rest}, '/', -2), '/', 1)`;
  return `${k} AS k,
    CASE WHEN ${hasGroup} THEN ${asText(first)} END AS api_group,
    ${asText(`SUBSTRING_INDEX(${rest}, '/', GREATEST(1, ${slashes} - 1))`)} AS type,
    CASE WHEN ${slashes} > 1 THEN ${asText(namespace)} END AS namespace,
    CASE WHEN ${slashes} > 0 THEN ${asText(`SUBSTRING_INDEX(${rest}, '/', -1)`)} END AS name`;
}

const text = (value: string) => `CONVERT(${value} USING utf8mb4)`;
const isObject = (value: string) => `LEFT(${value}, 1) = '{' AND JSON_VALID(${text(value)})`;

/** What `expression` gives where the value is a JSON object. */
const whereObject = (value: string, expression: string) =>
  `CASE WHEN ${isObject(value)} THEN ${expression} END`;

const at = (value: string, path: string) => `JSON_EXTRACT(${text(value)}, '${path}')`;

function isBelow(k: string, keyPrefix: string): string {
  return `${k} >= ${hex(`${keyPrefix}/`)} AND ${k} < ${hex(`${keyPrefix}0`)}`;
}

const create = 'CREATE OR REPLACE ALGORITHM = MERGE SQL SECURITY INVOKER VIEW';

/** See `DialectSql.views`. */
export function mysqlViews(keyPrefix: string): readonly string[] {
  const value = 'l.value';
  const uid = `JSON_UNQUOTE(${at(value, '$.metadata.uid')})`;
  const labels = at(value, '$.metadata.labels');
  const created = `STR_TO_DATE(JSON_UNQUOTE(${at(value, '$.metadata.creationTimestamp')}), '%Y-%m-%dT%H:%i:%sZ')`;
  const object = `${whereObject(value, `${text(value)} COLLATE utf8mb4_bin`)} AS object`;
  return [
    `${create} switchyard_objects AS SELECT ${keyColumns('c.k', keyPrefix)},
    ${whereObject(value, uid)} AS uid,
    CASE WHEN ${isObject(value)} AND JSON_TYPE(${labels}) = 'OBJECT' THEN ${labels} END AS labels,
    c.mod_revision AS revision,
    ${whereObject(value, created)} AS created,
    LENGTH(${value}) AS value_bytes,
    ${object}
    FROM switchyard_current c
    LEFT JOIN switchyard_log l ON l.mod_revision = c.mod_revision AND l.k = c.k
    WHERE ${isBelow('c.k', keyPrefix)}`,
    `${create} switchyard_history AS SELECT ${keyColumns('l.k', keyPrefix)},
    l.mod_revision AS revision,
    l.tombstone = 1 AS deleted,
    LENGTH(${value}) AS value_bytes,
    ${object}
    FROM switchyard_log l
    WHERE ${isBelow('l.k', keyPrefix)}`,
  ];
}
