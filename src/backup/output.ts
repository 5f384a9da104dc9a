// Where a backup goes: a file that has its name only when it is whole, or a stream such as standard output. Used by write.ts.

import { randomBytes } from 'node:crypto';
import { link, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { PassThrough, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { fileReason } from '../lib/file-reason.ts';
import { BackupError } from './format.ts';

/** Text that is gathered before it is handed on. */
const chunkChars = 256 * 1024;
/** Objects in JSON shrink to a fifth at once; more takes several times as long. */
const gzipLevel = 1;

export interface Output {
  /** Resolves when more may come. */
  write(text: string): Promise<void>;
  /** All of it is where it belongs, and durable where it is a file. */
  close(): Promise<void>;
  /** Leaves nothing behind, where it is a file. */
  discard(): Promise<void>;
}

/** Gathers text for `stream`; what goes wrong there is thrown by the next write. */
class Gathered {
  readonly #stream: Writable;
  #text = '';

  constructor(stream: Writable) {
    this.#stream = stream;
  }

  async write(text: string): Promise<void> {
    this.#text += text;
    if (this.#text.length >= chunkChars) await this.flush();
  }

  flush(): Promise<void> {
    const text = this.#text;
    this.#text = '';
    return new Promise((resolve, reject) => {
      this.#stream.write(text, (error) => (error ? reject(error) : resolve()));
    });
  }
}

/**
 * A new file that only its owner may read; compressed with gzip where `path` ends in `.gz`. Until it is closed its name has a random
 * ending. @throws BackupError when there is something at `path`, or nothing can be written there.
 */
export async function fileOutput(path: string): Promise<Output> {
  if (await isThere(path)) throw inTheWay(path);
  const partial = `${path}.${randomBytes(4).toString('hex')}.partial`;
  const file = await open(partial, 'wx', 0o600).catch((error: unknown) => {
    throw new BackupError(`Expected a place that can be written, got ${path} (${fileReason(error)})`);
  });
  const source = path.endsWith('.gz') ? createGzip({ level: gzipLevel }) : new PassThrough();
  const done = pipeline(source, async (chunks: AsyncIterable<Buffer>) => {
    // Each where the one before has ended.
    for await (const chunk of chunks) await file.writeFile(chunk);
  });
  // Told by the writes and by close.
  done.catch(() => undefined);
  const gathered = new Gathered(source);
  return {
    write: (text) => gathered.write(text),
    close: async () => {
      await gathered.flush();
      source.end();
      await done;
      await file.sync();
      await file.close();
      await named(partial, path);
    },
    discard: async () => {
      source.destroy();
      await done.catch(() => undefined);
      await file.close();
      await rm(partial, { force: true });
    },
  };
}

/** Gives the file its name, for good. @throws BackupError when there is something of that name by now. */
async function named(partial: string, path: string): Promise<void> {
  const isLinked = await link(partial, path).then(
    () => true,
    () => false,
  );
  if (isLinked) await rm(partial);
  else if (await isThere(path)) throw inTheWay(path);
  // Not every file system knows a file by two names.
  else await rename(partial, path);
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}

function inTheWay(path: string): BackupError {
  return new BackupError(`Expected a file that is not there yet, got ${path}`);
}

/** `stream` stays open. */
export function streamOutput(stream: Writable): Output {
  // Whoever writes is told as well; without a listener it would end the process.
  stream.on('error', () => undefined);
  const gathered = new Gathered(stream);
  return {
    write: (text) => gathered.write(text),
    close: () => gathered.flush(),
    discard: () => Promise.resolve(),
  };
}
