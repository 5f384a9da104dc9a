// TLS on the client port: who is let in, which versions, and a certificate that is replaced while the server runs.

import test from 'ava';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { get, type RequestOptions } from 'node:https';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { createAuthority, type Certificate } from './servers/authority.ts';
import { Etcdctl } from './etcdctl.ts';
import { freePort, startSwitchyard, tempFolder, waitFor } from './servers/index.ts';

interface Files {
  readonly folder: string;
  write(name: string, text: string): string;
  pair(name: string, certificate: Certificate): string[];
}

function files(): Files {
  const folder = tempFolder('tls');
  const write = (name: string, text: string) => {
    const path = join(folder, name);
    // As Kubernetes does it: the new file is there at once or not at all.
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
    return path;
  };
  return {
    folder,
    write,
    pair: (name, { cert, key }) => [
      `--cert=${write(`${name}.crt`, cert)}`,
      `--key=${write(`${name}.key`, key)}`,
    ],
  };
}

/** Starts switchyard with TLS; further flags come from `more`. */
async function setUp(more: (own: Files) => string[]) {
  const authority = createAuthority('test authority');
  const own = files();
  const server = authority.issue('switchyard');
  const certFile = own.write('server.crt', server.cert);
  const keyFile = own.write('server.key', server.key);
  const caFile = own.write('ca.crt', authority.cert);
  const endpoint = `https://127.0.0.1:${await freePort()}`;
  const tls = ['--listen-client-urls', endpoint, '--cert-file', certFile, '--key-file', keyFile];
  const gateway = await startSwitchyard({ args: [...tls, ...more(own)] });
  const dispose = async () => {
    await gateway.dispose();
    rmSync(own.folder, { recursive: true, force: true });
  };
  return { authority, own, gateway, endpoint, port: Number(new URL(endpoint).port), caFile, dispose };
}

test('tls: a client that trusts the authority is served, TLS 1.1 and plain text are not', async (t) => {
  const { endpoint, port, caFile, dispose } = await setUp(() => []);
  t.teardown(dispose);
  const ctl = await Etcdctl.of(endpoint, [`--cacert=${caFile}`]);
  t.is(await ctl.run('put', 'a', 'b'), 'OK\n');
  await t.throwsAsync(handshake(port, { maxVersion: 'TLSv1.1', minVersion: 'TLSv1' }));
  t.is(await handshake(port, { ALPNProtocols: ['h2'] }), 'h2');
  const plain = await Etcdctl.of(endpoint.replace('https', 'http'), ['--dial-timeout=1s']);
  t.not((await plain.attempt(['get', 'a', '--command-timeout=1s'])).code, 0);
  t.is(await ctl.run('get', 'a', '--print-value-only'), 'b\n');
});

test('tls: with --trusted-ca-file only clients with its certificate are let in', async (t) => {
  const stranger = createAuthority('another authority').issue('stranger');
  const { gateway, endpoint, authority, own, caFile, dispose } = await setUp(({ folder }) => [
    '--trusted-ca-file',
    join(folder, 'ca.crt'),
    '--client-cert-auth',
  ]);
  t.teardown(dispose);
  const trust = [`--cacert=${caFile}`, '--dial-timeout=1s', '--command-timeout=2s'];
  const friend = await Etcdctl.of(endpoint, [...trust, ...own.pair('friend', authority.issue('friend'))]);
  t.is(await friend.run('put', 'a', 'b'), 'OK\n');
  const wrong = await Etcdctl.of(endpoint, [...trust, ...own.pair('stranger', stranger)]);
  t.not((await wrong.attempt(['get', 'a'])).code, 0);
  const none = await Etcdctl.of(endpoint, trust);
  t.not((await none.attempt(['get', 'a'])).code, 0);
  t.regex(gateway.logs(), /TLS handshake failed/);
  const known = { ca: authority.cert, ...authority.issue('probe') };
  const version = JSON.parse(await page(`${endpoint}/version`, known)) as Record<string, string>;
  t.regex(version['etcdserver'] ?? '', /^3\.6\.\d+$/);
  t.is(version['etcdcluster'], '3.6.0');
  t.deepEqual(JSON.parse(await page(`${endpoint}/health`, known)), { health: 'true', reason: '' });
  t.regex(await page(`${endpoint}/readyz`, known), /ok\n$/);
  t.is(await page(`${endpoint}/livez`, known), 'ok\n');
  await t.throwsAsync(page(`${endpoint}/version`, { ca: authority.cert }));
  t.is(await friend.run('get', 'a', '--print-value-only'), 'b\n');
});

test('tls: a renewed certificate is taken without a restart, a broken one is not', async (t) => {
  const { gateway, port, authority, own, dispose } = await setUp(() => []);
  t.teardown(dispose);
  own.write('server.crt', 'not a certificate');
  await waitFor(() => gateway.logs().includes('certificate not reloaded'), {
    what: 'the broken file to be seen',
  });
  t.is(await subject(port), 'switchyard');
  const renewed = authority.issue('renewed');
  own.write('server.key', renewed.key);
  own.write('server.crt', renewed.cert);
  await waitFor(async () => (await subject(port)) === 'renewed', { what: 'the new certificate' });
  t.pass();
});

/** What a probe reads, as kubeadm and a kubelet ask for it. */
async function page(url: string, tls: RequestOptions): Promise<string> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(url, { ...tls, agent: false }, resolve).once('error', reject);
  });
  const parts: Buffer[] = [];
  for await (const part of response) parts.push(part as Buffer);
  if (response.statusCode !== 200) throw new Error(`Expected 200 from ${url}, got ${response.statusCode}`);
  return Buffer.concat(parts).toString();
}

/** The protocol agreed on. */
function handshake(port: number, options: object): Promise<string | false | null> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options }, () => {
      resolve(socket.alpnProtocol);
      socket.destroy();
    });
    socket.once('error', reject);
  });
}

/** The name in the certificate that the server shows. */
function subject(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => {
      resolve(String(socket.getPeerCertificate().subject.CN));
      socket.destroy();
    });
    socket.once('error', reject);
  });
}
