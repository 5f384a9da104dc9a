// A lock between processes: test files run at the same time and must not build or install the same thing twice.
// The lock is a folder (mkdir is atomic) that holds the owner's process id, so a dead owner's lock is taken over.

import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { stillAtIt } from './progress.ts';
import { waitFor } from './wait.ts';

/** The longest that anybody may hold a lock: a cold build of all binaries on a slow machine. */
const heldMsMax = 45 * 60_000;

/** How long a lock may stand without its owner's id. */
const namelessMsMax = 30_000;

/** Folder for what is worth keeping between runs. */
export function cacheFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'switchyard');
}

/** Runs `work` while holding the lock `name`. */
export async function withLock<T>(name: string, work: () => Promise<T>): Promise<T> {
  mkdirSync(cacheFolder(), { recursive: true });
  const folder = join(cacheFolder(), `${name}.lock`);
  await stillAtIt(`waiting for another process that holds ${folder}`, () =>
    waitFor(() => take(folder), { what: `the lock ${folder}`, deadlineMs: heldMsMax }),
  );
  try {
    return await work();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function take(folder: string): boolean {
  try {
    mkdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    if (!ownerLives(folder)) rmSync(folder, { recursive: true, force: true });
    return false;
  }
  writeFileSync(join(folder, 'pid'), String(process.pid));
  return true;
}

function ownerLives(folder: string): boolean {
  let text: string;
  try {
    text = readFileSync(join(folder, 'pid'), 'utf8');
  } catch {
    // Between its mkdir and its write, or already released; an owner that died just there is given up on later.
    return (statSync(folder, { throwIfNoEntry: false })?.mtimeMs ?? Date.now()) > Date.now() - namelessMsMax;
  }
  if (text === '') return true;
  try {
    process.kill(Number(text), 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
