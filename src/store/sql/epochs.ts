// What becomes of a store when a replica of its database takes over. Used by sql-store.ts. The first gateway there notes the revision
// that it finds, before anything else is written; so each can tell whether what it has told its clients is part of the history that
// goes on. If not, commits are lost: the revision is lifted above what was told, and compacted there, so that every watch
// lists anew. Invariant: no number that was told comes again with another meaning.

import type { Dialect, Enter, Epoch, Session } from '../../dialect/dialect.ts';
import type { Revision } from '../../etcd/types.ts';
import type { Logger } from '../../lib/log.ts';
import { updateCompactRevision } from './compactor.ts';
import { liftedAbove, metaStateOf } from './write/meta-state.ts';
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

/** A timeline and the revision that was found where it began. */
interface Begun {
  readonly timeline: bigint;
  readonly revision: Revision;
}

/** The lowest revision at which one of them began; the revisions above it may be others than before. */
function lowestOf(histories: readonly Begun[]): Revision {
  return histories.map(({ revision }) => revision).reduce((a, b) => (a < b ? a : b));
}

/** What the driver is to do first on each server. */
export function createEnter({ dialect, logger, told }: EpochsOptions): Enter {
  const statements = writeStatements(dialect);
  const insert = {
    name: 'epoch.begin',
    text: dialect.sql.insertIgnore('switchyard_epoch', columns, '(?, ?, ?)'),
  };

  /** The histories that have begun since `before`, as far as they are noted. */
  const begunSince = async (session: Session, epoch: Epoch, before: Epoch | undefined) => {
    const after = before?.lineage === epoch.lineage ? before.timeline : 0n;
    const { rows } = await session.query(selectSince, [epoch.lineage, after]);
    return rows.map((row) => ({ timeline: int64(row, 'timeline'), revision: int64(row, 'revision') }));
  };

  return async (session, epoch, before) => {
    const isNoted = (histories: readonly Begun[]) =>
      histories.some(({ timeline }) => timeline === epoch.timeline);
    const noted = await begunSince(session, epoch, before);
    // What is noted stays so: nothing is missing, and a database that takes no writes now can be read.
    if (isNoted(noted) && told() <= lowestOf(noted)) return;
    const { revision, compactRevision, last } = metaStateOf(await session.query(statements.lockMeta, []));
    const histories: Begun[] = await begunSince(session, epoch, before);
    if (!isNoted(histories)) {
      await session.query(insert, [epoch.lineage, epoch.timeline, revision]);
      histories.push({ timeline: epoch.timeline, revision });
    }
    const begun = lowestOf(histories);
    const seen = told();
    // What is compacted further on (as where another gateway has lifted it already) is read anew by all who know it.
    if (seen <= begun || seen < compactRevision - 1n) return;
    const lifted = liftedAbove(seen > revision ? seen : revision);
    await session.query(statements.updateMeta, [lifted, last.writer, last.batch]);
    await session.query(updateCompactRevision, [lifted]);
    logger.error('The database has lost commits; every watch starts anew', { seen, begun, lifted });
  };
}
