// Who is let in on the client port, beyond the authority of a certificate: by name, by revocation list, after the authority has been
// replaced; and in which words of TLS.

import test, { type ExecutionContext } from 'ava';
import { rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { connect, type ConnectionOptions } from 'node:tls';
import { Etcdctl } from './etcdctl.ts';
import { handshake, page, setUp } from './secured.ts';
import { createAuthority, type Certificate } from './servers/authority.ts';
import { waitFor } from './servers/index.ts';

type Setup = Awaited<ReturnType<typeof setUp>>;

/** An etcdctl with a certificate. */
async function clientOf({ endpoint, own, caFile }: Setup, name: string, certificate: Certificate) {
  const flags = [`--cacert=${caFile}`, '--dial-timeout=2s', ...own.pair(name, certificate)];
  return Etcdctl.of(endpoint, flags);
}

const refused = async (t: ExecutionContext, client: Etcdctl) =>
  t.not((await client.attempt(['get', 'a', '--command-timeout=1s'])).code, 0);

/** Flags for clients with certificates. */
const demand = (folder: string) => ['--trusted-ca-file', join(folder, 'ca.crt')];

test('tls: only clients of an allowed common name are let in, and metrics to all of the authority', async (t) => {
  const scene = await setUp(({ own }) => [...demand(own.folder), '--client-cert-allowed-cn=kube,backup']);
  t.teardown(scene.dispose);
  const { authority, gateway, metrics } = scene;
  for (const name of ['kube', 'backup'])
    t.is(await (await clientOf(scene, name, authority.issue(name))).run('put', 'a', name), 'OK\n');
  const other = authority.issue('kube.example.com', ['kube']);
  await refused(t, await clientOf(scene, 'other', other));
  await waitFor(() => gateway.logs().includes('client certificate refused'), { what: 'a line in the log' });
  t.regex(gateway.logs(), /one of the common names kube, backup, got \\"kube\.example\.com\\"/);
  // As HTTP too: no page of the client port.
  await t.throwsAsync(page(`${scene.endpoint}/version`, { ca: authority.cert, ...other }));
  t.regex(await page(`${metrics}/metrics`, { ca: authority.cert, ...other }), /^switchyard_connections /m);
  await t.throwsAsync(page(`${metrics}/metrics`, { ca: authority.cert }));
  const stranger = createAuthority('test authority').issue('kube');
  await t.throwsAsync(page(`${metrics}/metrics`, { ca: authority.cert, ...stranger }));
  await refused(t, await clientOf(scene, 'stranger', stranger));
});

test('tls: only clients of an allowed hostname are let in', async (t) => {
  const allowed = '--client-cert-allowed-hostname=api.example.com';
  const scene = await setUp(({ own }) => [...demand(own.folder), allowed]);
  t.teardown(scene.dispose);
  const { authority } = scene;
  const yes = await clientOf(scene, 'yes', authority.issue('a', ['localhost', 'api.example.com']));
  t.is(await yes.run('put', 'a', 'b'), 'OK\n');
  const anyOf = await clientOf(scene, 'any', authority.issue('b', ['*.example.com']));
  t.is(await anyOf.run('put', 'a', 'b'), 'OK\n');
  // A common name is no hostname.
  await refused(t, await clientOf(scene, 'no', authority.issue('api.example.com')));
  await waitFor(
    () => scene.gateway.logs().includes('for one of the hostnames api.example.com, got DNS:localhost'),
    {
      what: 'a line in the log',
    },
  );
  t.pass();
});

test('tls: a certificate in the revocation list is refused, also in a list that comes later', async (t) => {
  let early: Certificate | undefined;
  const scene = await setUp(({ own, authority }) => {
    early = authority.issue('early');
    const list = own.write('crl.pem', authority.revoke([early]));
    return [...demand(own.folder), '--client-crl-file', list];
  });
  t.teardown(scene.dispose);
  const { authority, own, gateway } = scene;
  const late = authority.issue('late');
  const [first, second] = [await clientOf(scene, 'early', early!), await clientOf(scene, 'late', late)];
  await refused(t, first);
  t.regex(gateway.logs(), /TLS handshake failed.*CERT_REVOKED/);
  t.is(await second.run('put', 'a', 'b'), 'OK\n');
  own.write('crl.pem', authority.revoke([early!, late]));
  await waitFor(() => gateway.logs().includes('certificate reloaded'), { what: 'the new list' });
  await refused(t, second);
});

/** A session that may be resumed, from a connection with these options. */
function session(port: number, options: ConnectionOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options });
    socket.once('session', (found: Buffer) => {
      resolve(found);
      socket.destroy();
    });
    socket.once('error', reject);
    // A server that speaks HTTP says nothing before it is spoken to.
    socket.once('secureConnect', () => socket.write('GET /livez HTTP/1.1\r\n\r\n'));
  });
}

/** Whether the server answers, and whether it has resumed a session. */
function resumed(port: number, options: ConnectionOptions): Promise<{ answered: boolean; reused: boolean }> {
  return new Promise((resolve) => {
    let [answered, reused] = [false, false];
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options }, () => {
      reused = socket.isSessionReused();
      socket.write('GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n');
    });
    socket.on('data', () => (answered = true));
    socket.on('error', () => undefined);
    socket.once('close', () => resolve({ answered, reused }));
  });
}

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`tls: ${version}: a session is no way around the names, nor around an authority that was replaced`, async (t) => {
    const scene = await setUp(({ own }) => [...demand(own.folder), '--client-cert-allowed-cn=kube']);
    t.teardown(scene.dispose);
    const { port, authority, own, gateway } = scene;
    const versions = { minVersion: version, maxVersion: version } as const;
    const client = { ...authority.issue('kube'), ...versions };
    const ticket = await session(port, client);
    t.deepEqual(await resumed(port, { ...client, session: ticket }), { answered: true, reused: true });
    const next = createAuthority('the next authority');
    own.write('ca.crt', next.cert);
    await waitFor(() => gateway.logs().includes('certificate reloaded'), { what: 'the next authority' });
    t.deepEqual(await resumed(port, { ...client, session: ticket }), { answered: false, reused: false });
    const anew = { ...next.issue('kube'), ...versions };
    t.true((await resumed(port, anew)).answered);
  });
}

test('tls: what is agreed on is forward secret and authenticated, or as the flags say', async (t) => {
  const scene = await setUp(() => []);
  t.teardown(scene.dispose);
  const old = { maxVersion: 'TLSv1.2', ALPNProtocols: ['h2'] } as const;
  t.is(await handshake(scene.port, { ...old, ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256' }), 'h2');
  await t.throwsAsync(handshake(scene.port, { ...old, ciphers: 'ECDHE-ECDSA-AES128-SHA256' }));
  await t.throwsAsync(handshake(scene.port, { ...old, ciphers: 'ECDHE-ECDSA-AES256-SHA' }));
  const strict = await setUp(() => ['--tls-min-version=TLS1.3']);
  t.teardown(strict.dispose);
  await t.throwsAsync(handshake(strict.port, old));
  t.is(await handshake(strict.port, { ALPNProtocols: ['h2'] }), 'h2');
  const chosen = await setUp(() => ['--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384']);
  t.teardown(chosen.dispose);
  await t.throwsAsync(handshake(chosen.port, { ...old, ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256' }));
  t.is(await handshake(chosen.port, { ...old, ciphers: 'ECDHE-ECDSA-AES256-GCM-SHA384' }), 'h2');
});

test('tls: a handshake within a connection is refused', async (t) => {
  const { port, dispose } = await setUp(() => []);
  t.teardown(dispose);
  const outcome = await new Promise<Error | null>((resolve, reject) => {
    const options = { host: '127.0.0.1', port, rejectUnauthorized: false, maxVersion: 'TLSv1.2' } as const;
    const socket = connect(options, () => {
      socket.renegotiate({}, (error) => {
        resolve(error);
        socket.destroy();
      });
    });
    socket.once('error', resolve);
    socket.setTimeout(20_000, () => reject(new Error('Expected an answer to a second handshake, got none')));
  });
  t.truthy(outcome);
});

test('tls: a file that becomes unreadable leaves what is in use, and the server up', async (t) => {
  const scene = await setUp(() => []);
  t.teardown(scene.dispose);
  const path = join(scene.own.folder, 'server.crt');
  rmSync(path);
  // It leads nowhere but to itself: not even looking at it works.
  symlinkSync(path, path);
  await waitFor(() => scene.gateway.logs().includes('certificate not reloaded'), {
    what: 'it to be noticed',
  });
  t.is(await handshake(scene.port, { ALPNProtocols: ['h2'] }), 'h2');
  t.true(scene.gateway.running);
});
