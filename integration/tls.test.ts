// TLS on the client port: who is let in, which versions, and a certificate that is replaced while the server runs.

import test from 'ava';
import { X509Certificate } from 'node:crypto';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Etcdctl } from './etcdctl.ts';
import { handshake, page, setUp, subject } from './secured.ts';
import { createAuthority } from './servers/authority.ts';
import { waitFor } from './servers/index.ts';

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

test('tls: who comes and goes without a handshake is not told of as a failure', async (t) => {
  const { gateway, port, dispose } = await setUp(() => ['--log-level', 'debug']);
  t.teardown(dispose);
  connect({ host: '127.0.0.1', port }).end();
  await waitFor(() => gateway.logs().includes('client left within its TLS handshake'), { what: 'a line' });
  t.notRegex(gateway.logs(), /TLS handshake failed/);
  await t.throwsAsync(handshake(port, { maxVersion: 'TLSv1.1', minVersion: 'TLSv1' }));
  await waitFor(() => gateway.logs().includes('TLS handshake failed'), { what: 'a failure' });
});

test('tls: with --trusted-ca-file only clients with its certificate are let in', async (t) => {
  const stranger = createAuthority('another authority').issue('stranger');
  const { gateway, endpoint, authority, own, caFile, dispose } = await setUp(({ own: { folder } }) => [
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
  const metrics = await (await fetch(`${gateway.metricsUrl}/metrics`)).text();
  const [, ends] = /^switchyard_certificate_expiration_timestamp_seconds (\S+)$/mu.exec(metrics) ?? [];
  t.is(Number(ends) * 1000, new X509Certificate(renewed.cert).validToDate.getTime());
});
