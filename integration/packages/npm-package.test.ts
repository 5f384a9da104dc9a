// The npm package as its users get it: packed, installed into an empty folder, started by npx.

import test from 'ava';
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { outcomeOf } from '../etcdctl.ts';
import { freePort, tempFolder, waitFor } from '../servers/index.ts';
import { execute } from '../servers/system.ts';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const manifest = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as {
  readonly version: string;
  readonly files: readonly string[];
};

/** What a package is made of; the rest of a checkout may be anything. */
const sources = [
  'bin',
  'deploy',
  'src',
  'topology',
  'ARCHITECTURE.md',
  'CHANGELOG.md',
  'LICENSE',
  'NOTICE',
  'README.md',
  'package.json',
  'tsconfig.build.json',
  'tsconfig.json',
];

/** Unpacked; what grows beyond it was not meant to be shipped. */
const packageBytesMax = 2 * 1024 * 1024;

const folder = tempFolder('npm-package');
const project = join(folder, 'project');
/** The Node of the tests before any other, as on a machine where it is the only one. */
const env = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env['PATH']}` };

interface Packed {
  readonly filename: string;
  readonly unpackedSize: number;
  readonly files: readonly { readonly path: string }[];
}

let packed: Packed;

/** `npm pack` in a copy, so that no `dist` appears in the checkout. */
test.before('npm pack and npm install', async (t) => {
  t.timeout(240_000);
  const copy = join(folder, 'copy');
  mkdirSync(copy);
  for (const name of sources) cpSync(join(checkout, name), join(copy, name), { recursive: true });
  symlinkSync(join(checkout, 'node_modules'), join(copy, 'node_modules'));
  const answer = await execute('npm', ['pack', '--json', '--pack-destination', folder], { cwd: copy, env });
  // The output of the build comes before.
  [packed] = JSON.parse(answer.slice(answer.indexOf('[\n'))) as [Packed];
  mkdirSync(project);
  const install = ['install', '--prefer-offline', '--no-audit', '--no-fund', join(folder, packed.filename)];
  await execute('npm', install, { cwd: project, env });
  t.pass();
});

test.after.always(() => rmSync(folder, { recursive: true, force: true }));

test('package: holds what it says, no tests, no sources', (t) => {
  const paths = packed.files.map(({ path }) => path);
  for (const path of [
    'README.md',
    'LICENSE',
    'NOTICE',
    'bin/switchyard.js',
    'dist/main.js',
    'deploy/README.md',
  ])
    t.true(paths.includes(path), path);
  for (const name of manifest.files.filter((file) => !file.startsWith('!')))
    t.true(
      paths.some((path) => path === name || path.startsWith(`${name}/`)),
      name,
    );
  const foreign = paths.filter((path) => /\.test\.|-fakes\.|\.map$|\.ts$|^src\/|^integration\//u.test(path));
  t.deepEqual(foreign, []);
  t.true(packed.unpackedSize < packageBytesMax, `${packed.unpackedSize} bytes`);
});

test('package: brings no more than its few dependencies', (t) => {
  const installed = readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.'));
  t.true(installed.includes('switchyard'));
  t.false(installed.includes('typescript'));
  t.true(installed.length < 60, installed.join(' '));
});

test('package: npx switchyard --version', async (t) => {
  t.is(await execute('npx', ['switchyard', '--version'], { cwd: project, env }), `${manifest.version}\n`);
});

test('package: npx switchyard serves on its embedded default', async (t) => {
  const [port, metricsPort] = [await freePort(), await freePort()];
  const url = `http://127.0.0.1:${port}`;
  const args = [
    'switchyard',
    `--listen-client-urls=${url}`,
    `--listen-metrics-urls=http://127.0.0.1:${metricsPort}`,
  ];
  // npm does not pass signals on: a group of its own is stopped as a whole, as by a terminal.
  const child = spawn('npx', args, { cwd: project, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const outcome = outcomeOf(child);
  try {
    await waitFor(async () => (await fetch(`http://127.0.0.1:${metricsPort}/readyz`)).ok, {
      what: 'the installed switchyard to be ready',
      // npm itself takes seconds, and on a machine that is busy many.
      deadlineMs: 60_000,
    });
    const answer = (await (await fetch(`${url}/version`)).json()) as { readonly switchyard: string };
    t.is(answer.switchyard, manifest.version);
  } finally {
    process.kill(-child.pid!, 'SIGTERM');
  }
  const { out } = await outcome;
  t.regex(out, new RegExp(`switchyard ${manifest.version} serves ${url}`, 'u'));
  t.true(existsSync(join(project, 'data', 'switchyard.db')));
});

test('package: an older Node is told what is missing', async (t) => {
  const older = 'data:text/javascript,Object.defineProperty(process.versions,"node",{value:"22.1.0"})';
  const program = join(project, 'node_modules', 'switchyard', 'bin', 'switchyard.js');
  const child = spawn(process.execPath, ['--import', older, program], { stdio: ['ignore', 'pipe', 'pipe'] });
  const { code, out, err } = await outcomeOf(child);
  t.is(code, 1);
  t.is(out, '');
  t.regex(
    err,
    /^switchyard: Expected Node 24 or later, got 22\.1\.0 .*npm install node@24, then npx switchyard\n$/u,
  );
});
