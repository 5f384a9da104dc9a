// What the meta row says of the store's state, and of the write that left it so. Used by batch-writer.ts, committer.ts and epochs.ts.

import { SqlFault, type QueryResult } from '../../../dialect/dialect.ts';
import type { Revision } from '../../../etcd/types.ts';
import { checkFormat } from '../schema/format.ts';
import { int64 } from '../row.ts';

/** Who wrote last, as the meta row names it. */
export interface WriteName {
  /** Positive where the write took a revision, else the same number negative. */
  readonly writer: bigint;
  readonly batch: bigint;
}

/** What the meta row says. No two writes leave it with the same name. */
export interface MetaState {
  readonly revision: Revision;
  readonly last: WriteName;
}

/** The row that a statement on meta gave. @throws SqlFault when there is none, or one of a later program. */
export function metaStateOf({ rows }: QueryResult): MetaState & { readonly compactRevision: Revision } {
  const row = rows[0];
  if (row === undefined) throw new SqlFault('other', 'Expected one row in switchyard_meta, got none');
  checkFormat(row);
  return {
    revision: int64(row, 'revision'),
    compactRevision: int64(row, 'compact_revision'),
    last: { writer: int64(row, 'writer'), batch: int64(row, 'batch') },
  };
}

export function isSame(a: WriteName, b: WriteName): boolean {
  return a.writer === b.writer && a.batch === b.batch;
}

/** Other gateways may have seen later revisions than the one that lifts, but not so many. */
const liftBy = 1_000_000n;

/** A revision that nobody has seen, where one gateway has seen `seen` and the database has lost it. */
export const liftedAbove = (seen: Revision): Revision => seen + liftBy;
