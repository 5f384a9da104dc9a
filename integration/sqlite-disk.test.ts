// SQLite on a disk that is full, or that the kernel has stopped writing to: writes fail with etcd's own errors and leave nothing
// behind, reads and watches go on, and everything works again when there is room.

import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EtcdClient, RpcError } from './conformance/client.ts';
import { skipped } from './servers/database.ts';
import { smallDisk } from './servers/disk.ts';
import { startSwitchyard, waitFor } from './servers/index.ts';

const diskMiB = 48;
/** So large that the log of SQLite cannot hold many. */
const large = 'x'.repeat(500_000);
const noSpace = '8 etcdserver: mvcc: database space exceeded';
const timedOut = '14 etcdserver: request timed out';
const noWrites = '14 switchyard: the database takes no writes now';

async function openOnDisk(t: ExecutionContext) {
  // Not every machine lets a test mount a disk: that is no failure.
  const disk = await skipped(() => smallDisk(diskMiB), false);
  if (disk === undefined) return undefined;
  t.teardown(() => disk.dispose());
  const gateway = await startSwitchyard({ defaultEndpoint: `sqlite://${join(disk.folder, 'test.db')}` });
  t.teardown(() => gateway.dispose());
  const client = new EtcdClient(gateway.endpoint);
  t.teardown(() => client.close());
  return { disk, gateway, client };
}

async function errorOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'none';
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    return error.message;
  }
}

/** What does not write is answered, and shows that nothing came of what failed. */
async function reads(t: ExecutionContext, client: EtcdClient, revision: bigint): Promise<void> {
  const { kvs, header } = await client.range('a', { rangeEnd: 'z' });
  t.is(header.revision, revision);
  t.deepEqual(
    kvs.map(({ key, modRevision }) => `${key.toString()} ${modRevision}`),
    [`key ${revision}`],
  );
  t.is((await client.range('key', { revision: 2n })).kvs[0]!.modRevision, 2n);
  const stream = client.watchStream();
  await stream.create('a', { rangeEnd: 'z', startRevision: 2n });
  const events = await stream.events(Number(revision) - 1);
  t.is(events.at(-1)!.kv.modRevision, revision);
  t.is((await stream.progress(revision)).mark.header.revision, revision);
  stream.close();
}

test('sqlite: a full disk refuses writes as an etcd without space, and forgets them when there is room', async (t) => {
  t.timeout(120_000);
  const opened = await openOnDisk(t);
  if (opened === undefined) return void t.pass();
  const { disk, gateway, client } = opened;
  const { id } = await client.grant(600);
  let { revision } = (await client.put('key', large, { lease: id })).header;
  const stream = client.watchStream();
  t.teardown(() => stream.close());
  await stream.create('a', { rangeEnd: 'z' });
  disk.fill();
  const error = await waitFor(
    async () => {
      const told = await errorOf(client.put('key', large).then(({ header }) => (revision = header.revision)));
      return told === 'none' ? undefined : told;
    },
    { what: 'a write to fail' },
  );
  t.is(error, noSpace);
  t.is(await errorOf(client.delete('key')), noSpace);
  t.is(await errorOf(client.grant(600)), noSpace);
  await reads(t, client, revision);
  // A gateway that starts finds its file, too.
  await gateway.kill();
  await gateway.restart();
  await reads(t, client, revision);
  t.is(await errorOf(client.put('key', large)), noSpace);
  disk.free();
  t.is((await client.put('key', large)).header.revision, revision + 1n);
  await reads(t, client, revision + 1n);
});

test('sqlite: a disk that takes no writes any more fails them, and reads go on', async (t) => {
  t.timeout(120_000);
  const opened = await openOnDisk(t);
  if (opened === undefined) return void t.pass();
  const { disk, gateway, client } = opened;
  const { revision } = (await client.put('key', large)).header;
  disk.turnReadOnly();
  // Of the write that met the error nobody knows whether it will be there.
  t.is(await errorOf(client.put('key', large)), timedOut);
  t.is(await errorOf(client.put('key', large)), noWrites);
  t.is(await errorOf(client.grant(600)), noWrites);
  await reads(t, client, revision);
  await gateway.kill('SIGTERM');
  t.is(gateway.exitCode, 0, gateway.logs());
  await disk.repair();
  await gateway.restart();
  await reads(t, client, revision);
  t.is((await client.put('key', large)).header.revision, revision + 1n);
});
