// `--workers`: several processes behind one address. All of them serve, one that ends is followed by another, a stop is one
// stop, and what cannot be started is said once.

import test, { type ExecutionContext } from 'ava';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EtcdClient } from './conformance/client.ts';
import { Etcdctl, outcomeOf, type Outcome } from './etcdctl.ts';
import { createAuthority } from './servers/authority.ts';
import { childrenOf, gone } from './servers/children.ts';
import { freePort, tempFolder, waitFor } from './servers/index.ts';

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const listeners = fileURLToPath(new URL('listener-workers.ts', import.meta.url));
const clientsMax = 8;

interface Running {
  readonly endpoint: string;
  readonly metricsPort: number;
  readonly folder: string;
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
  /** Everything said so far. */
  readonly said: () => string;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** Of so many in a row the first. */
async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = await freePort();
    const rest = Array.from({ length: count - 1 }, (_, index) => isFree(first + index + 1));
    if ((await Promise.all(rest)).every(Boolean)) return first;
  }
}

/** Starts switchyard with two workers, unless told otherwise, on an SQLite file of its own. */
async function start(t: ExecutionContext, args: readonly string[] = [], scheme = 'http'): Promise<Running> {
  const folder = tempFolder('workers');
  const endpoint = `${scheme}://127.0.0.1:${await freePort()}`;
  const metricsPort = await freePorts(2);
  const child = spawn(
    process.execPath,
    [
      main,
      `--default-endpoint=sqlite://${join(folder, 'default.db')}`,
      `--listen-client-urls=${endpoint}`,
      `--listen-metrics-urls=http://127.0.0.1:${metricsPort}`,
      '--workers=2',
      ...args,
    ],
    { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (part: Buffer) => (said += part.toString()));
  const ended = outcomeOf(child);
  t.teardown(async () => {
    const left = child.exitCode === null ? childrenOf(child.pid!) : [];
    child.kill('SIGKILL');
    await ended;
    // Without a supervisor they end by themselves.
    await gone(left);
    rmSync(folder, { recursive: true, force: true });
  });
  return { endpoint, metricsPort, folder, child, ended, said: () => said };
}

async function serving(running: Running): Promise<Running> {
  await waitFor(() => running.said().includes(' serves ') || running.child.exitCode !== null, {
    what: 'both workers to serve',
    details: running.said,
  });
  if (running.child.exitCode !== null) throw new Error(`Expected a server, got ${running.said()}`);
  return running;
}

async function metric(port: number, line: RegExp): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return Number(line.exec(text)?.[1] ?? 0);
}

const putsOf = (port: number) =>
  metric(port, /handled_total\{[^}]*grpc_method="Put",[^}]*grpc_code="OK"\} (\d+)/);

test.serial('workers: all serve, as one member over one store', async (t) => {
  const { endpoint, metricsPort } = await serving(await start(t));
  const clients = Array.from({ length: clientsMax }, () => new EtcdClient(endpoint));
  t.teardown(() => clients.forEach((client) => client.close()));
  for (const [index, client] of clients.entries()) {
    await client.put(`workers/${index}`, 'x');
    // What any of them has acknowledged, all of them know.
    for (const other of clients) t.is((await other.range(`workers/${index}`)).count, 1);
  }
  const puts = [await putsOf(metricsPort), await putsOf(metricsPort + 1)];
  t.deepEqual(puts, [clientsMax / 2, clientsMax / 2], 'connections go to the workers in turn');
  for (const [index, port] of [metricsPort, metricsPort + 1].entries())
    t.is(await metric(port, new RegExp(`build_info\\{.*worker="${index + 1}"\\} (1)`)), 1);
  const members = await Promise.all(clients.map(async (client) => (await client.status()).header.memberId));
  t.is(new Set(members).size, 1);
});

test.serial('workers: one that is killed is started again, and the other serves meanwhile', async (t) => {
  const running = await serving(await start(t));
  const { endpoint, metricsPort, child } = running;
  const [first, second] = childrenOf(child.pid!).toSorted((a, b) => a - b);
  t.not(second, undefined);
  process.kill(second!, 'SIGKILL');
  await gone([second!]);
  const client = new EtcdClient(endpoint);
  t.teardown(() => client.close());
  await client.put('still', 'here');
  const answers = () =>
    metric(metricsPort + 1, /build_info\{.*worker="2"\} (1)/).then(
      (found) => found === 1,
      () => false,
    );
  await waitFor(answers, { what: 'another worker in its place', details: running.said });
  t.true(childrenOf(child.pid!).includes(first!));
  t.regex(running.said(), /worker ended and is started again.*"worker":2.*"signal":"SIGKILL"/);
});

test.serial('workers: one that cannot be begun for want of room is begun later', async (t) => {
  const running = await serving(await start(t));
  const { endpoint, child } = running;
  /** So many files the supervisor may open; those that it has open stay. */
  const limit = (files: number) => execFileSync('prlimit', [`--pid=${child.pid}`, `--nofile=${files}:`]);
  limit(3);
  const killed = childrenOf(child.pid!)[0]!;
  process.kill(killed, 'SIGKILL');
  const what = 'an attempt that fails';
  await waitFor(() => /worker cannot be begun/.test(running.said()), { what, details: running.said });
  limit(1024);
  await waitFor(() => childrenOf(child.pid!).length === 2, { what: 'both workers', details: running.said });
  t.is(child.exitCode, null);
  const client = new EtcdClient(endpoint);
  t.teardown(() => client.close());
  await client.put('still', 'here');
});

test.serial('workers: a signal before all serve is a stop, and nothing is begun after it', async (t) => {
  const { child, ended, said } = await start(t, ['--workers=8']);
  await waitFor(() => childrenOf(child.pid!).length > 0 || child.exitCode !== null, {
    what: 'the first worker',
    details: said,
  });
  child.kill('SIGTERM');
  const { code, err } = await ended;
  t.is(code, 0, err);
  t.notRegex(err, /"worker":[2-8]/);
});

test.serial('workers: a stop ends the streams of all, and then all of them, with exit code 0', async (t) => {
  const running = await serving(await start(t));
  const clients = Array.from({ length: 4 }, () => new EtcdClient(running.endpoint));
  t.teardown(() => clients.forEach((client) => client.close()));
  const ctl = await Promise.all(clients.map(() => Etcdctl.of(running.endpoint)));
  const watches = ctl.map((each) => each.start(['watch', '--prefix', 'workers/']));
  t.teardown(() => watches.forEach((watch) => watch.kill()));
  await waitFor(
    async () => {
      const open = /switchyard_streams\{[^}]*grpc_service="etcdserverpb\.Watch",grpc_method="Watch"\} (\d+)/;
      return (
        (await metric(running.metricsPort, open)) > 0 && (await metric(running.metricsPort + 1, open)) > 0
      );
    },
    { what: 'watches at both workers' },
  );
  const workers = childrenOf(running.child.pid!);
  running.child.kill('SIGTERM');
  const { code, err } = await running.ended;
  t.is(code, 0, err);
  t.is(err.match(/"message":"stopped"/gu)?.length, 3, 'each worker and the supervisor');
  await gone(workers);
});

test.serial('workers: a signal to the whole family, as from a terminal, is one stop', async (t) => {
  const { child, ended } = await serving(await start(t));
  for (const worker of childrenOf(child.pid!)) process.kill(worker, 'SIGINT');
  child.kill('SIGINT');
  const { code, err } = await ended;
  t.is(code, 0, err);
  t.notRegex(err, /stopped at once/);
});

test.serial('workers: connections beyond the bound are closed and counted', async (t) => {
  const port = await freePort();
  const child = spawn(process.execPath, [listeners, String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = outcomeOf(child);
  t.teardown(async () => {
    const left = childrenOf(child.pid!);
    child.kill('SIGKILL');
    await ended;
    await gone(left);
  });
  let said = '';
  child.stdout.on('data', (part: Buffer) => (said += part.toString()));
  const count = (word: string) => said.split('\n').filter((line) => line === word).length;
  await waitFor(() => count('listens') === 2, { what: 'both to listen', details: () => said });
  let closed = 0;
  const sockets = Array.from({ length: 5 }, () => connect(port, '127.0.0.1'));
  for (const socket of sockets) {
    socket.on('error', () => undefined);
    socket.on('close', () => closed++);
    t.teardown(() => socket.destroy());
  }
  const what = 'three of five to be refused';
  await waitFor(() => closed === 3 && count('refused') === 3, { what, details: () => `${closed} ${said}` });
  t.deepEqual([closed, count('refused'), count('listens')], [3, 3, 2]);
});

test.serial('workers: with TLS', async (t) => {
  const folder = tempFolder('certificates');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const authority = createAuthority('test authority');
  const server = authority.issue('switchyard');
  const files = { ca: authority.cert, cert: server.cert, key: server.key };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const tls = [`--cert-file=${join(folder, 'cert')}`, `--key-file=${join(folder, 'key')}`];
  const { endpoint } = await serving(await start(t, tls, 'https'));
  const ctl = await Etcdctl.of(endpoint, [`--cacert=${join(folder, 'ca')}`]);
  for (const key of ['a', 'b', 'c']) t.is(await ctl.run('put', key, 'x'), 'OK\n');
});

test.serial('workers: what is wrong is said once, with its exit code', async (t) => {
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [['--workers=0'], 2, /Expected a whole number from 1 to 64 for --workers, got 0/gu],
    [['--workers=two'], 2, /Expected a whole number .* got two/gu],
    [
      ['--listen-metrics-urls=http://127.0.0.1:65535'],
      2,
      /Expected ports 65535 to 65536 .* got none above/gu,
    ],
    [['--topology=/nowhere/topology.yml'], 2, /Expected a file that can be read/gu],
    [['--default-endpoint=oracle://127.0.0.1/x'], 2, /Expected .*oracle/gu],
    [['--default-endpoint=sqlite:///proc/nowhere/x.db'], 1, /Expected a folder that can be written/gu],
  ];
  for (const [args, code, message] of cases) {
    const { ended } = await start(t, args);
    const outcome = await ended;
    t.is(outcome.code, code, outcome.err);
    t.is(outcome.err.match(message)?.length, 1, outcome.err);
  }
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  t.teardown(() => taken.close());
  const { port } = taken.address() as { port: number };
  const { ended } = await start(t, [`--listen-client-urls=http://127.0.0.1:${port}`]);
  const { code, err } = await ended;
  t.is(code, 1);
  t.is(err.match(/Expected a free address, got 127\.0\.0\.1:/gu)?.length, 1, err);
});
