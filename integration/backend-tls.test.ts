// TLS towards the stores, both sides with certificates, and what becomes of it when these are replaced: what is not trusted any more is
// said, and files that are replaced are read when the next connection is made, without a restart.

import test, { type ExecutionContext } from 'ava';
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EtcdClient } from './conformance/client.ts';
import { createAuthority, type Authority } from './servers/authority.ts';
import { skipped } from './servers/database.ts';
import {
  engines,
  privateDatabaseServer,
  startSwitchyard,
  tempFolder,
  testEtcd,
  waitFor,
} from './servers/index.ts';
import { give } from './servers/system.ts';

/** The files of one side. */
interface Side {
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
}

/** A server that wants certificates of its authority. */
interface Secured {
  /** For a topology, with a login where there is one. */
  readonly url: string;
  /** Takes what its files are now; ends every connection. */
  restart(): Promise<void>;
  dispose(): Promise<void>;
}

const database = 'secured';

/** Where clients without TLS are the administrator alone. */
function hbaFile(folder: string): string {
  const path = join(folder, 'hba.conf');
  const lines = ['hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca'];
  lines.push('hostnossl all postgres 127.0.0.1/32 scram-sha-256');
  writeFileSync(path, `${lines.join('\n')}\n`);
  return path;
}

async function databaseServer(
  engine: 'postgres' | 'mysql',
  folder: string,
  side: Side,
): Promise<Secured | undefined> {
  const { caFile, certFile, keyFile } = side;
  const args =
    engine === 'postgres'
      ? [
          '-cssl=on',
          `-cssl_ca_file=${caFile}`,
          `-cssl_cert_file=${certFile}`,
          `-cssl_key_file=${keyFile}`,
        ].concat(`-chba_file=${hbaFile(folder)}`)
      : [`--ssl-ca=${caFile}`, `--ssl-cert=${certFile}`, `--ssl-key=${keyFile}`];
  const server = await privateDatabaseServer(engine, { args });
  if (server === undefined) return undefined;
  const chosen = engines[engine];
  const asUser =
    engine === 'postgres'
      ? [`CREATE USER gateway PASSWORD 'geheim' SUPERUSER`]
      : [`CREATE USER gateway@'%' IDENTIFIED BY 'geheim' REQUIRE X509`, `GRANT ALL ON *.* TO gateway@'%'`];
  await chosen.administer(server.url, [chosen.create(database), ...asUser]);
  const url = new URL(server.url);
  Object.assign(url, { username: 'gateway', password: 'geheim', pathname: `/${database}` });
  return {
    url: url.href,
    restart: async () => {
      await server.stop();
      await server.start();
    },
    dispose: () => server.dispose(),
  };
}

async function etcdServer(side: Side): Promise<Secured | undefined> {
  const etcd = await skipped(() => testEtcd({ tls: side }));
  return (
    etcd && {
      url: etcd.secureEndpoint,
      restart: async () => {
        await etcd.kill('SIGTERM');
        await etcd.start();
      },
      dispose: () => etcd.dispose(),
    }
  );
}

/** Writes what `authority` gives one side, into a folder that all may look into. */
function issue(
  folder: string,
  name: string,
  authority: Authority,
  engine: 'postgres' | 'mysql' | 'etcd',
): Side {
  const { cert, key } = authority.issue(name);
  const file = (ending: string, text: string) => {
    const path = join(folder, `${name}.${ending}`);
    writeFileSync(path, text);
    if (engine !== 'etcd') give(path, engines[engine].user());
    // Postgres takes no key that others may read.
    chmodSync(path, 0o600);
    return path;
  };
  return { caFile: file('ca', authority.cert), certFile: file('crt', cert), keyFile: file('key', key) };
}

/** Key of a type in the secured store. */
const key = '/registry/secured.example.com/things/ns/one';

async function onServer(t: ExecutionContext, engine: 'postgres' | 'mysql' | 'etcd') {
  const folder = tempFolder('backend-tls');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  chmodSync(folder, 0o755);
  const first = createAuthority('first authority');
  const side = issue(folder, 'server', first, engine);
  const server = engine === 'etcd' ? await etcdServer(side) : await databaseServer(engine, folder, side);
  if (server === undefined) return undefined;
  t.teardown(() => server.dispose());
  const { caFile, certFile, keyFile } = issue(folder, 'client', first, engine);
  const topology = `backends:
  - name: secured
    endpoint: ${server.url}
    customresource: { group: secured.example.com }
    backendTLS: { caFile: ${caFile}, certFile: ${certFile}, keyFile: ${keyFile} }
`;
  const gateway = await startSwitchyard({ topology });
  t.teardown(() => gateway.dispose());
  const client = new EtcdClient(gateway.endpoint);
  t.teardown(() => client.close());
  const ready = async () => (await fetch(`${gateway.metricsUrl}/readyz?verbose`)).text();
  return { folder, server, gateway, client, ready };
}

for (const engine of ['postgres', 'mysql', 'etcd'] as const) {
  test.serial(
    `${engine}: both sides show certificates, and new ones are taken without a restart`,
    async (t) => {
      t.timeout(240_000);
      const on = await onServer(t, engine);
      if (on === undefined) return void t.pass();
      const { folder, server, gateway, client, ready } = on;
      await client.put(key, 'before');
      const next = createAuthority('next authority');
      issue(folder, 'server', next, engine);
      await server.restart();
      // Nobody it trusts; and it is said.
      await waitFor(async () => /store\/secured failed: .*certificate/u.test(await ready()), {
        what: 'the reason in /readyz',
        details: () => gateway.logs(),
      });
      await t.throwsAsync(client.put(key, 'lost'));
      issue(folder, 'client', next, engine);
      await waitFor(async () => (await client.put(key, 'after'), true), {
        what: 'a write with new certificates',
        details: () => gateway.logs(),
      });
      const { kvs } = await client.range(key);
      t.deepEqual(
        kvs.map(({ value }) => value.toString()),
        ['after'],
      );
    },
  );
}
