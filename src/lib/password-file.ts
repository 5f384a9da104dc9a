// A password in a file of its own, as Kubernetes and systemd hand them to a process. Used by the dialects and the store over an etcd,
// each time they log in: a password that was changed counts from the next connection on.

import { open } from 'node:fs/promises';
import { fileReason } from './file-reason.ts';
import { openFlags } from './regular-file.ts';

const passwordBytesMax = 4096;

/** The file's text without the line's end, which editors add. @throws Error that names the file, and nothing of what is in it. */
export async function readPasswordFile(path: string): Promise<string> {
  const refuse = (got: string) =>
    new Error(`Expected a file with a password, got ${JSON.stringify(path)}: ${got}`);
  let text: string;
  try {
    const file = await open(path, openFlags);
    try {
      if (!(await file.stat()).isFile()) throw refuse('no regular file');
      const { buffer, bytesRead } = await file.read(Buffer.alloc(passwordBytesMax + 1));
      if (bytesRead > passwordBytesMax) throw refuse(`more than ${passwordBytesMax} bytes`);
      text = buffer.toString('utf8', 0, bytesRead).replace(/\r?\n$/u, '');
    } finally {
      await file.close();
    }
  } catch (error) {
    throw error instanceof Error && 'code' in error ? refuse(fileReason(error)) : error;
  }
  if (text === '') throw refuse('an empty one');
  return text;
}
