// Backup and restore as processes: Ctrl-C leaves no file behind, and standard output carries a backup and nothing else.

import test from 'ava';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { outcomeOf } from '../etcdctl.ts';
import { readBackup } from '../../src/backup/read.ts';
import { fileOutput } from '../../src/backup/output.ts';
import { folderOf, freshEndpoint, openAt, put } from './scene.ts';

const main = join(import.meta.dirname, '../../src/main.ts');
const start = (...args: readonly string[]) =>
  spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });

/** An SQLite store with more than pipes and buffers hold. */
async function filled(url: string): Promise<void> {
  await using store = await openAt('sqlite', url);
  const large = Buffer.alloc(1_000_000, 'large ');
  for (let index = 0; index < 24; index++) await put(store, `/registry/configmaps/default/c${index}`, large);
}

test('a backup to standard output is one that can be read, and what is said goes to standard error', async (t) => {
  const url = (await freshEndpoint(t, 'sqlite'))!;
  await filled(url);
  const { code, out, err } = await outcomeOf(start('backup', '-', '--default-endpoint', url));
  t.is(code, 0, err);
  t.is(err, 'default: 24 objects, 22.9 MiB, at revision 25\n');
  const file = join(folderOf(t), 'piped');
  writeFileSync(file, out);
  let pairs = 0;
  for await (const { type } of readBackup(file)) if (type === 'pair') pairs++;
  t.is(pairs, 24);
});

test('a backup that is interrupted says so', async (t) => {
  const url = (await freshEndpoint(t, 'sqlite'))!;
  await filled(url);
  // Nobody reads, so it waits in the middle.
  const child = start('backup', '-', '--default-endpoint', url);
  await once(child.stdout!, 'readable');
  child.kill('SIGINT');
  const { code, err } = await outcomeOf(child);
  t.is(code, 1);
  t.is(err, 'switchyard: interrupted\n');
});

test('what a file would have got is gone when it is given up', async (t) => {
  const folder = folderOf(t);
  const output = await fileOutput(join(folder, 'all.jsonl.gz'));
  await output.write('some text\n'.repeat(100_000));
  t.is(readdirSync(folder).length, 1);
  await output.discard();
  t.deepEqual(readdirSync(folder), []);
});

test('a file that came meanwhile is not written over', async (t) => {
  const folder = folderOf(t);
  const path = join(folder, 'all.jsonl');
  const output = await fileOutput(path);
  await output.write('some text\n');
  writeFileSync(path, 'mine');
  await t.throwsAsync(output.close(), { message: /Expected a file that is not there yet, got / });
  await output.discard();
  t.deepEqual(readdirSync(folder), ['all.jsonl']);
  t.is(readFileSync(path, 'utf8'), 'mine');
});

test('a backup whose reader has gone is a failure', async (t) => {
  const url = (await freshEndpoint(t, 'sqlite'))!;
  await filled(url);
  const child = start('backup', '-', '--default-endpoint', url);
  await once(child.stdout!, 'readable');
  child.stdout!.destroy();
  const { code, err } = await outcomeOf(child);
  t.is(code, 1);
  t.regex(err, /^switchyard: .*EPIPE/u);
});
