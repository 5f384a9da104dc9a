// Programs of our own in Go, for what only a client in Go can show. Built when first asked for and kept in the cache for as
// long as the source and the release of etcd's client stay the same.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildWithEtcdClient } from './go-build.ts';
import { cacheFolder, withLock } from './lock.ts';
import { executable } from './system.ts';
import { versions } from './versions.ts';

/** Runs the recipes of etcd's Go client. */
export const recipesSource = new URL('../recipes/main.go', import.meta.url);

/** Path of the program whose one file is `source`; it is named after its folder. @throws Unavailable */
export async function ownProgram(source: URL): Promise<string> {
  const path = fileURLToPath(source);
  const name = basename(dirname(path));
  const content = createHash('sha256').update(readFileSync(path)).digest('hex').slice(0, 12);
  const folder = join(cacheFolder(), 'bin');
  const target = join(folder, `${name}-${versions.etcd}-${content}`);
  if (executable(target) !== undefined) return target;
  mkdirSync(folder, { recursive: true });
  await withLock(`build-${name}`, async () => {
    if (executable(target) === undefined) await buildWithEtcdClient({ source: path, target });
  });
  return target;
}
