// The placement records: one key for each placed type in the default store, `/switchyard/placements/<root>`. Used by
// placement.ts and `explain`.

import { prefixRange, type KeyRange } from '../etcd/range.ts';
import type { KeyValue, Revision } from '../etcd/types.ts';

const prefix = '/switchyard/placements/';

/** All records. */
export const recordsRange: KeyRange = prefixRange(Buffer.from(prefix));

/** Why a type was recorded where it is: by its rule, or because its objects were there already. */
export type PlacementReason = 'rule' | 'objects';

export interface PlacementRecord {
  readonly root: string;
  /** Name of a backend or `default`; undefined when the value cannot be read. */
  readonly store: string | undefined;
  /** Of the record in the default store. */
  readonly modRevision: Revision;
}

export function recordKey(root: string): Buffer {
  return Buffer.from(prefix + root, 'latin1');
}

export function recordValue(store: string, because: PlacementReason): Buffer {
  return Buffer.from(JSON.stringify({ store, because }));
}

/** The root that a record's key is about. */
export function recordRoot(key: Buffer): string {
  return key.toString('latin1', prefix.length);
}

export function parseRecord({ key, value, modRevision }: KeyValue): PlacementRecord {
  return { root: recordRoot(key), store: storeIn(value), modRevision };
}

function storeIn(value: Buffer): string | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value.toString('utf8'));
  } catch {
    return undefined;
  }
  const store =
    typeof parsed === 'object' && parsed !== null ? (parsed as { store?: unknown }).store : undefined;
  return typeof store === 'string' ? store : undefined;
}
