// The flags about TLS: what they come to, and what is said about mistakes.

import test from 'ava';
import { flagHelp, readConfig, UsageError } from './config.ts';

const secure = ['--listen-client-urls=https://127.0.0.1:1', '--cert-file=c', '--key-file=k'];
const clients = [...secure, '--trusted-ca-file=a'];
const read = (args: readonly string[], env: NodeJS.ProcessEnv = {}) =>
  readConfig(args, env, { name: 'here', logsTo: 'elsewhere' });

test('tls flags: what HTTP/2 permits, from TLS 1.2 on, and whoever comes', (t) => {
  t.is(read([]).tls, undefined);
  const { ciphers, ...tls } = read(secure).tls!;
  t.deepEqual(tls, { certFile: 'c', keyFile: 'k', minVersion: 'TLSv1.2', maxVersion: 'TLSv1.3' });
  t.is(ciphers.length, 6);
  t.true(ciphers.every((name) => /^ECDHE-(RSA|ECDSA)-(AES(128|256)-GCM|CHACHA20)/.test(name)));
});

test('tls flags: names of clients, versions and ciphers', (t) => {
  t.deepEqual(read([...clients, '--client-cert-allowed-cn=kube, other']).tls?.allowedClients, {
    by: 'common name',
    names: ['kube', 'other'],
  });
  t.deepEqual(read([...clients, '--client-cert-allowed-hostname=a.example.com']).tls?.allowedClients, {
    by: 'hostname',
    names: ['a.example.com'],
  });
  t.is(read([...clients, '--client-crl-file=r']).tls?.crlFile, 'r');
  t.is(read([...secure, '--tls-min-version=TLS1.3']).tls?.minVersion, 'TLSv1.3');
  const one = '--cipher-suites=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384';
  t.deepEqual(read([...secure, one]).tls?.ciphers, ['ECDHE-RSA-AES256-GCM-SHA384']);
});

test('tls flags: metrics alone may be behind TLS', (t) => {
  const files = ['--cert-file=c', '--key-file=k'];
  const { listenMetricsUrls, tls } = read([...files, '--listen-metrics-urls=https://0.0.0.0:2381']);
  t.is(listenMetricsUrls[0]?.scheme, 'https');
  t.is(tls?.certFile, 'c');
});

const mistakes: readonly [readonly string[], RegExp][] = [
  [['--client-cert-auth=perhaps'], /^Expected true or false for --client-cert-auth, got perhaps$/],
  [['--client-cert-auth'], /^Expected --trusted-ca-file with --client-cert-auth, got none$/],
  [['--cert-file', 'c'], /^Expected --cert-file and --key-file together, got only --cert-file$/],
  [['--listen-client-urls', 'https://127.0.0.1:1'], /^Expected --cert-file and --key-file for https/],
  [['--listen-metrics-urls=https://127.0.0.1:1'], /^Expected --cert-file and --key-file for https/],
  [['--cert-file', 'c', '--key-file', 'k'], /^Expected an https:\/\/ address/],
  [['--trusted-ca-file=a'], /^Expected --cert-file and --key-file with --trusted-ca-file, got neither$/],
  [
    [...secure, '--client-cert-allowed-cn=kube'],
    /^Expected --trusted-ca-file with --client-cert-allowed-cn, got none$/,
  ],
  [[...secure, '--client-crl-file=r'], /^Expected --trusted-ca-file with --client-crl-file, got none$/],
  [
    [...secure, '--trusted-ca-file=a', '--client-cert-allowed-cn=a', '--client-cert-allowed-hostname=b'],
    /^Expected --client-cert-allowed-cn or --client-cert-allowed-hostname, got both/,
  ],
  [['--tls-min-version=TLS1.1'], /^Expected TLS1\.2 or TLS1\.3 for --tls-min-version, got TLS1\.1$/],
  [['--tls-max-version=constructor'], /^Expected TLS1\.2 or TLS1\.3 for --tls-max-version/],
  [
    ['--tls-min-version=TLS1.3', '--tls-max-version=TLS1.4'],
    /^Expected TLS1\.2 or TLS1\.3 for --tls-max-version, got TLS1\.4$/,
  ],
  [[...clients, '--client-cert-allowed-cn='], /^Expected names in --client-cert-allowed-cn, got none$/],
  [[...clients, '--client-cert-allowed-cn', ' , '], /^Expected names in --client-cert-allowed-cn, got none$/],
  [
    [...clients, '--client-cert-allowed-hostname='],
    /^Expected names in --client-cert-allowed-hostname, got none$/,
  ],
  [['--cipher-suites=,'], /^Expected names in --cipher-suites, got none$/],
  [[...secure, '--trusted-ca-file='], /^Expected a file after --trusted-ca-file, got none$/],
  [
    [...secure, '--trusted-ca-file=', '--client-cert-auth'],
    /^Expected a file after --trusted-ca-file, got none$/,
  ],
  [[...clients, '--client-crl-file', ''], /^Expected a file after --client-crl-file, got none$/],
  [
    ['--tls-min-version=TLS1.3', '--tls-max-version=TLS1.2'],
    /^Expected --tls-min-version to be at most --tls-max-version, got a later one$/,
  ],
  [
    ['--tls-min-version=TLS1.3', '--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256'],
    /^Expected --cipher-suites with TLS 1\.2/,
  ],
  [
    ['--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA'],
    /^Expected names among TLS_ECDHE.* in --cipher-suites, got TLS_RSA_WITH_AES_128_CBC_SHA$/,
  ],
];

for (const [args, expected] of mistakes) {
  test(`tls flags: ${args.join(' ')} is refused`, (t) => {
    const error = t.throws(() => read(args), { instanceOf: UsageError });
    t.is(error.problems.length, 1, error.message);
    t.regex(error.message, expected);
  });
}

test('tls flags: a twin that is empty is not given, and one without a name is refused', (t) => {
  const twin = (value: string) => read(clients, { SWITCHYARD_CLIENT_CERT_ALLOWED_CN: value });
  t.is(twin('').tls?.allowedClients, undefined);
  t.throws(() => twin(' '), { message: 'Expected names in SWITCHYARD_CLIENT_CERT_ALLOWED_CN, got none' });
});

test('tls flags: the help of both flags about client certificates says that the authority is enough', (t) => {
  t.regex(flagHelp(), /--trusted-ca-file .*clients without a certificate of it are refused/);
  t.regex(flagHelp(), /--client-cert-auth .*already implied by --trusted-ca-file/);
});
