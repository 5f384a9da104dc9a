// SQLite's file moved away, and replaced, under a gateway: nothing is acknowledged in a file that nobody finds again. And to whom a new one belongs.

import { chownSync, copyFileSync, existsSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { EtcdClient } from './conformance/client.ts';
import { startSwitchyard, tempFolder, waitFor } from './servers/index.ts';
import { dialects, pool } from './stores.ts';

test('sqlite: a file that is moved or replaced under a gateway is neither written nor read', async (t) => {
  t.timeout(120_000);
  const folder = tempFolder('file');
  const [path, moved, copy] = ['test.db', 'moved.db', 'copy.db'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const gateway = await startSwitchyard({ defaultEndpoint: `sqlite://${path}` });
  t.teardown(() => gateway.dispose());
  const client = new EtcdClient(gateway.endpoint);
  t.teardown(() => client.close());
  const stops = async () => {
    const write = await t.throwsAsync(client.put('lost', ''));
    t.is(write.message, '14 etcdserver: request timed out');
    await waitFor(
      () =>
        client
          .range('key')
          .then(() => false)
          .catch(() => true),
      { what: 'reads to fail' },
    );
  };

  const { revision } = (await client.put('key', 'first')).header;
  renameSync(path, moved);
  await stops();
  t.false(existsSync(path), 'no other file is made in its place');
  renameSync(moved, path);
  t.is((await client.range('key')).header.revision, revision);
  t.is((await client.put('key', 'second')).header.revision, revision + 1n);

  // Stopped, the file is whole by itself.
  await gateway.kill('SIGTERM');
  copyFileSync(path, copy);
  await gateway.restart();
  await client.put('key', 'third');
  renameSync(copy, path);
  await stops();
  await gateway.kill('SIGTERM');
  t.is(gateway.exitCode, 0, gateway.logs());
});

test('sqlite: what root makes belongs to whom the folder belongs to', async (t) => {
  if (process.getuid!() !== 0) return void t.pass();
  const [folder, owner] = [tempFolder('owner'), 65_534];
  chownSync(folder, owner, owner);
  const path = join(folder, 'made.db');
  const driver = dialects.sqlite.open({ url: `sqlite://${path}`, pool });
  await driver.query({ name: 'test', text: 'CREATE TABLE items (n integer)' }, []);
  for (const file of [path, `${path}-wal`, `${path}-shm`]) {
    const { uid, gid, mode } = statSync(file);
    t.deepEqual({ file, uid, gid, mode: mode & 0o077 }, { file, uid: owner, gid: owner, mode: 0 });
  }
  await driver.close();
});
