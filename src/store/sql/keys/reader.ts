// Reads what the key index is made of: pages of the live keys, and what the log has above a revision, both without values.
// Used by key-index.ts. Each is one statement and so one snapshot: the counters of the meta row and the rows belong to
// the same state.

import type { Row, Statement } from '../../../dialect/dialect.ts';
import type { Revision } from '../../../etcd/types.ts';
import { revisionsOf, type Revisions } from '../watch/log-reader.ts';
import { bytes, int64 } from '../row.ts';
import type { Query } from '../statements.ts';

/** Rows in one answer: so many are taken in within a few milliseconds. */
const pageRows = 500;
const changeRows = 1_000;
/** Changes of one revision; a larger one is not read. */
const revisionRowsMax = 8_192;

/** A live key. */
export interface KeyRow {
  readonly key: Buffer;
  readonly createRevision: bigint;
  readonly modRevision: bigint;
  readonly version: bigint;
  readonly lease: bigint;
}

/** What a revision did to a key. */
export interface ChangeRow extends KeyRow {
  readonly isDelete: boolean;
  /** The mod revision that the key had before; 0 = it was not there. */
  readonly previous: Revision;
}

/** Live keys in order, and the counters at that moment. */
export interface KeyPage extends Revisions {
  readonly rows: readonly KeyRow[];
  /** Whether there are none behind. */
  readonly isLast: boolean;
}

/** Changes in the order of their revisions, whole ones. */
export interface Changes extends Revisions {
  readonly rows: readonly ChangeRow[];
  /** All changes up to and with this revision are there; undefined: one revision has too many. */
  readonly through: Revision | undefined;
}

const meta = 'm.revision AS revision, m.compact_revision AS compact_revision';

/** Live keys behind a key, in order. Parameter: the key. */
const selectKeys: Statement = {
  name: 'index.keys',
  text:
    `SELECT ${meta}, c.k AS k, c.mod_revision AS mod_revision, c.create_revision AS create_revision,` +
    ' c.version AS version, c.lease AS lease FROM switchyard_meta m LEFT JOIN' +
    ' (SELECT k, mod_revision, create_revision, version, lease FROM switchyard_current' +
    ` WHERE k > ? ORDER BY k LIMIT ${pageRows}) c ON 1 = 1 WHERE m.id = 1`,
};

/** Rows of the log with after < mod_revision <= through, the lowest revisions first. Parameters: after, through. */
function selectChanges(limit: number): Statement {
  const columns = 'mod_revision, k, create_revision, version, lease, tombstone, prev_revision';
  return {
    name: 'index.changes',
    text:
      `SELECT ${meta}, l.k AS k, l.mod_revision AS mod_revision, l.create_revision AS create_revision,` +
      ' l.version AS version, l.lease AS lease, l.tombstone AS tombstone, l.prev_revision AS prev_revision' +
      ` FROM switchyard_meta m LEFT JOIN (SELECT ${columns} FROM switchyard_log` +
      ` WHERE mod_revision > ? AND mod_revision <= ? ORDER BY mod_revision LIMIT ${limit}) l ON 1 = 1` +
      ' WHERE m.id = 1',
  };
}

const changesOfMany = selectChanges(changeRows + 1);
const changesOfOne = selectChanges(revisionRowsMax + 1);

const keyRowOf = (row: Row): KeyRow => ({
  key: bytes(row, 'k'),
  createRevision: int64(row, 'create_revision'),
  modRevision: int64(row, 'mod_revision'),
  version: int64(row, 'version'),
  lease: int64(row, 'lease'),
});

const changeRowOf = (row: Row): ChangeRow => ({
  ...keyRowOf(row),
  isDelete: int64(row, 'tombstone') !== 0n,
  previous: int64(row, 'prev_revision'),
});

/** The live keys behind `after`; empty = from the first one. */
export async function readKeys(query: Query, after: Buffer): Promise<KeyPage> {
  const result = await query(selectKeys, [after]);
  const rows = result.rows.filter((row) => row['k'] !== null).map(keyRowOf);
  // Engines give the rows of a join in any order.
  rows.sort((a, b) => a.key.compare(b.key));
  return { ...revisionsOf(result), rows, isLast: rows.length < pageRows };
}

/** The changes above the revision `after`, some at a time. Whether a compaction took some away is for the caller to see. */
export async function readChanges(query: Query, after: Revision): Promise<Changes> {
  const result = await query(changesOfMany, [after, 2n ** 63n - 1n]);
  const revisions = revisionsOf(result);
  const rows = changeRowsOf(result.rows);
  if (rows.length <= changeRows) return { ...revisions, rows, through: revisions.revision };
  const cut = rows.at(-1)!.modRevision;
  const whole = rows.filter(({ modRevision }) => modRevision < cut);
  if (whole.length > 0) return { ...revisions, rows: whole, through: cut - 1n };
  return await readRevision(query, cut);
}

async function readRevision(query: Query, revision: Revision): Promise<Changes> {
  const result = await query(changesOfOne, [revision - 1n, revision]);
  const rows = changeRowsOf(result.rows);
  const isWhole = rows.length <= revisionRowsMax;
  return { ...revisionsOf(result), rows: isWhole ? rows : [], through: isWhole ? revision : undefined };
}

function changeRowsOf(rows: readonly Row[]): ChangeRow[] {
  return rows
    .filter((row) => row['k'] !== null)
    .map(changeRowOf)
    .toSorted((a, b) => Number(a.modRevision - b.modRevision));
}
