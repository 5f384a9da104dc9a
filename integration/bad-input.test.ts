// What people get wrong, and what goes wrong around a server: a clear sentence, the right exit code, and a server that
// stays up for everything that still can be served. One after the other: each test starts whole processes and times them.

import test from 'ava';
import { spawn } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { connect } from 'node:net';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Etcdctl, outcomeOf, type Outcome } from './etcdctl.ts';
import { files } from './secured.ts';
import { createAuthority } from './servers/authority.ts';
import {
  freePort,
  privateDatabaseServer,
  startSwitchyard,
  tempFolder,
  testDatabase,
  waitFor,
} from './servers/index.ts';

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));

/** Runs switchyard to its end in a folder of its own. */
async function runSwitchyard(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const folder = tempFolder('usage');
  const child = spawn(process.execPath, [main, ...args], {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
  try {
    return await outcomeOf(child);
  } finally {
    clearTimeout(timer);
    rmSync(folder, { recursive: true, force: true });
  }
}

function topologyFile(t: { teardown(fn: () => void): void }, text: string): string {
  const folder = tempFolder('topology');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'topology.yml');
  writeFileSync(path, text);
  return path;
}

test.serial('start: unknown commands and flags are named, exit code 2', async (t) => {
  const command = await runSwitchyard(['serv']);
  t.is(command.code, 2);
  t.regex(command.err, /Expected one of serve, .* got serv/);
  const address = await runSwitchyard(['postgres://me:geheim@127.0.0.1/x']);
  t.is(address.code, 2);
  t.regex(address.err, /Expected one of serve, .* got a text that may hold a password/);
  const flag = await runSwitchyard(['serve', '--listen-clients-url', 'http://127.0.0.1:1']);
  t.is(flag.code, 2);
  t.regex(flag.err, /Expected a flag of switchyard serve .* got --listen-clients-url/);
  const several = await runSwitchyard(['--log-level=loud', '--listen-client-urls=nowhere']);
  t.is(several.code, 2);
  t.is(several.err.match(/Expected/gu)?.length, 2);
});

test.serial('start: --help and --version answer on standard output, exit code 0', async (t) => {
  const help = await runSwitchyard(['--help']);
  t.is(help.code, 0);
  t.regex(help.out, /--listen-client-urls/);
  const version = await runSwitchyard(['--version']);
  t.is(version.code, 0);
  t.regex(version.out, /^\d+\.\d+\.\d+\n$/);
});

test.serial('start: a remote address without TLS needs a word from the operator', async (t) => {
  const { code, err } = await runSwitchyard(['serve', '--listen-client-urls=http://0.0.0.0:2379']);
  t.is(code, 2);
  t.regex(err, /--insecure-allow-remote/);
});

test.serial('start: mistakes in the topology are named with their lines, all at once', async (t) => {
  const path = topologyFile(
    t,
    [
      'default: http://127.0.0.1:1',
      'backend: []',
      'backends:',
      '  - endpoint: mongodb://127.0.0.1/db',
      '    customresource: { group: a.example.com }',
    ].join('\n'),
  );
  const { code, err } = await runSwitchyard(['serve', '--topology', path]);
  t.is(code, 2);
  t.regex(err, /:2.*Expected .*got backend/);
  t.regex(err, /:4.*Expected .*mongodb/);
});

test.serial('start: a topology file that is not there or is a folder is named, exit code 2', async (t) => {
  const absent = await runSwitchyard(['serve', '--topology', '/nowhere/topology.yml']);
  t.is(absent.code, 2);
  t.regex(absent.err, /\/nowhere\/topology\.yml: Expected a file that can be read/);
  const folder = tempFolder('topology');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'topology.yml'));
  const directory = await runSwitchyard(['serve', '--topology', join(folder, 'topology.yml')]);
  t.is(directory.code, 2);
  t.regex(directory.err, /topology\.yml: Expected a file that can be read/);
});

test.serial('start: an endpoint of an unknown scheme is refused without its password', async (t) => {
  const { code, err } = await runSwitchyard([
    'serve',
    '--default-endpoint',
    'oracle://me:geheim@127.0.0.1/x',
  ]);
  t.is(code, 2);
  t.regex(err, /Expected .*oracle/);
  t.notRegex(err, /geheim/);
});

test.serial("start: switchyard's own address as an etcd is refused", async (t) => {
  const own = await runSwitchyard(['serve', '--default-endpoint', 'http://localhost:2379']);
  t.is(own.code, 2);
  t.regex(own.err, /Expected the address of an etcd for store default, got http:\/\/localhost:2379/);
});

test.serial("start: switchyard's own address under the name of the machine is refused", async (t) => {
  const name = hostname();
  const found = await lookup(name).catch(() => undefined);
  if (found === undefined) {
    t.pass(`skipped: nobody knows the address of ${name}`);
    return;
  }
  const own = await runSwitchyard([
    'serve',
    '--listen-client-urls=http://0.0.0.0:2379',
    '--insecure-allow-remote',
    `--default-endpoint=http://${name}:2379`,
  ]);
  t.is(own.code, 2);
  t.regex(own.err, /Expected the address of an etcd for store default, got http:.* switchyard's own/);
});

test.serial('start: a folder that cannot be written is named at once, exit code 1', async (t) => {
  const { code, err } = await runSwitchyard(['serve', '--default-endpoint', 'sqlite:///dev/null/a/b.db']);
  t.is(code, 1);
  t.regex(err, /Expected a folder that can be written for store default, got \/dev\/null\/a/);
});

test.serial('start: an address in use is named, exit code 1', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as { port: number };
  const { code, err } = await runSwitchyard([
    'serve',
    `--listen-client-urls=http://127.0.0.1:${port}`,
    '--listen-metrics-urls=',
  ]);
  t.is(code, 1);
  t.regex(err, new RegExp(`Expected a free address, got 127\\.0\\.0\\.1:${port}`));
});

// Who mounts it may be late: a supervisor is to try again.
test.serial(
  'start: a file that a topology names and that cannot be read is named, exit code 1',
  async (t) => {
    const text = 'default: { endpoint: "https://u@127.0.0.1:1", passwordFile: /nowhere/password';
    const names = (more: string) => runSwitchyard(['serve', '--topology', topologyFile(t, text + more)]);
    const { code, err } = await names(' }\n');
    t.is(code, 1);
    t.regex(err, /:1: Expected passwordFile to be a file that can be read, got \/nowhere\/password: no such/);
    t.is((await names(', oops: 1 }\n')).code, 2);
  },
);

test.serial('start: whoever lets in clients without a certificate from elsewhere is told', async (t) => {
  const authority = createAuthority('an authority');
  const { cert, key } = authority.issue('switchyard');
  const { folder, write } = files();
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const own = ['--cert-file', write('server.crt', cert), '--key-file', write('server.key', key)];
  const started = async (...more: readonly string[]) => {
    const url = `https://0.0.0.0:${await freePort()}`;
    const gateway = await startSwitchyard({ args: ['--listen-client-urls', url, ...own, ...more] });
    t.teardown(() => gateway.dispose());
    return gateway.logs();
  };
  t.regex(await started(), /clients need no certificate: whoever reaches .*https:\/\/0\.0\.0\.0:/);
  const asked = await started('--trusted-ca-file', write('ca.crt', authority.cert));
  t.notRegex(asked, /clients need no certificate/);
});

test.serial('start: a certificate that cannot be read is named, exit code 1', async (t) => {
  const { code, err } = await runSwitchyard([
    'serve',
    '--listen-client-urls=https://127.0.0.1:0',
    '--listen-metrics-urls=',
    '--cert-file=/nowhere/tls.crt',
    '--key-file=/nowhere/tls.key',
  ]);
  t.is(code, 1);
  t.regex(err, /Expected a readable PEM file, got \/nowhere\/tls\.crt: no such file/);
});

for (const engine of ['postgres', 'mysql'] as const) {
  test.serial(`${engine}: a wrong password leaves the server up, not ready, and says why`, async (t) => {
    const database = await testDatabase(engine);
    if (database === undefined) {
      t.pass('no server');
      return;
    }
    t.teardown(() => database.dispose());
    const url = new URL(database.url);
    // A user that does not exist: some servers let administrators in over loopback without any password.
    url.username = 'nobody_at_all';
    url.password = 'geheim';
    const gateway = await startSwitchyard({
      until: 'listening',
      topology: `backends:\n  - name: shop\n    endpoint: ${url.href}\n    customresource: { group: shop.example.com }\n`,
    });
    t.teardown(() => gateway.dispose());
    const ctl = await Etcdctl.of(gateway.endpoint);
    await ctl.run('put', '/registry/configmaps/default/a', 'b');
    const ready = await waitFor(
      async () => {
        const response = await fetch(`${gateway.metricsUrl}/readyz`);
        const text = await response.text();
        return text.includes('nobody_at_all') ? { status: response.status, text } : undefined;
      },
      { what: 'the reason in /readyz', details: () => gateway.logs() },
    );
    t.is(ready.status, 503);
    t.regex(ready.text, /^\[\+\]store\/default ok$/m);
    const failed = await ctl.attempt(['put', '/registry/shop.example.com/carts/a', 'b']);
    t.not(failed.code, 0);
    t.regex(gateway.logs(), /nobody_at_all/);
    t.notRegex(gateway.logs() + ready.text, /geheim/);
    await ctl.run('get', '/registry/configmaps/default/a');
  });
}

test.serial('postgres: down at the start, the others serve; up again, it serves too', async (t) => {
  const server = await privateDatabaseServer('postgres');
  if (server === undefined) {
    t.pass('no server');
    return;
  }
  t.teardown(() => server.dispose());
  await server.stop();
  const url = new URL(server.url);
  url.pathname = '/created_by_switchyard';
  const gateway = await startSwitchyard({
    until: 'listening',
    topology: `backends:\n  - name: shop\n    endpoint: ${url.href}\n    customresource: { group: shop.example.com }\n`,
  });
  t.teardown(() => gateway.dispose());
  const ctl = await Etcdctl.of(gateway.endpoint);
  await ctl.run('put', '/registry/configmaps/default/a', 'b');
  t.is((await fetch(`${gateway.metricsUrl}/readyz`)).status, 503);
  t.is((await fetch(`${gateway.metricsUrl}/livez`)).status, 200);
  await server.start();
  await waitFor(async () => (await fetch(`${gateway.metricsUrl}/readyz`)).ok, {
    what: 'the store to be reached',
    details: () => gateway.logs(),
  });
  t.is(await ctl.run('put', '/registry/shop.example.com/carts/a', 'b'), 'OK\n');
});

test.serial(
  'requests: too large, over two stores, garbage: refused clearly, the server goes on',
  async (t) => {
    const folder = tempFolder('two-stores');
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const gateway = await startSwitchyard({
      topology: `backends:\n  - name: shop\n    endpoint: sqlite://${join(folder, 'shop.db')}\n    customresource: { group: shop.example.com }\n`,
    });
    t.teardown(() => gateway.dispose());
    const ctl = await Etcdctl.of(gateway.endpoint);
    const large = await ctl.attempt(
      ['put', '/registry/shop.example.com/carts/big'],
      'x'.repeat(1.6 * 1024 * 1024),
    );
    t.not(large.code, 0);
    t.regex(large.err, /etcdserver: request is too large/);
    await ctl.run('put', '/registry/shop.example.com/carts/a', 'b');
    const across = await ctl.attempt(['get', '/registry/', '--prefix']);
    t.not(across.code, 0);
    t.regex(across.err, /default.*shop|shop.*default/);
    const port = Number(new URL(gateway.endpoint).port);
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    socket.write(Buffer.from('\u0016\u0003\u0001 garbage \r\n\r\n'));
    socket.resume();
    await once(socket, 'close');
    t.deepEqual(await ctl.run('get', '/registry/shop.example.com/carts/a', '--print-value-only'), 'b\n');
    t.true(gateway.running);
  },
);

test.serial('stop: SIGTERM ends watches with Unavailable and exits 0', async (t) => {
  const folder = tempFolder('stop');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const endpoint = `http://127.0.0.1:${await freePort()}`;
  const child = spawn(
    process.execPath,
    [main, '--listen-client-urls', endpoint, '--listen-metrics-urls', '', '--log-format', 'json'],
    { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const ended = outcomeOf(child);
  t.teardown(() => child.kill('SIGKILL'));
  await waitFor(async () => (await fetch(`${endpoint}/readyz`)).ok, { what: 'switchyard' });
  const ctl = await Etcdctl.of(endpoint);
  const watch = ctl.start(['watch', '/a']);
  t.teardown(() => watch.kill());
  await ctl.run('put', '/b', 'c');
  const started = performance.now();
  child.kill('SIGTERM');
  const { code, out } = await ended;
  t.is(code, 0);
  t.true(performance.now() - started < 8_000);
  t.regex(out, /^switchyard \d+\.\d+\.\d+ serves http.* from default = sqlite:/);
});
