// From rows of the database to etcd's pairs. Used by everything in store/sql that reads. Column names are those of
// schema.ts; a missing or NULL number reads as 0, missing bytes as empty, but a value that is NULL is an error.

import { SqlFault, type Row } from '../../dialect/dialect.ts';
import type { KeyValue } from '../../etcd/types.ts';

const noBytes = Buffer.alloc(0);

/** The 64-bit column `name`. */
export function int64(row: Row, name: string): bigint {
  const value = row[name];
  if (typeof value === 'bigint') return value;
  return value === null || value === undefined ? 0n : BigInt(Number(value));
}

/** The binary column `name`. */
export function bytes(row: Row, name: string): Buffer {
  const value = row[name];
  return Buffer.isBuffer(value) ? value : noBytes;
}

/** The log has no row for a live pair: somebody else has changed the tables, or restored them in part. */
export function lostValue({ key, modRevision }: Pick<KeyValue, 'key' | 'modRevision'>): SqlFault {
  const name = JSON.stringify(key.toString());
  return new SqlFault(
    'other',
    `Expected the value of a pair in the log, got none: ${name} at ${modRevision}`,
  );
}

/**
 * The pair in columns k, create_revision, mod_revision, version, lease and, where selected, value.
 * @throws SqlFault when the value was selected and is lost.
 */
export function keyValueOf(row: Row): KeyValue {
  if (row['value'] === null)
    throw lostValue({ key: bytes(row, 'k'), modRevision: int64(row, 'mod_revision') });
  return {
    key: bytes(row, 'k'),
    createRevision: int64(row, 'create_revision'),
    modRevision: int64(row, 'mod_revision'),
    version: int64(row, 'version'),
    value: bytes(row, 'value'),
    lease: int64(row, 'lease'),
  };
}
