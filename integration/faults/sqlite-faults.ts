// What happens to SQLite's file: its disk is full or fails, and other programs use it.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseSqliteUrl } from '../../src/dialect/sqlite.ts';
import { skipped } from '../servers/database.ts';
import { smallDisk } from '../servers/disk.ts';
import type { SqlEngine } from '../servers/index.ts';
import type { Fault } from './fault.ts';
import { diskOf, type Place, type Site } from './site.ts';

const engines: readonly SqlEngine[] = ['sqlite'];
const diskMiB = 48;
/** Calls that failed, so that the fault was one. */
const failuresMin = 10;
const first = 0;
/** SQLite's code where somebody else has the lock. */
const busy = 5;

/** Not every machine with databases lets a test mount a disk: that is no failure. */
async function diskOfItsOwn(): Promise<Place | undefined> {
  const disk = await skipped(() => smallDisk(diskMiB), false);
  if (disk === undefined) return undefined;
  const url = `sqlite://${join(disk.folder, 'faults.db')}`;
  return { endpoint: () => url, disk, dispose: () => disk.dispose() };
}

const fileOf = ({ place }: Site) => parseSqliteUrl(place.endpoint(first));

const full: Fault = {
  name: 'disk full',
  engines,
  site: { place: diskOfItsOwn },
  async strike({ site, seconds, failures }) {
    const disk = diskOf(site);
    disk.fill();
    try {
      await failures(failuresMin);
      await sleep(seconds * 1000);
    } finally {
      disk.free();
    }
  },
};

/** As after an error of the disk. Somebody stops the gateways, looks after the disk, and starts them. */
const readOnly: Fault = {
  name: 'file system read-only',
  engines,
  site: { place: diskOfItsOwn },
  async strike({ site, seconds, failures, over }) {
    const disk = diskOf(site);
    disk.turnReadOnly();
    await failures(failuresMin);
    await sleep(seconds * 1000);
    await Promise.all(site.gateways.map((gateway) => gateway.kill('SIGTERM')));
    await disk.repair();
    over();
    await Promise.all(site.gateways.map((gateway) => gateway.restart()));
  },
};

/** A tool that writes, and takes its time. */
const locked: Fault = {
  name: 'file locked by another program',
  engines,
  async strike({ site, seconds }) {
    using file = new DatabaseSync(fileOf(site), { timeout: 10_000 });
    file.exec('BEGIN EXCLUSIVE');
    await sleep(seconds * 1000);
    file.exec('ROLLBACK');
  },
};

/** A backup, for example: what is written meanwhile cannot go from the log into the file. */
const read: Fault = {
  name: 'file read by another program',
  engines,
  async strike({ site, seconds, writes }) {
    using file = new DatabaseSync(fileOf(site), { timeout: 10_000, readOnly: true });
    file.exec('BEGIN');
    const count = file.prepare('SELECT count(*) AS count FROM switchyard_log');
    const before = count.get();
    await sleep(seconds * 1000);
    await writes(100);
    if (count.get()?.['count'] !== before?.['count']) throw new Error('Expected one state to be read');
    file.exec('ROLLBACK');
  },
};

/** SQLite's file itself changes only then. */
const killedWithinCheckpoint: Fault = {
  name: 'all gateways killed within a checkpoint',
  engines,
  async strike({ site, over }) {
    const changedAt = () => statSync(fileOf(site), { bigint: true }).mtimeNs;
    for (const before = changedAt(); changedAt() === before;) await sleep(1);
    await Promise.all(site.gateways.map((gateway) => gateway.kill('SIGKILL')));
    over();
    await Promise.all(site.gateways.map((gateway) => gateway.restart()));
  },
};

/**
 * Stopped while it has the lock of the file, which nobody takes from a process that lives: the others write again when it is
 * killed.
 */
const pausedAndKilled: Fault = {
  name: 'gateway paused within a write and killed',
  engines,
  async strike({ site, seconds, over }) {
    const gateway = site.gateways[first]!;
    using file = new DatabaseSync(fileOf(site), { timeout: 300 });
    const isLocked = () => {
      try {
        file.exec('BEGIN IMMEDIATE; ROLLBACK');
        return false;
      } catch (error) {
        if ((error as { readonly errcode?: number }).errcode === busy) return true;
        throw error;
      }
    };
    await gateway.kill('SIGSTOP');
    while (!isLocked()) {
      await gateway.kill('SIGCONT');
      await sleep(Math.random() * 20);
      await gateway.kill('SIGSTOP');
    }
    await sleep(seconds * 1000);
    await gateway.kill('SIGKILL');
    over();
    await gateway.restart();
  },
};

export const sqliteFaults: readonly Fault[] = [
  full,
  readOnly,
  locked,
  read,
  killedWithinCheckpoint,
  pausedAndKilled,
];
