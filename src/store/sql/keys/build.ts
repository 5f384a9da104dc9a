// Building the key index from the database: all live keys by pages, each of its own moment, and then the log from the first
// page's moment on, which brings all of them to one. So no transaction stays open, a compaction or a writer
// is never held up, and a key that changes meanwhile is right in the end: its last change in the log decides.

import type { Revision } from '../../../etcd/types.ts';
import { safeNumber } from './block.ts';
import { LiveKeys } from './live-keys.ts';
import { readChanges, readKeys } from './reader.ts';
import type { Query } from '../statements.ts';

/** The live keys at a revision. */
export interface BuiltKeys {
  readonly keys: LiveKeys;
  readonly revision: Revision;
}

/**
 * Undefined when a compaction took away what it still needed, the database has lost commits meanwhile, or one revision was
 * too large to be read: try again.
 */
export async function buildKeys(query: Query): Promise<BuiltKeys | undefined> {
  const keys = new LiveKeys();
  let page = await readKeys(query, Buffer.alloc(0));
  const from = page.revision;
  let last: Buffer | undefined;
  for (;;) {
    // Under way while this one is taken in.
    const following = page.isLast ? undefined : readKeys(query, page.rows.at(-1)!.key);
    // Awaited below, unless a key cannot be taken in; that error is the one to tell.
    following?.catch(() => undefined);
    for (const row of page.rows) {
      keys.append(row.key, countersOf(row), last);
      last = row.key;
    }
    if (following === undefined) break;
    const next = await following;
    if (next.revision < page.revision) return undefined;
    page = next;
  }
  // Not below the last page's revision: before, the keys are of several moments.
  const wanted = page.revision;
  let revision = from;
  while (revision < wanted) {
    const changes = await readChanges(query, revision);
    const isLost = revision < changes.compactRevision - 1n || changes.revision < wanted;
    if (isLost || changes.through === undefined) return undefined;
    for (const row of changes.rows) {
      if (row.isDelete) keys.delete(row.key);
      else keys.put(row.key, countersOf(row));
    }
    revision = changes.through;
  }
  return { keys, revision };
}

function countersOf(row: {
  readonly createRevision: bigint;
  readonly modRevision: bigint;
  readonly version: bigint;
  readonly lease: bigint;
}) {
  return {
    createRevision: safeNumber(row.createRevision),
    modRevision: safeNumber(row.modRevision),
    version: safeNumber(row.version),
    lease: row.lease,
  };
}
