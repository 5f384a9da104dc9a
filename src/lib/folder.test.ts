// Folders that can be made, are there, or never can be.

import test from 'ava';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeFolder } from './folder.ts';

test('a folder is made with those above it, and may be there already', async (t) => {
  const top = mkdtempSync(join(tmpdir(), 'folder-'));
  t.teardown(() => rmSync(top, { recursive: true, force: true }));
  const path = join(top, 'a', 'b', 'c');
  await Promise.all([makeFolder(path), makeFolder(path)]);
  await makeFolder(path);
  t.true(statSync(path).isDirectory());
  writeFileSync(join(top, 'file'), '');
  await t.throwsAsync(makeFolder(join(top, 'file')), { code: 'EEXIST' });
  await t.throwsAsync(makeFolder(join(top, 'file', 'below')), { code: 'ENOTDIR' });
});

test('a folder that can never be is an error, not an endless attempt', async (t) => {
  await t.throwsAsync(makeFolder('/proc/nothing/here'));
});
