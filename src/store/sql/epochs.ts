// What becomes of a store when a replica of its database takes over. Used by sql-store.ts. The first gateway there notes the revision
// that it finds, before anything else is written; so each can tell whether what it has told its clients is part of the history that
// goes on. If not, commits are lost: the revision is lifted above what was told, and compacted there, so that every watch
// lists anew. Invariant: no number that was told comes again with another meaning.

import type { Dialect, Enter, Epoch, Session } from '../../dialect/dialect.ts';
import type { Revision } from '../../etcd/types.ts';
import type { Logger } from '../../lib/log.ts';
import { updateCompactRevision } from './compactor.ts';
import { liftedAbove, metaStateOf } from './meta-state.ts';
import { int64 } from './row.ts';
import { writeStatements } from './statements.ts';

const columns = ['lineage', 'timeline', 'revision'];

const selectSince = {
  name: 'epoch.since',
  text: 'SELECT timeline, revision FROM switchyard_epoch WHERE lineage = ? AND timeline > ?',
};

export interface EpochsOptions {
  readonly dialect: Dialect;
  readonly logger: Logger;
  /** The highest revision that this gateway knows to have been told, or acts on. */
  readonly told: () => Revision;
}

/** What the driver is to do first on each server. */
export function createEnter({ dialect, logger, told }: EpochsOptions): Enter {
  const statements = writeStatements(dialect);
  const insert = {
    name: 'epoch.begin',
    text: dialect.sql.insertIgnore('switchyard_epoch', columns, '(?, ?, ?)'),
  };

  /** The lowest revision at which a history began that this gateway has not followed. */
  const begin = async (session: Session, epoch: Epoch, before: Epoch | undefined, revision: Revision) => {
    const after = before?.lineage === epoch.lineage ? before.timeline : 0n;
    const { rows } = await session.query(selectSince, [epoch.lineage, after]);
    const begun = rows.map((row) => int64(row, 'revision'));
    if (!rows.some((row) => int64(row, 'timeline') === epoch.timeline)) {
      await session.query(insert, [epoch.lineage, epoch.timeline, revision]);
      begun.push(revision);
    }
    return begun.reduce((a, b) => (a < b ? a : b));
  };

  return async (session, epoch, before) => {
    const { revision, compactRevision, last } = metaStateOf(await session.query(statements.lockMeta, []));
    const begun = await begin(session, epoch, before, revision);
    const seen = told();
    // Where another gateway has lifted it already, nothing of this one is missing either.
    if (seen <= begun || seen <= compactRevision) return;
    const lifted = liftedAbove(seen > revision ? seen : revision);
    await session.query(statements.updateMeta, [lifted, last.writer, last.batch]);
    await session.query(updateCompactRevision, [lifted]);
    logger.error('The database has lost commits; every watch starts anew', { seen, begun, lifted });
  };
}
