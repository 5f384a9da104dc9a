// HashKV: the checksum of the store's history up to a revision, made as etcd makes it (server/storage/mvcc/hash.go of 3.6):
// CRC-32C of the name of etcd's bucket and then, in revision order, each revision's bucket key and its pair. What an etcd and a
// store of ours hold after the same writes therefore has the same hash. Read in bounded chunks, which may come from different
// moments: nothing at or below a revision changes but by compaction, so each chunk looks whether there was one.
// Used by sql-store.ts.

import type { QueryResult, Row } from '../../dialect/dialect.ts';
import { writeKeyValue } from '../../etcd/codec/message.ts';
import { EtcdError } from '../../etcd/errors.ts';
import type { Revision } from '../../etcd/types.ts';
import { encode } from '../../etcd/wire.ts';
import { crc32c } from '../../lib/crc32c.ts';
import { revisionsOf, type Revisions } from './log-reader.ts';
import { selectHistory, selectRevisions } from './log-statements.ts';
import { bytes, int64 } from './row.ts';
import type { Query } from './statements.ts';

/** Bytes of one chunk, about: the number of rows follows the size of the rows before. */
const chunkBytes = 4 * 1024 * 1024;
const chunkRowsFirst = 64;
const chunkRowsMax = 4_096;
/** For a single revision that is read wholly, whatever its size. */
const unlimitedRows = 2_147_483_647;
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

/** Undefined: a compaction overtook it. */
async function hashHistory(query: Query, history: History): Promise<number | undefined> {
  const hasher = new Hasher(history);
  let after = 0n;
  let rowsMax = chunkRowsFirst;
  while (after < history.through) {
    const chunk = await readChunk(query, { after, through: history.through, rowsMax });
    if (chunk.compactRevision !== history.compactRevision) return undefined;
    let size = 0;
    for (const row of chunk.rows) size += hasher.add(row);
    after = chunk.through;
    rowsMax = Math.min(chunkRowsMax, Math.max(1, Math.floor((chunkBytes * chunk.rows.length) / (size || 1))));
  }
  return hasher.hash;
}

interface Chunk {
  /** Whole revisions, in (revision, sub) order. */
  readonly rows: readonly Row[];
  /** Nothing is missing up to here. */
  readonly through: Revision;
  readonly compactRevision: Revision;
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
  const { compactRevision, rows } = historyOf(await query(selectHistory(limit), [after, through]));
  if (rows.length < limit) return { rows, through, compactRevision };
  // The last revision may go on beyond the limit.
  const last = int64(rows.at(-1)!, 'mod_revision');
  const whole = rows.filter((row) => int64(row, 'mod_revision') < last);
  if (whole.length > 0) return { rows: whole, through: last - 1n, compactRevision };
  return { through: last, ...historyOf(await query(selectHistory(unlimitedRows), [last - 1n, last])) };
}

function historyOf(result: QueryResult): Revisions & { readonly rows: readonly Row[] } {
  const rows = result.rows.filter((row) => row['mod_revision'] !== null).toSorted(compareRows);
  return { ...revisionsOf(result), rows };
}

function compareRows(a: Row, b: Row): number {
  const difference = int64(a, 'mod_revision') - int64(b, 'mod_revision') || int64(a, 'sub') - int64(b, 'sub');
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
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
  /** The hash for the case that nothing is live; of no use once something is. */
  #hashOfLeft = this.#hash;
  #isAnyLive = false;

  constructor(history: History) {
    this.#history = history;
  }

  get hash(): number {
    return this.#isAnyLive ? this.#hash : this.#hashOfLeft;
  }

  /** The bytes of `row`, about. */
  add(row: Row): number {
    const { through, compactRevision } = this.#history;
    const isTombstone = int64(row, 'tombstone') !== 0n;
    const next = row['next_revision'] === null ? undefined : int64(row, 'next_revision');
    const isLiveAt = (revision: Revision) => !isTombstone && (next === undefined || next > revision);
    const isAbove = int64(row, 'mod_revision') > compactRevision;
    const isLive = isLiveAt(through);
    if (isLive) this.#isAnyLive = true;
    const counts = isAbove || isLive;
    const isLeft = !this.#isAnyLive && (isAbove || isLiveAt(compactRevision));
    const entry = counts || isLeft ? entryOf(row, isTombstone) : undefined;
    if (counts && entry) this.#hash = crc32c(entry, this.#hash);
    if (isLeft && entry) this.#hashOfLeft = crc32c(entry, this.#hashOfLeft);
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
