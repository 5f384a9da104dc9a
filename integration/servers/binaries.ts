// The programs around switchyard: etcd in two releases, etcdctl, kube-apiserver, kube-controller-manager, kubectl, h2spec. Looked for in the
// environment (SWITCHYARD_TEST_KUBE_APISERVER …), in KUBEBUILDER_ASSETS, on PATH when they are of the right release, and in
// the cache; else built from Go modules. kine, which only the benchmark starts, is found the same way.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildBinary } from './go-build.ts';
import { cacheFolder, withLock } from './lock.ts';
import { execute, executable, findProgram } from './system.ts';
import { etcdOldest, projectOf, versions, type BinaryName } from './versions.ts';

/** Every program that the tests use. The benchmark's peer is none of them. */
export const binaryNames = (Object.keys(projectOf) as BinaryName[]).filter((name) => name !== 'kine');

/** Those that a cluster is made of. */
export const clusterBinaryNames = binaryNames.filter((name) => name !== 'etcd-next');

/** What the program is called where others have put it. */
const fileName = (name: BinaryName) => (name === 'etcd-next' ? 'etcd' : name);

const found = new Map<BinaryName, Promise<string>>();

/** Path of a program; builds it (some minutes, once per machine) when there is none. */
export function binary(name: BinaryName): Promise<string> {
  let path = found.get(name);
  if (path === undefined) {
    path = find(name);
    found.set(name, path);
  }
  return path;
}

async function find(name: BinaryName): Promise<string> {
  const variable = `SWITCHYARD_TEST_${name.toUpperCase().replaceAll('-', '_')}`;
  const named = process.env[variable];
  if (named !== undefined && named !== '') {
    if (executable(named) === undefined)
      throw new Error(`Expected an executable file in ${variable}, got ${named}`);
    return named;
  }
  const assets = process.env['KUBEBUILDER_ASSETS'];
  const asset = assets === undefined || assets === '' ? undefined : executable(join(assets, fileName(name)));
  if (asset !== undefined && (await isWelcome(name, asset))) return asset;
  const onPath = findProgram(fileName(name));
  if (onPath !== undefined && (await isTested(name, onPath))) return onPath;
  const project = projectOf[name];
  const folder = join(cacheFolder(), 'bin');
  const cached = join(folder, `${name}-${versions[project]}`);
  if (executable(cached) !== undefined) return cached;
  mkdirSync(folder, { recursive: true });
  await withLock(`build-${project}`, async () => {
    if (executable(cached) === undefined) await buildBinary({ name, project, target: cached });
  });
  return cached;
}

/** What makes a program tell its release. */
const versionArgs: Record<BinaryName, readonly string[]> = {
  etcd: ['--version'],
  'etcd-next': ['--version'],
  etcdctl: ['version'],
  'kube-apiserver': ['--version'],
  'kube-controller-manager': ['--version'],
  kubectl: ['version', '--client'],
  kine: ['--version'],
  h2spec: ['--version'],
};

/** True when a program that happens to be on the machine is of the release that the tests are meant for. */
async function isTested(name: BinaryName, path: string): Promise<boolean> {
  const [major, minor] = versions[projectOf[name]].split('.');
  try {
    const output = await execute(path, versionArgs[name]);
    return new RegExp(String.raw`\bv?${major}\.${minor}\.\d`).test(output);
  } catch {
    // Something else of that name.
    return false;
  }
}

/** True when a program that somebody has named for tests can be used in them. */
async function isWelcome(name: BinaryName, path: string): Promise<boolean> {
  if (name === 'etcd') return recentEnough(await execute(path, ['--version']));
  return name !== 'etcd-next' || isTested(name, path);
}

/** True when the output of `etcd --version` names a release whose watches can be relied on. */
export function recentEnough(output: string): boolean {
  const [, major, minor, patch] = (/(\d+)\.(\d+)\.(\d+)/.exec(output) ?? []).map(Number);
  if (major === undefined || minor === undefined || patch === undefined) return false;
  const newest = etcdOldest.at(-1);
  if (newest !== undefined && (major > newest[0] || (major === newest[0] && minor > newest[1]))) return true;
  return etcdOldest.some((oldest) => major === oldest[0] && minor === oldest[1] && patch >= oldest[2]);
}
