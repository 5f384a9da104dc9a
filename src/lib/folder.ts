// Making a folder with those above it. Used by the SQLite dialect and by the check before a start.

import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/**
 * Not Node's recursive mkdir: in file systems that say of a missing parent what others say of a forbidden name, such as
 * /proc, it tries for ever. @throws the system's error.
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    const parent = dirname(path);
    if (codeOf(error) === 'ENOENT' && parent !== path) {
      await makeFolder(parent);
      // Another process may have made it meanwhile.
      await mkdir(path).catch((again: unknown) => acceptFolder(path, again));
      return;
    }
    await acceptFolder(path, error);
  }
}

/** @throws `error` unless there is a folder at `path`. */
async function acceptFolder(path: string, error: unknown): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() !== true) throw error;
}
