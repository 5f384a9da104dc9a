// HashKV: the checksum of the store's history up to a revision, made as etcd makes it (server/storage/mvcc/hash.go of 3.6):
// CRC-32C of the name of etcd's bucket and then, in revision order, each revision's bucket key and its pair. What an etcd and a
// store of ours hold after the same writes therefore has the same hash. Read in bounded chunks, which may come from different
// moments: nothing at or below a revision changes but by compaction, so each chunk looks whether there was one.
// Used by sql-store.ts.

import type { Row } from '../../../dialect/dialect.ts';
import { writeKeyValue } from '../../../etcd/codec/message.ts';
import { EtcdError } from '../../../etcd/errors.ts';
import type { Revision } from '../../../etcd/types.ts';
import { encode } from '../../../etcd/wire.ts';
import { crc32c } from '../../../lib/crc32c.ts';
import { revisionsOf, rowsInOrder, unlimitedRows, type Revisions } from '../watch/log-reader.ts';
import { selectHistory, selectRevisions } from '../watch/log-statements.ts';
import { bytes, int64 } from '../row.ts';
import type { Query } from '../statements.ts';

/** Bytes of one chunk, about: the number of rows follows the size of the rows before. */
const chunkBytes = 4 * 1024 * 1024;
const chunkRowsFirst = 64;
/** Large values may follow small ones, and then so many of them are held at once. */
const chunkRowsMax = 512;
/** Starts again when a compaction overtakes it; clients compact every few minutes. */
const attemptsMax = 5;
/** What etcd answers as its compact revision before the first compaction. */
const neverCompacted = -1n;
const rowOverheadBytes = 64;

export interface KvHash {
  readonly hash: number;
  /** -1 = never compacted. */
  readonly compactRevision: Revision;
  /** What was hashed. */
  readonly hashRevision: Revision;
  /** The store's. */
  readonly revision: Revision;
}

/** Hashes up to and with `asked`, 0 = now. @throws EtcdError compacted, futureRevision; timeout when overtaken too often. */
export async function hashKv(query: Query, asked: Revision): Promise<KvHash> {
  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    const { revision, compactRevision } = revisionsOf(await query(selectRevisions, []));
    if (asked > 0n && asked < compactRevision) throw new EtcdError('compacted', { compactRevision });
    if (asked > revision) throw new EtcdError('futureRevision');
    const hashRevision = asked === 0n ? revision : asked;
    const hash = await hashHistory(query, { through: hashRevision, compactRevision });
    if (hash === undefined) continue;
    return { hash, compactRevision: compactRevision || neverCompacted, hashRevision, revision };
  }
  throw new EtcdError('timeout', { cause: new Error('compactions overtook the hash too often') });
}

/** Undefined: a compaction overtook it, or the database has gone back to an earlier state. */
async function hashHistory(query: Query, history: History): Promise<number | undefined> {
  const hasher = new Hasher(history);
  let after = 0n;
  let rowsMax = chunkRowsFirst;
  while (after < history.through) {
    const chunk = await readChunk(query, { after, through: history.through, rowsMax });
    if (chunk.compactRevision !== history.compactRevision || chunk.revision < history.through)
      return undefined;
    let size = 0;
    for (const row of chunk.rows) size += hasher.add(row);
    after = chunk.through;
    rowsMax = Math.min(chunkRowsMax, Math.max(1, Math.floor((chunkBytes * chunk.rows.length) / (size || 1))));
  }
  return hasher.hash;
}

interface Chunk extends Revisions {
  /** Whole revisions, in (revision, sub) order. */
  readonly rows: readonly Row[];
  /** Nothing is missing up to here. */
  readonly through: Revision;
}

async function readChunk(
  query: Query,
  {
    after,
    through,
    rowsMax,
  }: { readonly after: Revision; readonly through: Revision; readonly rowsMax: number },
): Promise<Chunk> {
  // A power of two, so that few distinct statements exist.
  const limit = 2 ** Math.floor(Math.log2(rowsMax));
  const read = async (rowsLimit: number, range: readonly [Revision, Revision]) => {
    const result = await query(selectHistory(rowsLimit), range);
    return { ...revisionsOf(result), rows: rowsInOrder(result) };
  };
  const chunk = await read(limit, [after, through]);
  const { rows } = chunk;
  if (rows.length < limit) return { ...chunk, through };
  // The last revision may go on beyond the limit.
  const last = int64(rows.at(-1)!, 'mod_revision');
  const whole = rows.filter((row) => int64(row, 'mod_revision') < last);
  if (whole.length > 0) return { ...chunk, rows: whole, through: last - 1n };
  return { ...(await read(unlimitedRows, [last - 1n, last])), through: last };
}

interface History {
  readonly through: Revision;
  readonly compactRevision: Revision;
}

/**
 * Takes the rows in order. Above the compact revision all count. At or below it etcd counts the pairs that are live at the
 * revision asked for; if no pair at all is live there, it counts whatever the compaction has left.
 */
class Hasher {
  readonly #history: History;
  #hash = crc32c(Buffer.from('key'));
  /** The hash for the case that nothing is live; absent = the same. */
  #hashOfLeft: number | undefined;
  /** Keys that are live after the rows so far. */
  #liveKeys = 0;

  constructor(history: History) {
    this.#history = history;
  }

  get hash(): number {
    return this.#liveKeys > 0 ? this.#hash : (this.#hashOfLeft ?? this.#hash);
  }

  /** The bytes of `row`, about. */
  add(row: Row): number {
    const { through, compactRevision } = this.#history;
    const isTombstone = int64(row, 'tombstone') !== 0n;
    const isNew = int64(row, 'prev_revision') === 0n;
    const isAbove = int64(row, 'mod_revision') > compactRevision;
    const next = row['next_revision'] === null ? undefined : int64(row, 'next_revision');
    const isLiveAt = (revision: Revision) => !isTombstone && (next === undefined || next > revision);
    const isLeft = isAbove || isLiveAt(compactRevision);
    const isKept = isAbove || isLiveAt(through);
    if (isAbove) this.#liveKeys += isTombstone ? -1 : isNew ? 1 : 0;
    else if (isLeft) this.#liveKeys++;
    if (isLeft) {
      const entry = entryOf(row, isTombstone);
      if (!isKept) this.#hashOfLeft ??= this.#hash;
      if (this.#hashOfLeft !== undefined) this.#hashOfLeft = crc32c(entry, this.#hashOfLeft);
      if (isKept) this.#hash = crc32c(entry, this.#hash);
    }
    return bytes(row, 'k').length + bytes(row, 'value').length + rowOverheadBytes;
  }
}

/** The key and the value that etcd's bucket has for `row`: the revision, marked where it is a deletion, and the pair. */
function entryOf(row: Row, isTombstone: boolean): Buffer {
  const revision = Buffer.alloc(17);
  revision.writeBigInt64BE(int64(row, 'mod_revision'));
  revision.write('_', 8);
  revision.writeBigInt64BE(int64(row, 'sub'), 9);
  const none = Buffer.alloc(0);
  const pair = {
    key: bytes(row, 'k'),
    createRevision: isTombstone ? 0n : int64(row, 'create_revision'),
    modRevision: isTombstone ? 0n : int64(row, 'mod_revision'),
    version: isTombstone ? 0n : int64(row, 'version'),
    value: isTombstone ? none : bytes(row, 'value'),
    lease: isTombstone ? 0n : int64(row, 'lease'),
  };
  const size = pair.key.length + pair.value.length + rowOverheadBytes;
  return Buffer.concat([revision, isTombstone ? Buffer.from('t') : none, encode(pair, writeKeyValue, size)]);
}
