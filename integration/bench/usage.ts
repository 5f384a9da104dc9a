// What processes use, from /proc: a server with everything that it has started.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

/** Ticks a second of the times in /proc/PID/stat: the same on every Linux. */
const ticksPerSecond = 100;

interface Stat {
  readonly parent: number;
  /** Of itself. */
  readonly ticks: number;
  /** Of children that have ended. */
  readonly endedTicks: number;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    // It has ended, or this system has no /proc; then nothing is known of it.
    return undefined;
  }
}

function statOf(pid: number): Stat | undefined {
  const line = read(`/proc/${pid}/stat`);
  if (line === undefined) return undefined;
  // The name before is in parentheses and may hold anything; the fields after it begin with the state, which is field 3.
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const field = (number: number) => Number(fields[number - 3]);
  return { parent: field(4), ticks: field(14) + field(15), endedTicks: field(16) + field(17) };
}

/** The processes and everything below them. */
export function familyOf(pids: readonly number[]): readonly number[] {
  let all: number[];
  try {
    all = readdirSync('/proc').map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
  const parents = new Map(all.map((pid) => [pid, statOf(pid)?.parent]));
  const below = (pid: number): boolean => {
    if (pids.includes(pid)) return true;
    const parent = parents.get(pid);
    return parent !== undefined && parent > 1 && below(parent);
  };
  return all.filter(below);
}

/** CPU seconds so far, of children that have ended too. */
export function cpuSeconds(pids: readonly number[]): number {
  const stats = familyOf(pids).map(statOf);
  const ticks = stats.reduce((sum, stat) => sum + (stat === undefined ? 0 : stat.ticks + stat.endedTicks), 0);
  return ticks / ticksPerSecond;
}

const kib = (text: string | undefined, name: string) =>
  Number(new RegExp(`^${name}:\\s+(\\d+)`, 'mu').exec(text ?? '')?.[1] ?? 0);

/** Resident MiB; what processes share is counted once. */
export function residentMiB(pids: readonly number[]): number {
  const sizes = familyOf(pids).map((pid) => kib(read(`/proc/${pid}/smaps_rollup`), 'Pss'));
  return sizes.reduce((sum, size) => sum + size, 0) / 1024;
}

/** Begins a new peak of the memory of one process. */
export function resetPeak(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
  } catch {
    // Not ours to reset; the peak is then that of its whole life.
  }
}

/** The most resident MiB of one process since its peak was reset. */
export const peakMiB = (pid: number): number => kib(read(`/proc/${pid}/status`), 'VmHWM') / 1024;
