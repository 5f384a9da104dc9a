// The views for people on Postgres, with the functions behind them. Used by postgres.ts. Casts of what is not text or not JSON are errors
// there, so they are done in functions that catch them. A value is read once for all columns made of it: subqueries with an OFFSET stay as
// they are.

const functions: readonly string[] = [
  `CREATE OR REPLACE FUNCTION switchyard_text(value bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
    BEGIN
      RETURN convert_from(value, 'UTF8');
    EXCEPTION WHEN OTHERS THEN
      RETURN encode(value, 'escape');
    END $$`,
  // jsonb has no U+0000, which JSON writes as an escape: U+FFFD stands for it. Escaped backslashes are set aside meanwhile, as a character
  // that is nowhere in JSON.
  String.raw`CREATE OR REPLACE FUNCTION switchyard_json(value bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
    DECLARE
      t text;
    BEGIN
      t := convert_from(value, 'UTF8');
      IF strpos(t, E'\\u0000') > 0 THEN
        IF strpos(t, chr(1)) > 0 THEN
          RETURN NULL;
        END IF;
        t := replace(replace(replace(t, E'\\\\', chr(1)), E'\\u0000', E'\\ufffd'), chr(1), E'\\\\');
      END IF;
      RETURN t::jsonb;
    EXCEPTION WHEN OTHERS THEN
      RETURN NULL;
    END $$`,
  `CREATE OR REPLACE FUNCTION switchyard_time(value text) RETURNS timestamptz LANGUAGE plpgsql STABLE STRICT AS $$
    BEGIN
      RETURN value::timestamptz;
    EXCEPTION WHEN OTHERS THEN
      RETURN NULL;
    END $$`,
];

const bytesOf = (text: string) => `decode('${Buffer.from(text).toString('hex')}', 'hex')`;

/** `parts`: the segments of the key below the prefix; a group in front of them is `api_group`. */
function keyParts(k: string, keyPrefix: string): string {
  const below = `substr(${k}, ${Buffer.byteLength(keyPrefix) + 2})`;
  // What has no escapes in it is plain text; a call for each row is not for nothing.
  const text = `CASE WHEN strpos(encode(${below}, 'escape'), chr(92)) = 0 THEN encode(${below}, 'escape')
      ELSE switchyard_text(${below}) END`;
  return `LATERAL (SELECT CASE WHEN strpos(t.parts[1], '.') > 0 THEN t.parts[1] END AS api_group,
      CASE WHEN strpos(t.parts[1], '.') > 0 THEN t.parts[2:] ELSE t.parts END AS parts
      FROM (SELECT string_to_array(${text}, '/') AS parts OFFSET 0) t OFFSET 0) p`;
}

const keyColumns = (k: string) => `${k} AS k,
    p.api_group AS api_group,
    array_to_string(p.parts[1:greatest(1, cardinality(p.parts) - 2)], '/') AS type,
    CASE WHEN cardinality(p.parts) > 2 THEN p.parts[cardinality(p.parts) - 1] END AS namespace,
    CASE WHEN cardinality(p.parts) > 1 THEN p.parts[cardinality(p.parts)] END AS name`;

const object = (value: string) => `LATERAL (SELECT
      CASE WHEN substr(${value}, 1, 1) = ${bytesOf('{')} THEN switchyard_json(${value}) END AS object OFFSET 0) j`;

function isBelow(k: string, keyPrefix: string): string {
  return `${k} >= ${bytesOf(`${keyPrefix}/`)} AND ${k} < ${bytesOf(`${keyPrefix}0`)}`;
}

/** See `DialectSql.views`. */
export function postgresViews(keyPrefix: string): readonly string[] {
  return [
    ...functions,
    `CREATE OR REPLACE VIEW switchyard_objects AS SELECT ${keyColumns('c.k')},
    j.object #>> '{metadata,uid}' AS uid,
    CASE WHEN jsonb_typeof(j.object #> '{metadata,labels}') = 'object' THEN j.object #> '{metadata,labels}' END AS labels,
    c.mod_revision AS revision,
    switchyard_time(j.object #>> '{metadata,creationTimestamp}') AS created,
    octet_length(l.value) AS value_bytes,
    j.object AS object
    FROM switchyard_current c
    LEFT JOIN switchyard_log l ON l.mod_revision = c.mod_revision AND l.k = c.k
    CROSS JOIN ${keyParts('c.k', keyPrefix)}
    LEFT JOIN ${object('l.value')} ON true
    WHERE ${isBelow('c.k', keyPrefix)}`,
    `CREATE OR REPLACE VIEW switchyard_history AS SELECT ${keyColumns('l.k')},
    l.mod_revision AS revision,
    l.tombstone = 1 AS deleted,
    octet_length(l.value) AS value_bytes,
    j.object AS object
    FROM switchyard_log l
    CROSS JOIN ${keyParts('l.k', keyPrefix)}
    LEFT JOIN ${object('l.value')} ON true
    WHERE ${isBelow('l.k', keyPrefix)}`,
  ];
}
