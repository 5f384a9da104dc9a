// A wall clock that a test sets, for programs that it starts: a library of Debian that is loaded before them tells them the
// time. Their monotonic clocks go on as they are, as where somebody sets the clock of a machine.

import { chmodSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tempFolder } from './guard.ts';
import { canInstall, install, Unavailable } from './system.ts';

/** The clock of all programs that are started with `env`. */
export interface WallClock {
  readonly env: NodeJS.ProcessEnv;
  /** By so many seconds it is ahead of this machine's, from now on, for all of them; negative: behind. At first 0. */
  set(aheadSeconds: number): void;
}

const packages = ['faketime'];

/** The library, for this machine's kind of processor. */
function findLibrary(): string | undefined {
  const parent = '/usr/lib';
  return readdirSync(parent)
    .map((name) => join(parent, name, 'faketime'))
    .flatMap((folder) => {
      try {
        return readdirSync(folder).map((name) => join(folder, name));
      } catch {
        // Most folders have no such folder.
        return [];
      }
    })
    .find((path) => path.endsWith('libfaketimeMT.so.1'));
}

/** Installs the library where it is missing. @throws Unavailable */
export async function wallClock(): Promise<WallClock> {
  if (findLibrary() === undefined && canInstall()) await install(packages);
  const library = findLibrary();
  if (library === undefined)
    throw new Unavailable(`Expected a Debian with root rights to install ${packages.join(' ')}, got none`);
  const folder = tempFolder('clock');
  // Databases read it as users of their own.
  chmodSync(folder, 0o755);
  const file = join(folder, 'offset');
  const set = (aheadSeconds: number) => {
    // In one step: a half-written offset would be another.
    writeFileSync(`${file}.next`, `${aheadSeconds < 0 ? '' : '+'}${aheadSeconds}\n`);
    renameSync(`${file}.next`, file);
  };
  set(0);
  return {
    set,
    env: {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      // The setting is looked at whenever the time is asked for: processes of one machine have one clock.
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      // Its name in older releases.
      DONT_FAKE_MONOTONIC: '1',
    },
  };
}
