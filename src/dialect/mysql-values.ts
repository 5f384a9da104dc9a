// Values and answers of MySQL and MariaDB as mysql2 has them, to and from those of the seam. Used by mysql.ts.

import driverPackage from 'mysql2/promise';
import type { QueryResult, Row, SqlValue } from './dialect.ts';

// The package loads some of its exports when they are first used; only its default export has them all.
const { TypedParameter } = driverPackage;

/** What a request weighs beside its parameters and, for each of them, beside its bytes; generous. */
export const requestOverheadBytes = 1024;
const parameterOverheadBytes = 16;

const updating = /^\s*update\b/i;

/** Column types of the wire protocol that come back as bigint. */
const integerTypes = new Set([1, 2, 3, 8, 9, 13]);
const decimalTypes = new Set([0, 246]);

/** Of a column of an answer. */
export interface Field {
  readonly name: string;
  readonly columnType: number;
  readonly decimals: number;
}

/** By column, as mysql2 gives it. */
export type RawRow = Record<string, SqlValue>;

/** Integers of every width become bigint; decimals without a fraction (sums) too. */
export function convertRows(rows: RawRow[], fields: readonly Field[]): readonly Row[] {
  const names = fields
    .filter(
      (field) =>
        integerTypes.has(field.columnType) || (decimalTypes.has(field.columnType) && !field.decimals),
    )
    .map((field) => field.name);
  for (const row of rows) {
    for (const name of names) {
      const value = row[name];
      if (typeof value === 'string' || typeof value === 'number') row[name] = BigInt(value);
    }
  }
  return rows;
}

/** mysql2 would send a bigint as text and a number as a double, which compare wrongly beyond 2^53. */
export function toParameter(value: SqlValue): unknown {
  if (typeof value === 'bigint') return TypedParameter.LONGLONG(value);
  return typeof value === 'number' && Number.isSafeInteger(value) ? TypedParameter.LONGLONG(value) : value;
}

/** What a request with these parameters weighs, about; no less than it does. */
export function bytesOf(text: string, params: readonly SqlValue[]): number {
  let bytes = requestOverheadBytes + Buffer.byteLength(text);
  for (const param of params) {
    bytes += parameterOverheadBytes;
    if (Buffer.isBuffer(param)) bytes += param.length;
    else if (typeof param === 'string') bytes += Buffer.byteLength(param);
  }
  return bytes;
}

/** A value as it stands in a statement. Bytes are hexadecimal, whatever they are. */
export function literal(value: Exclude<SqlValue, null>): string {
  if (Buffer.isBuffer(value)) return `x'${value.toString('hex')}'`;
  return typeof value === 'bigint' ? String(value) : driverPackage.escape(value);
}

/** What is answered to a statement without rows. */
export interface Header {
  readonly affectedRows: number;
  readonly info: string;
}

/** Rows matched by an UPDATE stand first in the server's remark; affectedRows are those it really changed. */
export function toAffected(header: Header, text: string): number {
  if (!updating.test(text)) return header.affectedRows;
  const matched = /\d+/.exec(header.info);
  return matched ? Number(matched[0]) : header.affectedRows;
}

/** Rows that are not what they were: an UPDATE tells of those as well. */
export function toChanged(header: Header, text: string): number {
  const changed = updating.test(text) ? /Changed: (\d+)/.exec(header.info) : undefined;
  return changed ? Number(changed[1]) : header.affectedRows;
}

/** What one request of several statements gives: of each its rows or a header, and the fields of rows. */
export type Several = readonly [
  results: readonly (RawRow[] | Header)[],
  fields: readonly (readonly Field[] | undefined)[] | undefined,
];

/** The answer to one of several statements; a header has no rows. */
export function rowsOf(
  result: RawRow[] | Header | undefined,
  fields: readonly Field[] | undefined,
): QueryResult {
  if (!Array.isArray(result) || fields === undefined) return { rows: [], affected: 0 };
  return { rows: convertRows(result, fields), affected: 0 };
}
