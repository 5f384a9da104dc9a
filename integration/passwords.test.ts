// Passwords from files, as Kubernetes mounts secrets: one that was changed is used for the next connection, without a restart.

import test, { type ExecutionContext } from 'ava';
import { randomBytes } from 'node:crypto';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EtcdClient } from './conformance/client.ts';
import { Etcdctl } from './etcdctl.ts';
import { skipped } from './servers/database.ts';
import {
  engines,
  startSwitchyard,
  tempFolder,
  testDatabase,
  testEtcd,
  waitFor,
  type Switchyard,
} from './servers/index.ts';

/** A mounted secret: links to a link to the folder of the version that counts. */
interface Mounted {
  readonly path: string;
  replace(password: string): void;
}

function mounted(t: ExecutionContext, password: string): Mounted {
  const folder = tempFolder('secret');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  let version = 0;
  const replace = (text: string) => {
    const name = `..${++version}`;
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, 'password'), text);
    symlinkSync(name, join(folder, '..data_tmp'));
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
  };
  replace(password);
  symlinkSync(join('..data', 'password'), join(folder, 'password'));
  return { path: join(folder, 'password'), replace };
}

async function start(t: ExecutionContext, topology: string, defaultEndpoint?: string) {
  const gateway = await startSwitchyard({
    topology,
    ...(defaultEndpoint === undefined ? {} : { defaultEndpoint }),
  });
  t.teardown(() => gateway.dispose());
  const client = new EtcdClient(gateway.endpoint);
  t.teardown(() => client.close());
  return { gateway, client };
}

const readyText = async ({ metricsUrl }: Switchyard) => (await fetch(`${metricsUrl}/readyz?verbose`)).text();

/** Statements for a user of its own, in a database that is there. */
const accounts = {
  postgres: {
    create: (user: string, password: string, database: string) => [
      `CREATE USER ${user} PASSWORD '${password}'`,
      `ALTER DATABASE ${database} OWNER TO ${user}`,
    ],
    change: (user: string, password: string) => [
      `ALTER USER ${user} PASSWORD '${password}'`,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${user}'`,
    ],
    drop: (user: string) => [`DROP USER ${user}`],
  },
  mysql: {
    create: (user: string, password: string, database: string) => [
      `CREATE USER ${user}@'%' IDENTIFIED BY '${password}'`,
      `GRANT ALL ON ${database}.* TO ${user}@'%'`,
    ],
    change: (user: string, password: string) => [
      `ALTER USER ${user}@'%' IDENTIFIED BY '${password}'`,
      `KILL USER ${user}`,
    ],
    drop: (user: string) => [`DROP USER ${user}@'%'`],
  },
} as const;

for (const [engine, place] of [
  ['postgres', 'default'],
  ['mysql', 'backends'],
] as const) {
  test.serial(`${engine}: ${place}: a password that is changed is read from its file again`, async (t) => {
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    const administer = (statements: readonly string[]) =>
      engines[engine].administer(database.url, statements);
    const user = `gateway_${randomBytes(4).toString('hex')}`;
    const statements = accounts[engine];
    t.teardown(async () => {
      const elsewhere = new URL(database.url);
      elsewhere.pathname = engine === 'postgres' ? '/postgres' : '/mysql';
      await database.dispose();
      await engines[engine].administer(elsewhere.href, statements.drop(user));
    });
    const [first, second] = ['first p@ss/w:rd?%#', 'second “pass”'];
    await administer(statements.create(user, first, new URL(database.url).pathname.slice(1)));
    const secret = mounted(t, `${first}\n`);
    const url = new URL(database.url);
    Object.assign(url, { username: user, password: '' });
    const { gateway, client } =
      place === 'default'
        ? await start(t, `default: { endpoint: 'http://a:1', passwordFile: ${secret.path} }`, url.href)
        : await start(
            t,
            `backends:\n  - { name: db, endpoint: '${url.href}', passwordFile: ${secret.path}, prefix: { prefix: events } }`,
          );
    const key = '/registry/events/ns/one';
    await client.put(key, 'first');
    await administer(statements.change(user, second));
    const said = /(password authentication failed|Access denied)/u;
    await waitFor(async () => said.test(await readyText(gateway)), { what: 'the reason in /readyz' });
    secret.replace(second);
    await waitFor(async () => (await client.put(key, 'second'), true), {
      what: 'a write with the new password',
      details: () => gateway.logs(),
    });
    for (const password of [first, second]) t.false(gateway.logs().includes(password));
    rmSync(secret.path);
    await administer(statements.change(user, second));
    const absent = `Expected a file with a password, got "${secret.path}": no such file`;
    await waitFor(async () => (await readyText(gateway)).includes(absent), { what: 'it to be said' });
  });
}

test.serial('etcd: users that are switched on under a running gateway cost no call', async (t) => {
  const etcd = await skipped(() => testEtcd());
  if (etcd === undefined) return void t.pass();
  t.teardown(() => etcd.dispose());
  const secret = mounted(t, 'first\n');
  const topology = `default: { endpoint: 'http://a:1', passwordFile: ${secret.path} }`;
  const { client } = await start(t, topology, etcd.endpoint.replace('://', '://root@'));
  await client.put('key', '1');
  const ctl = await Etcdctl.of(etcd.endpoint);
  await ctl.run('user', 'add', 'root:first');
  await ctl.run('user', 'grant-role', 'root', 'root');
  await ctl.run('auth', 'enable');
  await client.put('key', '2');
  const { kvs } = await client.range('key');
  t.is(kvs[0]?.value.toString(), '2');
});

test.serial('etcd: a gateway logs in, and again when its token or password counts no more', async (t) => {
  const etcd = await skipped(() => testEtcd());
  if (etcd === undefined) return void t.pass();
  t.teardown(() => etcd.dispose());
  const ctl = await Etcdctl.of(etcd.endpoint);
  await ctl.run('user', 'add', 'root:first');
  await ctl.run('user', 'grant-role', 'root', 'root');
  await ctl.run('auth', 'enable');
  const secret = mounted(t, 'first\n');
  const url = etcd.endpoint.replace('://', '://root@');
  const topology = `default: { endpoint: 'http://a:1', passwordFile: ${secret.path} }`;
  const { gateway, client } = await start(t, topology, url);
  await client.put('key', '1');
  const stream = client.watchStream();
  t.teardown(() => stream.close());
  await stream.create('key');
  await client.put('key', '2');
  t.deepEqual(
    (await stream.events(1)).map(({ kv }) => kv.value.toString()),
    ['2'],
  );
  // Who has a name of its own speaks in that name: this one may do nothing.
  const admin = await Etcdctl.of(etcd.endpoint, ['--user=root:first']);
  await admin.run('user', 'add', 'nobody:nothing');
  const nobody = await Etcdctl.of(gateway.endpoint, ['--user=nobody:nothing']);
  t.regex((await nobody.attempt(['get', 'key'])).err, /permission denied/);
  // The token is over at once.
  secret.replace('second\n');
  t.is((await admin.attempt(['user', 'passwd', 'root', '--interactive=false'], 'second')).code, 0);
  await client.put('key', '3');
  // An etcd that was started again knows no token of before.
  await etcd.kill();
  await etcd.start();
  await waitFor(async () => (await client.put('key', '4'), true), { what: 'a write after the restart' });
  secret.replace('wrong\n');
  await etcd.kill();
  await etcd.start();
  await waitFor(async () => (await readyText(gateway)).includes('invalid user ID or password'), {
    what: 'the reason in /readyz',
    details: () => gateway.logs(),
  });
  for (const password of ['first', 'second', 'wrong']) t.false(gateway.logs().includes(password));
});
