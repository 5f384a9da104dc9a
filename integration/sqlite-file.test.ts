// SQLite's file moved away, and replaced, under a gateway: nothing is acknowledged in a file that nobody finds again.

import { copyFileSync, existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { EtcdClient } from './conformance/client.ts';
import { startSwitchyard, tempFolder, waitFor } from './servers/index.ts';

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
