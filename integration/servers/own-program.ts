// Programs of our own in Go, for what only a client in Go can show. Built when first asked for and kept in the cache for as
// long as the source and the release of etcd's client stay the same.

import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildWithEtcdClient } from './go-build.ts';
import { cacheFolder, withLock } from './lock.ts';
import { executable } from './system.ts';
import { versions } from './versions.ts';

/** Runs the recipes of etcd's Go client. */
export const recipesSource = new URL('../recipes', import.meta.url);

/** The load of the benchmark. */
export const loadSource = new URL('../bench/load', import.meta.url);

/** Path of the program whose files lie in the folder `source`; it is named after the folder. @throws Unavailable */
export async function ownProgram(source: URL): Promise<string> {
  const path = fileURLToPath(source);
  const name = basename(path);
  const files = readdirSync(path)
    .filter((file) => file.endsWith('.go'))
    .toSorted()
    .map((file) => join(path, file));
  const hash = createHash('sha256');
  for (const file of files) hash.update(readFileSync(file));
  const folder = join(cacheFolder(), 'bin');
  const target = join(folder, `${name}-${versions.etcd}-${hash.digest('hex').slice(0, 12)}`);
  if (executable(target) !== undefined) return target;
  mkdirSync(folder, { recursive: true });
  await withLock(`build-${name}`, async () => {
    if (executable(target) === undefined) await buildWithEtcdClient({ files, target });
  });
  return target;
}
