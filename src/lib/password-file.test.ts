// What is taken for a password, and what is said of a file that has none.

import test from 'ava';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readPasswordFile } from './password-file.ts';

test('password file: its text, without the end of the line', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'password-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'password');
  for (const [text, password] of [
    ['geheim', 'geheim'],
    ['geheim\n', 'geheim'],
    ['geheim\r\n', 'geheim'],
    [' ge heim \n\n', ' ge heim \n'],
    ['päss wörd', 'päss wörd'],
  ] as const) {
    writeFileSync(path, text);
    t.is(await readPasswordFile(path), password);
  }
});

test('password file: what cannot be one is named, and not shown', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'password-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'password');
  const message = async () => (await t.throwsAsync(readPasswordFile(path))).message;
  const expected = `Expected a file with a password, got ${JSON.stringify(path)}`;
  t.is(await message(), `${expected}: no such file`);
  writeFileSync(path, '\n');
  t.is(await message(), `${expected}: an empty one`);
  writeFileSync(path, 'geheim'.repeat(1_000));
  t.is(await message(), `${expected}: more than 4096 bytes`);
  rmSync(path);
  mkdirSync(path);
  t.is(await message(), `${expected}: no regular file`);
  rmSync(path, { recursive: true });
  // Nobody writes into it: who opened it to read would wait for ever.
  execFileSync('mkfifo', [path]);
  t.is(await message(), `${expected}: no regular file`);
});

test('password file: a secret that Kubernetes has mounted is read where its links lead now', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'password-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  /** A folder for each version, a link to the one that counts, and links to the files through it. */
  const mount = (version: string) => {
    mkdirSync(join(folder, version));
    writeFileSync(join(folder, version, 'password'), version);
    symlinkSync(version, join(folder, '..data_tmp'));
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
  };
  mount('..first');
  symlinkSync(join('..data', 'password'), join(folder, 'password'));
  t.is(await readPasswordFile(join(folder, 'password')), '..first');
  mount('..second');
  t.is(await readPasswordFile(join(folder, 'password')), '..second');
});
