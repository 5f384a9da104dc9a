// What passes between the driver of SQLite and its threads: requests, and their answers in the same order. Used by sqlite.ts,
// sqlite-worker.ts and sqlite-rows.ts.

import type { KnownFile } from './sqlite-file.ts';

/** Started with the worker. */
export interface WorkerSettings {
  readonly path: string;
  readonly busyTimeoutMs: number;
  readonly readOnly: boolean;
  readonly file: KnownFile;
}

/** A value as it crosses between the threads; the structured clone makes Uint8Array of a Buffer. */
export type WireValue = bigint | number | string | Uint8Array | null;

export type Request =
  | { readonly id: number; readonly kind: 'open' }
  | { readonly id: number; readonly kind: 'close' }
  | { readonly id: number; readonly kind: 'control'; readonly text: string }
  | {
      readonly id: number;
      readonly kind: 'run';
      readonly text: string;
      readonly params: readonly WireValue[];
    }
  | {
      readonly id: number;
      readonly kind: 'script';
      /** Undefined: the transaction is open. */
      readonly begin: string | undefined;
      readonly steps: readonly { readonly text: string; readonly params: readonly WireValue[] }[];
    };

export type Answer =
  | {
      readonly id: number;
      readonly ok: true;
      readonly columns: readonly string[];
      /** See sqlite-rows.ts. */
      readonly packed: Uint8Array<ArrayBuffer>;
      readonly affected: number;
    }
  | {
      readonly id: number;
      readonly ok: false;
      readonly message: string;
      readonly code: number;
      readonly system: string;
    };
