// Builds etcd's and Kubernetes' programs from their Go modules: a small module in a temp folder requires the release,
// and `go build` does the rest. Kubernetes' own libraries live in its repository, so its module file points to them by
// folders; the published modules of the same release take their place. Programs of our own that use etcd's client library are
// built the same way.

import { copyFileSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { tempFolder } from './guard.ts';
import { withProgress } from './progress.ts';
import { execute, findProgram, Unavailable } from './system.ts';
import { goAny, goOldest, projectOf, versions, type BinaryName, type Project } from './versions.ts';

const packages: Record<BinaryName, string> = {
  etcd: 'go.etcd.io/etcd/server/v3',
  'etcd-next': 'go.etcd.io/etcd/server/v3',
  etcdctl: 'go.etcd.io/etcd/etcdctl/v3',
  'kube-apiserver': 'k8s.io/kubernetes/cmd/kube-apiserver',
  'kube-controller-manager': 'k8s.io/kubernetes/cmd/kube-controller-manager',
  kubectl: 'k8s.io/kubernetes/cmd/kubectl',
  kine: 'github.com/k3s-io/kine',
  h2spec: 'github.com/summerwind/h2spec/cmd/h2spec',
};

const modules: Record<Project, readonly string[]> = {
  etcd: ['go.etcd.io/etcd/server/v3', 'go.etcd.io/etcd/etcdctl/v3'],
  'etcd-next': ['go.etcd.io/etcd/server/v3'],
  kubernetes: ['k8s.io/kubernetes'],
  kine: ['github.com/k3s-io/kine'],
  h2spec: ['github.com/summerwind/h2spec'],
};

const goVersion = goOldest.join('.');

/** Prepared module folders of this process, so that three programs of one project are set up once. */
const prepared = new Map<Project, Promise<{ folder: string; env: NodeJS.ProcessEnv }>>();

/** Builds one program to `target`; the caller holds the lock of its project. */
export async function buildBinary(options: {
  name: BinaryName;
  project: Project;
  target: string;
}): Promise<void> {
  const { name, project, target } = options;
  const version = versions[project];
  let module = prepared.get(project);
  if (module === undefined) {
    module = prepare(project);
    prepared.set(project, module);
  }
  const { folder, env } = await module;
  await withProgress(`building ${name} ${version} (some minutes the first time)`, () =>
    compile({ folder, env, project, what: packages[name], target }),
  );
}

/** Builds a program of our own from its files, with the client library of etcd; the caller holds a lock. */
export async function buildWithEtcdClient(options: {
  readonly files: readonly string[];
  readonly target: string;
}): Promise<void> {
  const { files, target } = options;
  const env = await environment('etcd');
  const folder = tempFolder('build');
  writeFileSync(
    join(folder, 'go.mod'),
    `module switchyard.local/build\n\ngo ${goVersion}\n\nrequire go.etcd.io/etcd/client/v3 v${versions.etcd}\n`,
  );
  for (const file of files) copyFileSync(file, join(folder, basename(file)));
  await withProgress(`building ${basename(target)}`, async () => {
    await download(['mod', 'tidy'], { cwd: folder, env });
    await compile({ folder, env, project: 'etcd', what: '.', target });
  });
}

/** The program is at `target` when it is whole. */
async function compile(options: {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  readonly project: Project;
  /** A package. */
  readonly what: string;
  readonly target: string;
}): Promise<void> {
  const { folder, env, project, what, target } = options;
  const unfinished = `${target}.unfinished`;
  const flags = ['-trimpath', '-ldflags', linkerFlags(project), '-o', unfinished];
  try {
    await go(['build', ...flags, what], { cwd: folder, env });
    renameSync(unfinished, target);
  } finally {
    rmSync(unfinished, { force: true });
  }
}

async function environment(project: Project): Promise<NodeJS.ProcessEnv> {
  // SQLite itself in kine's own releases is the C one; a machine without a compiler gets the one that was translated to Go.
  const cgo = project === 'kine' && findProgram('gcc') !== undefined;
  return {
    ...(await toolchain()),
    CGO_ENABLED: cgo ? '1' : '0',
    GOFLAGS: '-mod=mod -buildvcs=false',
    GOWORK: 'off',
  };
}

async function prepare(project: Project): Promise<{ folder: string; env: NodeJS.ProcessEnv }> {
  const env = await environment(project);
  const folder = tempFolder('build');
  const requires = modules[project].map((path) => `require ${path} v${versions[project]}\n`).join('');
  const fetching = `fetching the Go modules of ${project} ${versions[project]}`;
  await withProgress(fetching, () => fetchModules({ folder, env, project, requires }));
  return { folder, env };
}

async function fetchModules(options: {
  folder: string;
  env: NodeJS.ProcessEnv;
  project: Project;
  requires: string;
}): Promise<void> {
  const { folder, env, project, requires } = options;
  const replaces = project === 'kubernetes' ? await stagingReplaces(folder, env) : '';
  writeFileSync(
    join(folder, 'go.mod'),
    `module switchyard.local/build\n\ngo ${goVersion}\n\n${requires}${replaces}`,
  );
  const names = (Object.keys(packages) as BinaryName[]).filter((name) => projectOf[name] === project);
  const imports = names.map((name) => packages[name]);
  writeFileSync(
    join(folder, 'tools.go'),
    `//go:build tools\n\npackage tools\n\nimport (\n${imports.map((path) => `\t_ "${path}"\n`).join('')})\n`,
  );
  await download(['mod', 'tidy'], { cwd: folder, env });
}

type GoOptions = { readonly cwd: string; readonly env: NodeJS.ProcessEnv };

const go = (args: readonly string[], options: GoOptions) =>
  execute('go', args, { ...options, guarded: true });

/** A machine without a way to the modules is one that lacks the programs. */
async function download(args: readonly string[], options: GoOptions): Promise<string> {
  try {
    return await go(args, options);
  } catch (cause) {
    throw new Unavailable(`Expected Go modules to be fetched, got:\n${(cause as Error).message}`, { cause });
  }
}

async function stagingReplaces(folder: string, env: NodeJS.ProcessEnv): Promise<string> {
  const spec = `k8s.io/kubernetes@v${versions.kubernetes}`;
  const answer = JSON.parse(await download(['mod', 'download', '-json', spec], { cwd: folder, env })) as {
    GoMod: string;
  };
  return replaceLines(readFileSync(answer.GoMod, 'utf8'), versions.kubernetes);
}

/** Replace lines with the published release for every module that Kubernetes' module file takes from its own tree. */
export function replaceLines(moduleFile: string, version: string): string {
  const published = `v0.${version.split('.').slice(1).join('.')}`;
  return [...moduleFile.matchAll(/^\s*(?:replace\s+)?(\S+) => \.\/staging\/\S+$/gm)]
    .map(([, path]) => `replace ${path} => ${path} ${published}\n`)
    .join('');
}

function linkerFlags(project: Project): string {
  if (project === 'kine') return `-s -w -X github.com/k3s-io/kine/pkg/version.Version=v${versions.kine}`;
  if (project === 'h2spec') return `-s -w -X main.VERSION=${versions.h2spec}`;
  if (project !== 'kubernetes') return '-s -w';
  const [major, minor] = versions.kubernetes.split('.');
  const values = { gitVersion: `v${versions.kubernetes}`, gitMajor: major, gitMinor: minor };
  const set = Object.entries(values).map(
    ([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`,
  );
  return ['-s', '-w', ...set].join(' ');
}

/** Environment that makes `go` new enough. @throws Unavailable */
async function toolchain(): Promise<NodeJS.ProcessEnv> {
  const needed = `Expected Go ${goVersion} (or ${goAny.join('.')}, which fetches it) on PATH to build etcd and Kubernetes, or their programs in KUBEBUILDER_ASSETS`;
  if (findProgram('go') === undefined) throw new Unavailable(`${needed}, got none; see https://go.dev/dl`);
  const text = await execute('go', ['env', 'GOVERSION'], { env: { GOTOOLCHAIN: 'local' } });
  const [, major = 0, minor = 0] = (/^go(\d+)\.(\d+)/.exec(text) ?? []).map(Number);
  if (major > goOldest[0] || minor >= goOldest[1]) return {};
  if (minor >= goAny[1]) return { GOTOOLCHAIN: 'auto' };
  throw new Unavailable(`${needed}, got ${text.trim()}`);
}
