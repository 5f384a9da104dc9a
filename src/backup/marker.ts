// What stands in a store while a backup is restored into it, so that a restore that did not end can be told, and run again.

import type { KeyValue } from '../etcd/types.ts';

/** What all keys of switchyard itself begin with. They are in no backup. */
export const ownKeys = Buffer.from('/switchyard/');

/** Its value is the id of the backup. */
export const markerKey = Buffer.from('/switchyard/restore');

/** The id of the backup. */
export function markerOf({ value }: KeyValue): string {
  return value.toString('utf8');
}
