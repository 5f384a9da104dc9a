// Under which conditions figures were measured: without them they mean nothing.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir, totalmem } from 'node:os';
import { versions } from '../servers/versions.ts';

export interface Conditions {
  readonly at: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  /** Runnable processes of the last minute, before the run. */
  readonly load: number;
  readonly commit: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly settings: readonly string[];
}

function output(command: string, args: readonly string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    // The machine does not have it; the condition is then unknown.
    return 'unknown';
  }
}

function fileSystemOf(folder: string): string {
  try {
    const mounts = readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .map((line) => line.split(' '));
    const holding = mounts.filter(([, path = '']) => path === '/' || `${folder}/`.startsWith(`${path}/`));
    const best = holding.toSorted(([, a = ''], [, b = '']) => b.length - a.length)[0];
    return `${best?.[2] ?? 'unknown'} (${best?.[0] ?? 'unknown'})`;
  } catch {
    // No /proc on this system.
    return 'unknown';
  }
}

/** Of this machine, now. */
export function conditions(settings: readonly string[]): Conditions {
  const pg = output('sh', ['-c', 'ls /usr/lib/postgresql | sort -n | tail -1']);
  return {
    at: new Date().toISOString(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    load: loadavg()[0] ?? 0,
    commit: output('git', ['describe', '--always', '--dirty']),
    versions: {
      node: process.version,
      etcd: versions.etcd,
      kine: versions.kine,
      postgres: output(`/usr/lib/postgresql/${pg}/bin/postgres`, ['--version']),
      mysql: output('sh', ['-c', 'mariadbd --version || mysqld --version']),
      sqlite: process.versions['sqlite'] ?? 'unknown',
    },
    settings: [
      `data on ${fileSystemOf(tmpdir())}`,
      'databases: a server of its own for each target, with the defaults of its release; a commit is on the disk before it is acknowledged (Postgres fsync, synchronous_commit = on; InnoDB innodb_flush_log_at_trx_commit = 1; SQLite synchronous = FULL, for kine too, which has NORMAL by itself; etcd as it comes)',
      'kine with its own defaults but for the number of connections, which it does not limit (150, so that the database never refuses one); its table was filled by SQL while it ran, the others through the protocol of etcd with 100 puts a txn',
      'the load: a Go program with raw gRPC stubs, 4 connections, on the same machine',
      ...settings,
    ],
  };
}

/** A few lines for people. */
export function conditionLines(of: Conditions): readonly string[] {
  return [
    `${of.at}, commit ${of.commit}; ${of.cores} cores (${of.cpu}), ${of.memoryGiB} GiB, Linux ${of.kernel}, load before: ${of.load.toFixed(1)}`,
    Object.entries(of.versions)
      .map(([name, version]) => `${name} ${version}`)
      .join('; '),
    ...of.settings,
  ];
}
