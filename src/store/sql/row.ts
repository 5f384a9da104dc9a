// From rows of the database to etcd's pairs. Used by everything in store/sql that reads. Column names are those of
// schema.ts; a missing or NULL number reads as 0, missing bytes as empty.

import type { Row } from '../../dialect/dialect.ts';
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

/** The pair in columns k, create_revision, mod_revision, version, lease and, where selected, value. */
export function keyValueOf(row: Row): KeyValue {
  return {
    key: bytes(row, 'k'),
    createRevision: int64(row, 'create_revision'),
    modRevision: int64(row, 'mod_revision'),
    version: int64(row, 'version'),
    value: bytes(row, 'value'),
    lease: int64(row, 'lease'),
  };
}
