// The server as a user that may do nothing, on a system it cannot write to but for its data folder, and what others may read of that.

import test from 'ava';
import { chmodSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EtcdClient } from './conformance/client.ts';
import { skipped } from './servers/database.ts';
import { freePort, tempFolder } from './servers/index.ts';
import { ServerProcess } from './servers/process.ts';
import { execute, give, Unavailable } from './servers/system.ts';

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const nobody = { uid: 65_534, gid: 65_534 };

/** As nobody, without any rights of root, now or later. $1: the folder that stays writable; then the command. */
const asNobody = `
mount --make-rprivate / && mount --bind "$1" "$1" && mount -o remount,ro,bind / && cd "$1" && shift &&
exec setpriv --reuid=${nobody.uid} --regid=${nobody.gid} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"`;

const wrapped = (folder: string, command: readonly string[]) =>
  ['--mount', 'sh', '-c', asNobody, 'sh', folder].concat(command);

/** @throws Unavailable where a process cannot be confined so, or could not read the program then. */
async function checkMachine(folder: string): Promise<void> {
  try {
    await execute('unshare', wrapped(folder, ['test', '-r', main]));
  } catch (cause) {
    throw new Unavailable('Expected unshare, setpriv, rights for them and a checkout that others may read', {
      cause,
    });
  }
}

/** Regular files that a process has open for writing. */
function writtenBy(pid: number): readonly string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    const path = readlinkSync(`/proc/${pid}/fd/${fd}`);
    const flags = Number.parseInt(
      /flags:\s+(\d+)/u.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))![1]!,
      8,
    );
    return path.startsWith('/') && !path.startsWith('/dev/') && (flags & 3) !== 0 ? [path] : [];
  });
}

test('unprivileged: serves as nobody, writes to its data folder alone, and lets nobody else read it', async (t) => {
  const [data, logs] = [tempFolder('nobody'), tempFolder('nobody-log')];
  t.teardown(() => {
    for (const folder of [data, logs]) rmSync(folder, { recursive: true, force: true });
  });
  chmodSync(data, 0o755);
  give(data, nobody);
  // Not every machine lets its processes be confined.
  const ready = await skipped(async () => (await checkMachine(data), true), false);
  if (ready === undefined) return void t.pass();
  const endpoint = `http://127.0.0.1:${await freePort()}`;
  const addresses = ['--listen-client-urls', endpoint, '--listen-metrics-urls='];
  const server = new ServerProcess({
    name: 'nobody',
    command: 'unshare',
    args: wrapped(data, [process.execPath, main, 'serve', ...addresses]),
    folder: logs,
    ready: async () => (await fetch(`${endpoint}/readyz`)).ok,
  });
  t.teardown(() => server.stop());
  await server.start();
  const client = new EtcdClient(endpoint);
  t.teardown(() => client.close());
  await client.put('key', 'value');
  t.is((await client.range('key')).count, 1);

  const status = readFileSync(`/proc/${server.pid}/status`, 'utf8');
  t.regex(status, /^Uid:\s+65534\s+65534\s+65534\s+65534$/mu);
  t.regex(status, /^NoNewPrivs:\s+1$/mu);
  for (const set of ['CapEff', 'CapPrm', 'CapBnd']) t.regex(status, new RegExp(`^${set}:\\s+0+$`, 'mu'));
  const outside = writtenBy(server.pid).filter((path) => !path.startsWith(data) && !path.startsWith(logs));
  t.deepEqual(outside, []);
  t.true(writtenBy(server.pid).includes(join(data, 'data/switchyard.db')));
  for (const name of readdirSync(join(data, 'data')))
    t.is(statSync(join(data, 'data', name)).mode & 0o077, 0, name);
  t.is(statSync(join(data, 'data')).mode & 0o077, 0);
});
