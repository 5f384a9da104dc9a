// Reads a backup file line by line and checks all that can be checked: the order of lines, counts, the checksum. A file is read twice
// for a restore, once before anything is written. Used by survey.ts and restore.ts.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { fileReason } from '../lib/file-reason.ts';
import { BackupError, decodeLine, LineError, type End, type Line, type StoreBegin } from './format.ts';

/** No value that any store takes makes a line as long. */
const lineBytesMax = 64 * 1024 * 1024;
const readBytes = 1024 * 1024;
const newline = 0x0a;
const gzipMagic = Buffer.from([0x1f, 0x8b]);

/**
 * Gives every line of the file at `path`, until `signal` ends it. @throws BackupError that names the line; only after the last one is it
 * certain that nothing is wrong.
 */
export async function* readBackup(path: string, signal?: AbortSignal): AsyncGenerator<Line> {
  const order = new Order();
  let number = 0;
  try {
    for await (const bytes of linesOf(await streamOf(path))) {
      signal?.throwIfAborted();
      number++;
      const line = decodeLine(bytes.toString('utf8'));
      if (number === 1 && line.type !== 'header')
        throw new LineError('Expected the header of a backup of switchyard, got another line');
      order.take(line, bytes);
      yield line;
    }
    order.finish(number);
  } catch (error) {
    if (error instanceof LineError)
      throw new BackupError(`${path}:${number}: ${error.message}`, { cause: error });
    if (error instanceof BackupError) throw new BackupError(`${path}: ${error.message}`, { cause: error });
    throw translated(error, path);
  }
}

async function streamOf(path: string): Promise<Readable> {
  const start = Buffer.alloc(gzipMagic.length);
  const file = await open(path, 'r').catch((error: unknown) => {
    throw new BackupError(`Expected a file that can be read, got ${fileReason(error)}`);
  });
  try {
    const { bytesRead } = await file.read(start, 0, start.length, 0);
    if (bytesRead === 0) throw new BackupError('Expected a backup of switchyard, got an empty file');
  } finally {
    await file.close();
  }
  const raw = createReadStream(path, { highWaterMark: readBytes });
  if (!start.equals(gzipMagic)) return raw;
  const plain = createGunzip({ chunkSize: readBytes });
  // What goes wrong is thrown by whoever reads `plain`.
  pipeline(raw, plain).catch(() => undefined);
  return plain;
}

async function* linesOf(stream: Readable): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let from = 0;
    for (let at = chunk.indexOf(newline); at >= 0; at = chunk.indexOf(newline, from)) {
      const piece = chunk.subarray(from, at);
      yield rest.length === 0 ? piece : Buffer.concat([...rest, piece]);
      rest = [];
      restBytes = 0;
      from = at + 1;
    }
    if (from === chunk.length) continue;
    rest.push(chunk.subarray(from));
    restBytes += chunk.length - from;
    if (restBytes > lineBytesMax)
      throw new BackupError(`Expected lines of at most ${lineBytesMax} bytes, got a longer one`);
  }
  if (restBytes > 0) throw new BackupError('Expected a newline at the end, got a line that is cut off');
}

/** Errors of zlib and of the file system, for people. */
function translated(error: unknown, path: string): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (code === 'Z_BUF_ERROR')
    return new BackupError(`${path}: Expected all of a gzip file, got one that is cut off`, { cause: error });
  if (code.startsWith('Z_'))
    return new BackupError(`${path}: Expected a whole gzip file, got a damaged one`, { cause: error });
  return error;
}

/** Which line may follow which, and whether the counts and the checksum hold. */
class Order {
  readonly #hash = createHash('sha256');
  #isBegun = false;
  #store: StoreBegin | undefined;
  #end: End | undefined;
  #pairs = 0;
  #pairsOfStore = 0;

  take(line: Line, bytes: Buffer): void {
    if (this.#end !== undefined) throw new LineError('Expected nothing after the last line, got more');
    if (line.type === 'header' && this.#isBegun) throw new LineError('Expected one header, got another');
    this.#isBegun = true;
    switch (line.type) {
      case 'header':
        break;
      case 'store':
        if (this.#store !== undefined)
          throw new LineError(`Expected the end of store ${this.#store.store}, got store ${line.store}`);
        this.#store = line;
        this.#pairsOfStore = 0;
        break;
      case 'pair': {
        const { revision } = this.#within();
        const { modRevision } = line.pair;
        if (modRevision > revision)
          throw new LineError(`Expected a pair of revision ${revision} or before, got ${modRevision}`);
        this.#pairs++;
        this.#pairsOfStore++;
        break;
      }
      case 'lease':
        this.#within();
        break;
      case 'storeEnd':
        if (this.#within().store !== line.store || this.#pairsOfStore !== line.pairs)
          throw new LineError(
            `Expected the end of ${this.#within().store} after ${this.#pairsOfStore} pairs, got that of ${line.store} after ${line.pairs}`,
          );
        this.#store = undefined;
        break;
      case 'end':
        this.#takeEnd(line);
        return;
    }
    this.#hash.update(bytes).update('\n');
  }

  finish(lines: number): void {
    if (this.#end === undefined)
      throw new BackupError(
        `Expected a last line with the checksum, got the end of the file after line ${lines}: it was cut off, or the backup did not end`,
      );
  }

  #within(): StoreBegin {
    if (this.#store === undefined) throw new LineError('Expected a line with store before this, got none');
    return this.#store;
  }

  #takeEnd(end: End): void {
    if (this.#store !== undefined)
      throw new LineError(`Expected the end of store ${this.#store.store}, got the last line`);
    const sha256 = this.#hash.digest('hex');
    if (end.sha256 !== sha256 || end.pairs !== this.#pairs)
      throw new BackupError(
        `Expected ${end.pairs} pairs with the SHA-256 ${end.sha256}, got ${this.#pairs} with ${sha256}: the file is damaged`,
      );
    this.#end = end;
  }
}
