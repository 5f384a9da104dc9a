// The processes that a server has started itself. A database that is a family of processes (Postgres: one for each connection) is
// dead or frozen only when all of them are: left alone, they would go on answering for a moment.

import { readdirSync, readFileSync } from 'node:fs';
import { waitFor } from './wait.ts';

interface ProcessState {
  readonly parent: number;
  /** R, S, D, T, Z … as in the kernel's table. */
  readonly state: string;
}

/** Where there is no such table, a server's children are left to themselves. */
function stateOf(pid: number): ProcessState | undefined {
  let line: string;
  try {
    line = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    // It has ended.
    return undefined;
  }
  // The name before is in parentheses and may hold anything.
  const [state = '', parent] = line.slice(line.lastIndexOf(')') + 2).split(' ');
  return { parent: Number(parent), state };
}

function processIds(): readonly number[] {
  try {
    return readdirSync('/proc').map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
}

/** Ids of the processes that `pid` has started and that run. */
export function childrenOf(pid: number): readonly number[] {
  return processIds().filter((id) => stateOf(id)?.parent === pid);
}

/** Sends `signal` to each; one that has ended meanwhile needs none. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

/** Waits until none of them runs any more. One that nobody has buried yet does not run. */
export async function gone(pids: readonly number[]): Promise<void> {
  const runs = (pid: number) => !['Z', 'X', undefined].includes(stateOf(pid)?.state);
  await waitFor(() => !pids.some(runs), { what: `processes ${pids.join(', ')} to end` });
}
