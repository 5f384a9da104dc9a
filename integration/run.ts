// `npm test`: starts the database servers that all test files share, makes sure of the programs they need, runs AVA,
// stops everything. Arguments are file patterns for AVA. The last line is `N passed, N failed`, and the exit code is 1
// when anything failed or nothing ran.

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { binaryNames } from './servers/binaries.ts';
import { noServer, skipped, startServer } from './servers/database.ts';
import { guardProcess } from './servers/guard.ts';
import type { DatabaseServer } from './servers/index.ts';
import { binary, engines, ownProgram, recipesSource } from './servers/index.ts';
import { closingLine, createTapReader, failureLines } from './tap.ts';
import type { Tally } from './tap.ts';

const projectFolder = fileURLToPath(new URL('..', import.meta.url));
const avaCommand = fileURLToPath(new URL('../node_modules/.bin/ava', import.meta.url));

const patterns = process.argv.slice(2);
const servers: DatabaseServer[] = [];
let ava: ChildProcess | undefined;
let interrupted: NodeJS.Signals | undefined;

const report = createTapReader();

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    interrupted = signal;
    // Before AVA runs there is nothing to report; what was started is stopped by the guard.
    if (ava === undefined) process.exit(1);
    ava.kill('SIGTERM');
  });
}

try {
  const env = await prepare();
  const code = await runAva(env);
  if (code !== 0 && report.tally.failed === 0) fail(report.tally, `the test run ended with ${code}`);
} catch (error) {
  process.stdout.write(`${error instanceof Error ? error.message : String(error)}\n`);
  fail(report.tally, 'the test run could not be started');
}
await Promise.allSettled(servers.map((server) => server.dispose()));
finish(report.tally);

/** Environment of the test files: addresses of the shared servers. */
async function prepare(): Promise<NodeJS.ProcessEnv> {
  const env: NodeJS.ProcessEnv = {};
  const databases = Object.values(engines).map(async (engine) => {
    if ((process.env[engine.variable] ?? '') !== '') return;
    const server = await skipped(() => startServer(engine));
    if (server !== undefined) servers.push(server);
    env[engine.variable] = server?.url ?? noServer;
  });
  // A build in the middle of a test looks like a test that hangs. Tests of single parts ask for what they need.
  const needsPrograms = patterns.length === 0 || patterns.some((pattern) => pattern.includes('cluster'));
  const programs = needsPrograms ? binaryNames.map((name) => skipped(() => binary(name))) : [];
  if (needsPrograms) programs.push(skipped(() => ownProgram(recipesSource)));
  const outcomes = await Promise.allSettled([...databases, ...programs]);
  const broken = outcomes
    .filter((outcome) => outcome.status === 'rejected')
    .map(({ reason }) => reason as Error);
  if (broken.length > 0) throw new Error([...new Set(broken.map((error) => error.message))].join('\n'));
  return env;
}

/** Runs AVA and prints its results as they come. Resolves with its exit code, or the signal that ended it. */
function runAva(env: NodeJS.ProcessEnv): Promise<number | string> {
  const child = spawn(process.execPath, [avaCommand, '--tap', ...patterns], {
    cwd: projectFolder,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env, FORCE_COLOR: '0' },
  });
  ava = child;
  if (child.pid !== undefined) guardProcess(child.pid);
  createInterface({ input: child.stdout }).on('line', (text) => {
    const line = report.line(text);
    if (line !== undefined) process.stdout.write(`${line}\n`);
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? signal ?? 1));
  });
}

function fail(tally: Tally, reason: string): void {
  tally.failed += 1;
  tally.failures.push({
    title: interrupted === undefined ? reason : `interrupted by ${interrupted}`,
    reason: [],
  });
}

function finish(tally: Tally): void {
  if (tally.passed + tally.failed + tally.skipped === 0) fail(tally, 'no test ran');
  if (tally.failures.length > 0)
    process.stdout.write(`\nfailed:\n${failureLines(tally.failures).join('\n')}\n\n`);
  if (tally.skipped > 0) process.stdout.write(`${tally.skipped} skipped, for the reasons above\n`);
  process.stdout.write(`${closingLine(tally)}\n`);
  process.exitCode = tally.failed > 0 ? 1 : 0;
}
