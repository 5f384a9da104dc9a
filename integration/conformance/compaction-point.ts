// Compaction as tests need it wherever their keys are: at a point in time that they have marked. Where the keys are only a part
// of the server, Compact speaks of another timeline than theirs, so the point is marked as kube-apiserver marks it, with a txn
// on `compact_rev_key`.

import { waitFor } from '../servers/index.ts';
import type { Revision } from '../../src/etcd/types.ts';
import { op, when } from './requests.ts';
import type { Scene } from './scene.ts';

/** The key that kube-apiserver's compactors take turns on; without a prefix, so one for the whole server. */
export const compactRevisionKey = 'compact_rev_key';
/** Where switchyard keeps what it noted; nobody else has such a key. */
const notesKey = '/switchyard/compaction-notes';

/** One turn of a compactor that remembers `version` and `revision`. */
export function compactorTurn(on: Scene, version: bigint, revision: Revision) {
  return on.client.txn({
    compare: [when(compactRevisionKey, 'version', '=', version)],
    success: [op.put(compactRevisionKey, String(revision))],
    failure: [op.range(compactRevisionKey)],
  });
}

/** Resolves when a Compact at `revision` means the same point in time for the keys of the test. */
export async function noted(on: Scene, revision: Revision): Promise<void> {
  if (!on.isPart) return;
  const isNoted = async () => {
    const [kv] = (await on.client.range(notesKey)).kvs;
    return kv?.value.toString().includes(`"revision":"${revision}"`);
  };
  await waitFor(isNoted, { what: `a note of revision ${revision}` });
}

/** Marks where the keys of the test are now. The function answered compacts there, whatever has come since. */
export async function compactionPoint(on: Scene, mode: 'logical' | 'physical' = 'logical') {
  let { revision } = (await on.client.range(on.prefix, { countOnly: true })).header;
  if (on.isPart) {
    const [kv] = (await on.client.range(compactRevisionKey)).kvs;
    const turn = await compactorTurn(on, kv?.version ?? 0n, revision);
    revision = turn.header.revision;
    await noted(on, revision);
  }
  return () => on.client.compact(revision, mode);
}
