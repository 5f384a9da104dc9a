// Reading files that somebody named. A pipe in the place of one would hold up whoever opens it until somebody writes, for ever mostly.

import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';

/** Opens to read, and waits for nobody. */
export const openFlags = constants.O_RDONLY | constants.O_NONBLOCK;

/** The bytes. @throws the system's error, or Error for a pipe, a device or a socket; fileReason has the words for each. */
export function readRegularFile(path: string): Buffer {
  const file = openSync(path, openFlags);
  try {
    const stats = fstatSync(file);
    // Of a directory the system says so.
    if (!stats.isFile() && !stats.isDirectory()) throw new Error('no regular file');
    return readFileSync(file);
  } finally {
    closeSync(file);
  }
}
