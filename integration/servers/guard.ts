// Makes sure that nothing outlives the tests. One small shell process per test process holds the other end of a pipe;
// however this process or its worker thread ends (also by SIGKILL), the pipe closes, and the guard stops what was not
// stopped and removes temp folders. It runs in its own process group, so Ctrl-C does not take it along.

import { spawn } from 'node:child_process';
import { mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';

// SIGQUIT first: Postgres shuts down at once and frees its shared memory, everything else ends as well.
const script = `
pids=" "; dirs=""; containers=" "; mounts=""
while read -r verb what; do
  case $verb in
    pid) pids="$pids$what " ;;
    gone) pids="\${pids%% $what *} \${pids#* $what }" ;;
    dir) dirs="$dirs$what
" ;;
    container) containers="$containers$what " ;;
    mount) mounts="$mounts$what
" ;;
  esac
done
for pid in $pids; do kill -QUIT "$pid" 2>/dev/null; done
for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
  left=""
  for pid in $pids; do kill -0 "$pid" 2>/dev/null && left="$left $pid"; done
  [ -z "$left" ] && break
  sleep 0.1
done
for pid in $left; do kill -KILL "$pid" 2>/dev/null; done
for container in $containers; do docker rm -f "$container" >/dev/null 2>&1; done
printf %s "$mounts" | while read -r mount; do umount "$mount" 2>/dev/null || umount -l "$mount" 2>/dev/null; done
printf %s "$dirs" | while read -r dir; do rm -rf "$dir" || { sleep 1; rm -rf "$dir"; }; done
`;

let pipe: Writable | undefined;

function tell(line: string): void {
  if (pipe === undefined) {
    const guard = spawn('/bin/sh', ['-c', script], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
    guard.unref();
    pipe = guard.stdin;
    // A guard that was killed by hand costs the clean-up, not the tests.
    pipe.on('error', () => undefined);
    if ('unref' in pipe && typeof pipe.unref === 'function') pipe.unref();
  }
  pipe.write(`${line}\n`);
}

/** The guard stops this process at the end. */
export const guardProcess = (pid: number): void => tell(`pid ${pid}`);

/** The process has ended; its id may be somebody else's soon. */
export const releaseProcess = (pid: number): void => tell(`gone ${pid}`);

/** The guard removes this container at the end. */
export const guardContainer = (id: string): void => tell(`container ${id}`);

/** The guard unmounts this folder at the end. */
export const guardMount = (folder: string): void => tell(`mount ${folder}`);

/** A fresh temp folder, removed at the end. */
export function tempFolder(label: string): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), `switchyard-${label}-`)));
  tell(`dir ${folder}`);
  return folder;
}
