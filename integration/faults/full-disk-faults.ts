// A database server whose tables are on a disk that is full; its log is on another one.

import { chmodSync, cpSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import mysql2 from 'mysql2/promise';
import { skipped } from '../servers/database.ts';
import { smallDisk } from '../servers/disk.ts';
import { engines, type SqlEngine } from '../servers/index.ts';
import { give } from '../servers/system.ts';
import { serverEngines, type Fault } from './fault.ts';
import { databaseBehindProxy, diskOf, serverOf, type Place } from './site.ts';

const diskMiB = 64;
/** Calls that failed, so that the fault was one. */
const failuresMin = 10;

/** Moves what will be the gateways' database to `folder`. */
const moving = {
  postgres: (url: string, folder: string) =>
    engines.postgres.administer(url, [
      `CREATE TABLESPACE small LOCATION '${folder}'`,
      'CREATE DATABASE faults TABLESPACE small',
    ]),
  mysql: async (uri: string, folder: string) => {
    const client = await mysql2.createConnection({ uri });
    try {
      await client.query('CREATE DATABASE faults');
      const [rows] = await client.query('SELECT @@datadir AS data');
      const database = join((rows as unknown as readonly { readonly data: string }[])[0]!.data, 'faults');
      cpSync(database, folder, { recursive: true, preserveTimestamps: true });
      rmSync(database, { recursive: true });
      symlinkSync(folder, database);
    } finally {
      client.destroy();
    }
  },
};

/** Not every machine with databases lets a test mount a disk: that is no failure. */
async function tablesOnSmallDisk(engine: SqlEngine): Promise<Place | undefined> {
  if (engine === 'sqlite') return undefined;
  await using parts = new AsyncDisposableStack();
  const disk = await skipped(() => smallDisk(diskMiB), false);
  if (disk === undefined) return undefined;
  parts.defer(() => disk.dispose());
  const place = await databaseBehindProxy(engine);
  if (place?.server === undefined) return undefined;
  parts.defer(() => place.dispose());
  const folder = join(disk.folder, 'tables');
  mkdirSync(folder);
  // The server is another user, and the folder above is its owner's alone.
  chmodSync(dirname(disk.folder), 0o711);
  give(folder, engines[engine].user());
  await moving[engine](place.server.url, folder);
  const all = parts.move();
  return { ...place, disk, dispose: () => all.disposeAsync() };
}

export const fullDisk: Fault = {
  name: 'disk of the tables full',
  engines: serverEngines,
  site: { place: tablesOnSmallDisk },
  async strike({ site, seconds, failures }) {
    const disk = diskOf(site);
    disk.fill();
    try {
      await failures(failuresMin);
      await sleep(seconds * 1000);
    } finally {
      disk.free();
    }
    // A server that could not write what it had to write may have ended itself. Somebody starts it again.
    await serverOf(site).start();
  },
};
