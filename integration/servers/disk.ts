// A disk of its own for a test: a small file system in a file, mounted by root. It can be filled, and the kernel can be made to
// stop writing to it, as after an error of a real disk.

import {
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { guardMount, tempFolder } from './guard.ts';
import { execute, findProgram, isRoot, Unavailable } from './system.ts';

export interface Disk {
  /** Where it is mounted. */
  readonly folder: string;
  /** Leaves no byte free. */
  fill(): void;
  /** Takes back what `fill` has put there. */
  free(): void;
  /** From now on every write fails, also to files that are open, until `repair`. */
  turnReadOnly(): void;
  /** Nobody may have a file open on it. */
  repair(): Promise<void>;
  dispose(): Promise<void>;
}

const mebibyte = 1024 * 1024;
/** What it is filled with at last; a file system counts in blocks of this size, or larger. */
const blockBytes = 1024;

/** @throws Unavailable where this process may mount nothing */
export async function smallDisk(sizeMiB: number): Promise<Disk> {
  const mkfs = findProgram('mkfs.ext4');
  if (!isRoot() || mkfs === undefined)
    throw new Unavailable('Expected root rights and mkfs.ext4 for a disk of its own, got none');
  const parent = tempFolder('disk');
  const [image, folder] = [join(parent, 'image'), join(parent, 'disk')];
  writeFileSync(image, '');
  truncateSync(image, sizeMiB * mebibyte);
  mkdirSync(folder);
  await execute(mkfs, ['-q', '-m', '0', '-E', 'lazy_itable_init=0', image]);
  const mount = async () => {
    await execute('mount', ['-o', 'loop,errors=remount-ro', image, folder]);
  };
  try {
    await mount();
  } catch (cause) {
    rmSync(parent, { recursive: true, force: true });
    throw new Unavailable(`Expected to mount a disk of its own, got:\n${(cause as Error).message}`, {
      cause,
    });
  }
  guardMount(folder);
  const unmount = () => execute('umount', [folder]);
  const ballast = join(folder, 'ballast');
  return {
    folder,
    fill: () => fill(ballast),
    free: () => rmSync(ballast),
    turnReadOnly: () => writeFileSync(`/sys/fs/ext4/${basename(deviceOf(folder))}/trigger_fs_error`, 'test'),
    repair: async () => {
      await unmount();
      // The exit code 1 of e2fsck says that there was something to mend.
      await execute('sh', ['-c', '"$0" -y "$1" || [ $? -eq 1 ]', findProgram('e2fsck') ?? 'e2fsck', image]);
      await mount();
    },
    dispose: async () => {
      await unmount();
      rmSync(parent, { recursive: true, force: true });
    },
  };
}

function deviceOf(folder: string): string {
  const lines = readFileSync('/proc/mounts', 'utf8').split('\n');
  const device = lines.map((line) => line.split(' ')).find(([, where]) => where === folder)?.[0];
  if (device === undefined) throw new Error(`Expected ${folder} to be mounted, it is not`);
  return device;
}

function fill(path: string): void {
  const file = openSync(path, 'w');
  try {
    for (let bytes = mebibyte; bytes >= blockBytes; bytes /= 2) {
      const piece = Buffer.alloc(bytes);
      while (hasRoomFor(file, piece));
    }
  } finally {
    closeSync(file);
  }
}

function hasRoomFor(file: number, piece: Buffer): boolean {
  try {
    return writeSync(file, piece) === piece.length;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return false;
    throw error;
  }
}
