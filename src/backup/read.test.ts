// A file that is damaged, cut off, or none of ours is refused, with what was expected and what was found.

import test, { type ExecutionContext } from 'ava';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { encodeLine, type Line } from './format.ts';
import { readBackup } from './read.ts';

const header: Line = {
  type: 'header',
  format: 1,
  id: 'one',
  createdAt: '2026-01-01T00:00:00.000Z',
  version: '0.1.0',
  keyPrefix: '/registry',
  scope: {},
};
const store: Line = { type: 'store', store: 'default', engine: 'etcd', revision: 7n };
const pairAt = (modRevision: bigint): Line => ({
  type: 'pair',
  pair: {
    key: Buffer.from('/k'),
    value: Buffer.from('some value'),
    createRevision: 1n,
    modRevision,
    version: 1n,
    lease: 0n,
  },
});
const storeEnd = (pairs: number): Line => ({ type: 'storeEnd', store: 'default', pairs });

/** The text of a file of `lines`, with its last line. */
function textOf(lines: readonly Line[], pairs: number): string {
  const text = lines.map(encodeLine).join('');
  const sha256 = createHash('sha256').update(text).digest('hex');
  return text + encodeLine({ type: 'end', pairs, sha256 });
}

const whole = textOf([header, store, pairAt(3n), storeEnd(1)], 1);

function fileOf(t: ExecutionContext, content: string | Buffer): string {
  const folder = mkdtempSync(join(tmpdir(), 'backup-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'backup.jsonl');
  writeFileSync(path, content);
  return path;
}

async function readAll(path: string): Promise<readonly string[]> {
  const types: string[] = [];
  for await (const { type } of readBackup(path)) types.push(type);
  return types;
}

for (const [title, content] of [
  ['plain', Buffer.from(whole)],
  ['compressed', gzipSync(whole)],
] as const) {
  test(`a whole file is read: ${title}`, async (t) => {
    t.deepEqual(await readAll(fileOf(t, content)), ['header', 'store', 'pair', 'storeEnd', 'end']);
  });
}

const lastLine = whole.lastIndexOf('{');
const damaged: readonly (readonly [title: string, content: string | Buffer, says: RegExp])[] = [
  ['empty', '', /Expected a backup of switchyard, got an empty file/u],
  ['other text', 'apiVersion: v1\n', /jsonl:1: Expected a line of JSON/u],
  [
    'other JSON',
    '{"store":"a","engine":"etcd","revision":"1"}\n',
    /jsonl:1: Expected the header of a backup of switchyard/u,
  ],
  ['cut off in a line', whole.slice(0, -40), /Expected a newline at the end, got a line that is cut off/u],
  [
    'cut off between lines',
    whole.slice(0, lastLine),
    /Expected a last line with the checksum, got the end of the file after line 4/u,
  ],
  [
    'a changed value',
    whole.replace('some value', 'none value'),
    /Expected 1 pairs with the SHA-256 \w+, got 1 with \w+: the file is damaged/u,
  ],
  [
    'a lost pair',
    whole.replace(encodeLine(pairAt(3n)), ''),
    /jsonl:3: Expected the end of default after 0 pairs, got that of default after 1/u,
  ],
  ['more behind the end', `${whole}{}\n`, /jsonl:6: Expected a line of a backup/u],
  [
    'another backup behind the end',
    whole + whole,
    /jsonl:6: Expected nothing after the last line, got more/u,
  ],
  [
    'a pair from the future',
    textOf([header, store, pairAt(8n), storeEnd(1)], 1),
    /jsonl:3: Expected a pair of revision 7 or before, got 8/u,
  ],
  [
    'a pair of no store',
    textOf([header, pairAt(3n)], 1),
    /jsonl:2: Expected a line with store before this, got none/u,
  ],
  [
    'a store without an end',
    textOf([header, store, pairAt(3n)], 1),
    /jsonl:4: Expected the end of store default, got the last line/u,
  ],
  [
    'a newer format',
    encodeLine({ ...header, format: 2 }),
    /Expected a backup of format 1 or older, got format 2/u,
  ],
  [
    'cut off while compressed',
    gzipSync(whole).subarray(0, 150),
    /Expected all of a gzip file, got one that is cut off/u,
  ],
];

for (const [title, content, says] of damaged) {
  test(`a file is refused: ${title}`, async (t) => {
    await t.throwsAsync(readAll(fileOf(t, content)), { message: says, name: 'BackupError' });
  });
}

test('a file that is not there is refused', async (t) => {
  await t.throwsAsync(readAll('/nowhere/backup.jsonl'), {
    message: /Expected a file that can be read, got no such file/u,
  });
});

test('a damaged gzip file is refused', async (t) => {
  const bytes = gzipSync(whole);
  bytes[30] = bytes[30]! ^ 0xff;
  await t.throwsAsync(readAll(fileOf(t, bytes)), { name: 'BackupError' });
});
