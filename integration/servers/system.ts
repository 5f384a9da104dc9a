// What the machine has: programs, users, package manager, container engine. Used by the finders of servers.

import { execFile } from 'node:child_process';
import { accessSync, chownSync, constants, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { guardProcess, releaseProcess } from './guard.ts';
import { withLock } from './lock.ts';
import { withProgress } from './progress.ts';

const run = promisify(execFile);

/** Most output of a helper program that is kept. */
const outputBytesMax = 64 * 1024 * 1024;

export interface SystemUser {
  readonly uid: number;
  readonly gid: number;
}

/** Why a server cannot be had here. Skips a test locally and fails it with CI=true. */
export class Unavailable extends Error {
  override readonly name = 'Unavailable';
}

/** Runs a program to its end. @throws with its output when it fails */
export async function execute(
  command: string,
  args: readonly string[],
  options: {
    readonly cwd?: string;
    readonly env?: NodeJS.ProcessEnv;
    readonly user?: SystemUser | undefined;
    /** Stop it when this process ends; for what runs long and may be cut off. */
    readonly guarded?: boolean;
  } = {},
): Promise<string> {
  const { cwd, env, user, guarded = false } = options;
  try {
    const running = run(command, args, {
      maxBuffer: outputBytesMax,
      ...(cwd === undefined ? {} : { cwd }),
      ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
      env: { ...process.env, ...env },
    });
    const { pid } = running.child;
    if (!guarded || pid === undefined) return (await running).stdout;
    guardProcess(pid);
    return (await running.finally(() => releaseProcess(pid))).stdout;
  } catch (cause) {
    const { stderr, stdout } = cause as { stderr?: string; stdout?: string };
    const output = `${stdout ?? ''}${stderr ?? ''}`.trim().split('\n').slice(-20).join('\n');
    throw new Error(`Expected ${command} to succeed, got:\n${output}`, { cause });
  }
}

/** Path of an executable file, or undefined. */
export function executable(path: string): string | undefined {
  try {
    accessSync(path, constants.X_OK);
    return path;
  } catch {
    return undefined;
  }
}

/** Finds a program on PATH and in the folders where Debian keeps daemons. */
export function findProgram(name: string): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  for (const folder of [...folders, '/usr/local/sbin', '/usr/sbin']) {
    const path = executable(join(folder, name));
    if (path !== undefined) return path;
  }
  return undefined;
}

/** True for the user that databases refuse to run as. */
export const isRoot = (): boolean => process.getuid?.() === 0;

/** The first of `names` that exists in the system's user list; undefined when this process is not root. */
export function unprivilegedUser(names: readonly string[]): SystemUser | undefined {
  if (!isRoot()) return undefined;
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n');
  for (const name of [...names, 'nobody']) {
    const fields = lines.find((line) => line.startsWith(`${name}:`))?.split(':');
    if (fields !== undefined) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  throw new Unavailable(`Expected one of the users ${names.join(', ')}, nobody to exist, got none`);
}

/** Hands a folder to the user that the server runs as. */
export function give(folder: string, user: SystemUser | undefined): void {
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
}

/** True on Debian and its kin when packages may be installed. */
export const canInstall = (): boolean =>
  isRoot() && existsSync('/etc/debian_version') && findProgram('apt-get') !== undefined;

const noServices = '/usr/sbin/policy-rc.d';

/** Installs Debian packages without starting the services they bring. */
export async function install(packages: readonly string[]): Promise<void> {
  await withLock('apt', async () => {
    const env = { DEBIAN_FRONTEND: 'noninteractive' };
    const placed = !existsSync(noServices);
    if (placed) writeFileSync(noServices, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
    try {
      await withProgress(`installing ${packages.join(' ')} with apt-get`, async () => {
        await execute('apt-get', ['update', '-q'], { env });
        await execute('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...packages], { env });
      });
    } finally {
      if (placed) rmSync(noServices, { force: true });
    }
  });
}

/** True when a container engine answers. */
export async function containersRun(): Promise<boolean> {
  if (findProgram('docker') === undefined) return false;
  try {
    await execute('docker', ['info']);
    return true;
  } catch {
    return false;
  }
}
