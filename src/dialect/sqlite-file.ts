// The file behind SQLite's connections, known by its inode. Used by sqlite-worker.ts. Who moves, removes or replaces the file of a gateway
// that runs would have it go on in a file that nobody finds again: what was acknowledged there would be lost with the next
// start, and SQLite would take the log of the one file for the other's.

import { statSync } from 'node:fs';

/** How old the last look may be where nothing is written. */
const readsMaxMs = 100;

/** Shared by the threads of one driver: the inode of the file that was opened first, 0 before. */
export type KnownFile = BigInt64Array<SharedArrayBuffer>;

export const unknownFile = (): KnownFile => new BigInt64Array(new SharedArrayBuffer(8));

export class OpenedFile {
  readonly #path: string;
  readonly #known: KnownFile;
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(path: string, known: KnownFile) {
    this.#path = path;
    this.#known = known;
  }

  /** To be called when the file has been opened, which may have made it. */
  opened(): void {
    Atomics.compareExchange(this.#known, 0, 0n, this.#inode());
    this.check('write');
  }

  /** @throws Error with the code ESTALE where the path leads to another file than the first one, or to none. */
  check(before: 'read' | 'write'): void {
    const known = Atomics.load(this.#known, 0);
    const now = performance.now();
    if (known === 0n || (before === 'read' && now - this.#lookedAt < readsMaxMs)) return;
    if (this.#inode() !== known) {
      const message = `Expected ${this.#path} to be the file that was opened, it has been moved, removed or replaced: restart the gateway`;
      throw Object.assign(new Error(message), { code: 'ESTALE' });
    }
    this.#lookedAt = now;
  }

  /** 0: there is none. */
  #inode(): bigint {
    const file = statSync(this.#path, { bigint: true, throwIfNoEntry: false });
    return file === undefined ? 0n : BigInt.asIntN(64, file.ino);
  }
}
