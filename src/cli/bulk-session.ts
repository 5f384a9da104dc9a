// What backup and restore have in common: the stores of the topology, opened when they are asked for; an end by Ctrl-C; and
// progress on standard error.

import { errorText, silentLogger } from '../lib/log.ts';
import type { Topology } from '../router/topology.ts';
import type { BulkStore } from '../store/bulk.ts';
import { isThere, openBulk } from '../store/open.ts';
import type { Io } from './io.ts';

const progressEveryMs = 5_000;

export interface BulkSession {
  /** Aborted by SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  /** The same one each time. @throws Error with `what` there, where the store is an SQLite file that is not there yet. */
  open(name: string, what?: 'something'): BulkStore;
  /** What the next line of progress says; none is written before the first five seconds are over. */
  says(text: string): void;
}

/** Runs `work`, and closes what it has opened. @throws Error with all causes in its message; what `work` throws as BackupError. */
export async function bulkSession<T>(
  { topology, keyPrefix, io }: { readonly topology: Topology; readonly keyPrefix: string; readonly io: Io },
  work: (session: BulkSession) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const interrupt = () => stop.abort(new Error('interrupted'));
  const stores = new Map<string, BulkStore>();
  let text = '';
  // It also keeps the process alive while nothing else does.
  const timer = setInterval(() => {
    if (text !== '') io.err(text);
  }, progressEveryMs);
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  try {
    return await work({
      signal: stop.signal,
      open: (name, what) => {
        const known = stores.get(name);
        if (known !== undefined) return known;
        const backend = [topology.default, ...topology.backends].find((one) => one.name === name);
        if (backend === undefined) throw new Error(`Expected a store named ${name}, got none`);
        if (what !== undefined && !isThere(backend))
          throw new Error(`Expected a database for store ${name}, got none at ${backend.displayUrl}`);
        const opened = openBulk(backend, { logger: silentLogger, keyPrefix, signal: stop.signal });
        stores.set(name, opened);
        return opened;
      },
      says: (said) => {
        text = said;
      },
    });
  } catch (error) {
    if (stop.signal.aborted) throw new Error('interrupted', { cause: error });
    throw error instanceof Error ? new Error(errorText(error), { cause: error }) : error;
  } finally {
    clearInterval(timer);
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
    await Promise.allSettled([...stores.values()].map((store) => store[Symbol.asyncDispose]()));
  }
}

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `1.5 GiB`. */
export function showBytes(bytes: number): string {
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${power === 0 ? bytes : (bytes / 1024 ** power).toFixed(1)} ${units[power]}`;
}

/** `1 object`, `2 objects`. */
export function showCount(count: number): string {
  return `${count} ${count === 1 ? 'object' : 'objects'}`;
}
