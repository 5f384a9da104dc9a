// What clients asked while things failed, and what they were told: the material of checks.ts.

import type { Event, KeyValue, LeaseId, Revision } from '../../src/etcd/types.ts';
import type { RecordedWatch } from '../guarantees/recording.ts';

/** One key of a write: its new value, or its deletion. */
export interface Change {
  readonly key: string;
  /** Unique in its history; undefined = deletion. */
  readonly value: string | undefined;
  /** What it is attached to; absent: nothing. */
  readonly lease?: LeaseId;
}

export type Ask =
  | {
      readonly do: 'write';
      /** In this order, of different keys. */
      readonly changes: readonly Change[];
      /** Only if the first key was last changed at this revision (0 = is not there); absent: in any case. */
      readonly expected?: Revision;
    }
  | {
      readonly do: 'read';
      /** Absent: all keys. */
      readonly key?: string;
      /** 0 = the latest. */
      readonly revision: Revision;
      /** Of a page: so many pairs at most. */
      readonly limit?: number;
    };

export type Answer =
  | { readonly type: 'wrote'; readonly revision: Revision }
  /** The compare failed; `found` is the first key as it was. */
  | { readonly type: 'refused'; readonly revision: Revision; readonly found: KeyValue | undefined }
  /** `revision` is the header's, also for a read of the past; `count`: with those behind the page. */
  | {
      readonly type: 'read';
      readonly revision: Revision;
      readonly pairs: readonly KeyValue[];
      readonly count: number;
    }
  /** The past that was asked for is said to be gone. */
  | { readonly type: 'compacted' }
  /** An error that says that nothing was done. */
  | { readonly type: 'rejected'; readonly error: string }
  /** Any other error: done or not done, at any time from its beginning on. */
  | { readonly type: 'unknown'; readonly error: string };

/** One call. Times in ms, of one clock for all clients. */
export interface Operation {
  readonly client: number;
  readonly gateway: number;
  readonly began: number;
  readonly ended: number;
  readonly ask: Ask;
  readonly answer: Answer;
}

/** The events that somebody was told, in the order in which they came. */
export interface Telling {
  /** For messages: `gateway 1, a new watch`. */
  readonly by: string;
  readonly events: readonly Event[];
}

/** Everything about one run, on keys that nobody else writes, in a store that has no others. */
export interface FaultHistory {
  /** Of the store before the first operation, when there were no keys. */
  readonly after: Revision;
  readonly operations: readonly Operation[];
  /** Of watches of all keys from `after` on until the end; each must be the whole truth. Never empty. */
  readonly tellings: readonly Telling[];
  /** All watches that there were, also those that ended before the end. */
  readonly watches: readonly RecordedWatch[];
  /** What was wrong with the streams themselves. */
  readonly brokenStreams: readonly string[];
}
