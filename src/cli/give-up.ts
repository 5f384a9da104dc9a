// `switchyard restore --give-up`: for a restore that nobody will resume. Used by restore.ts.

import { findMarks, giveUp, showMark } from '../backup/under-way.ts';
import type { Topology } from '../router/topology.ts';
import { bulkSession } from './bulk-session.ts';
import { exitCode, type ExitCode, type Io } from './io.ts';

export interface GivingUp {
  readonly topology: Topology;
  readonly keyPrefix: string;
  readonly io: Io;
}

/** Answers 0 when no store of the topology has a restore under way any more. @throws Error */
export async function giveUpRestore({ topology, keyPrefix, io }: GivingUp): Promise<ExitCode> {
  return await bulkSession({ topology, keyPrefix, io }, async (session) => {
    // The default store's last, as when a restore ends.
    const names = [...topology.backends, topology.default].map(({ name }) => name);
    let found = 0;
    for (const name of names) {
      const store = session.open(name);
      await store.prepare();
      for (const mark of await findMarks([store])) {
        if (!(await giveUp(mark)))
          throw new Error(`Expected nobody at the restore in store ${name}, got one that goes on`);
        found++;
        io.err(`${name}: given up: ${showMark(mark)}`);
        const types = mark.marker?.types.filter((root) => root !== '') ?? [];
        if (types.length > 0) io.err(`  parts of these may be missing: ${types.join(', ')}`);
      }
    }
    if (found === 0) io.err('No store has a restore under way');
    return exitCode.done;
  });
}
