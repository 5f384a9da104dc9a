// How a backend of topology.yml logs in and whether it is heard on the way: passwordFile, the login of an etcd, warnings of plain text.

import test from 'ava';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadTopology, parseTopology, TopologyError } from './topology.ts';

const env = { PASSWORD: 'p@ss,w:rd/%', FOLDER: '/run/secrets' };
const parse = (text: string, more = {}) => parseTopology(text, { path: 't.yml', env, ...more });

function problemsOf(text: string): string[] {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof TopologyError) return error.message.split('\n');
    throw error;
  }
  return [];
}

const backend = (endpoint: string, ...more: readonly string[]) =>
  [
    'backends:',
    `  - endpoint: '${endpoint}'`,
    '    prefix: { prefix: events }',
    ...more.map((line) => `    ${line}`),
  ].join('\n');

test('passwordFile: at a backend and at the default, with variables in its name', (t) => {
  const { backends } = parse(backend('postgres://u@h/db', 'passwordFile: ${FOLDER}/postgres'));
  t.is(backends[0]?.passwordFile, '/run/secrets/postgres');
  const text = 'default: { endpoint: "mysql://u@h/db", passwordFile: x }';
  t.is(parse(text).default.passwordFile, 'x');
  // The flag replaces the endpoint and leaves the options.
  t.like(parse(text, { defaultEndpoint: 'mysql://u@i/db' }).default, {
    url: 'mysql://u@i/db',
    passwordFile: 'x',
  });
});

const mistakes: readonly (readonly [endpoint: string, problem: string])[] = [
  ['postgres://u:p@h/db', 'Expected a password in the endpoint or a passwordFile, got both'],
  ['mysql://u:${PASSWORD}@tcp(h:1)/db', 'Expected a password in the endpoint or a passwordFile, got both'],
  ['https://u:p@h:1', 'Expected a password in the endpoint or a passwordFile, got both'],
  ['sqlite://./a.db', 'Expected passwordFile with a server, got it with sqlite, which is a file'],
  [
    'https://h:1',
    'Expected a user in the endpoint with passwordFile, as in https://USER@HOST:PORT, got none',
  ],
];

for (const [endpoint, problem] of mistakes) {
  test(`passwordFile: refused with ${endpoint}`, (t) => {
    t.deepEqual(problemsOf(backend(endpoint, 'passwordFile: x')), [`t.yml:4: ${problem}`]);
  });
}

test('passwordFile: must be there when the file is loaded, and be the same for the same database', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'credentials-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 't.yml');
  writeFileSync(path, backend('postgres://u@localhost/db', `passwordFile: ${folder}/none`));
  t.throws(() => loadTopology({ path, env }), {
    message: `${path}:4: Expected passwordFile to be a file that can be read, got ${folder}/none: no such file`,
  });
  t.notThrows(() => loadTopology({ path, env, files: 'unchecked' }));
  const twice = `${backend('postgres://u@h/db', 'passwordFile: x')}
  - { endpoint: 'postgres://u@h/db', passwordFile: y, prefix: { prefix: leases } }`;
  t.regex(
    problemsOf(twice).join('\n'),
    /^t\.yml:5: Expected the same user, password and parameters as in events/,
  );
});

test('files that cannot be read are told apart from what is wrong in the text', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'credentials-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 't.yml');
  const isOfFiles = (text: string) => {
    writeFileSync(path, text);
    return t.throws(() => loadTopology({ path, env }), { instanceOf: TopologyError }).isOfFiles;
  };
  const away = backend(
    'https://u@localhost:1',
    'passwordFile: /nowhere/p',
    'backendTLS: { caFile: /nowhere/ca }',
  );
  t.true(isOfFiles(away));
  t.false(isOfFiles(`${away}\n    oops: 1`));
  t.false(isOfFiles(backend('https://u@localhost:1', 'passwordFile: ${NOBODY_HAS_SET_IT}')));
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  t.true(
    isOfFiles(backend('https://u@localhost:1', `passwordFile: ${pipe}`, `backendTLS: { caFile: ${pipe} }`)),
  );
});

test('what is told of an endpoint of the flag is told under its name', (t) => {
  const told = (defaultEndpoint: string) => parse(backend('sqlite://./a.db'), { defaultEndpoint }).warnings;
  t.deepEqual(told('http://etcd-0:2379'), [
    '--default-endpoint: etcd-0 without TLS: whoever is on the way reads and changes what store default holds; use backendTLS',
  ]);
  const gone = 'postgres://u@localhost/db?sslmode=verify-full&sslrootcert=/nowhere/ca';
  t.throws(() => parse('', { defaultEndpoint: gone, files: 'checked' }), {
    message:
      '--default-endpoint: Expected sslrootcert to be a file that can be read, got /nowhere/ca: no such file',
  });
});

test('etcd: a login stands in front of the first member, and is not shown', (t) => {
  const { url, displayUrl } = parse('default: https://u%40:${PASSWORD}@a:1,https://b:2').default;
  t.is(url, 'https://u%40:p%40ss%2Cw%3Ard%2F%25@a:1,https://b:2');
  t.is(displayUrl, 'https://u%40:***@a:1,https://b:2');
  t.is(parse('default: https://u@a:1').default.displayUrl, 'https://u@a:1');
  for (const endpoint of [
    'https://a:1,https://u:geheim@b:2',
    'https://:geheim@a:1',
    'https://u:gehe%im@a:1',
  ]) {
    const [problem = ''] = problemsOf(`default: ${endpoint}`);
    t.regex(problem, /^t\.yml:1: Expected etcd members as .* with a user in the first or in none, got /);
    t.notRegex(problem, /gehe/);
  }
});

const warned: Readonly<Record<string, string | undefined>> = {
  'http://etcd-0:2379,http://127.0.0.1:1': 'etcd-0',
  'http://localhost:2379': undefined,
  'https://etcd-0:2379': undefined,
  'postgres://u@a,b,[::1]/db': 'a, b',
  'postgres://u@a/db?sslmode=prefer': 'a',
  'postgres://u@a/db?sslmode=require': undefined,
  'postgres://u@/db?host=/run/postgresql': undefined,
  'postgres://u@localhost/db?host=db.example.com': 'db.example.com',
  'postgres://u@a/db?host=localhost': undefined,
  'mysql://u@tcp(a:1)/db': 'a',
  'mysql://u@a/db?tls=preferred': 'a',
  'mysql://u@a/db?tls=true': undefined,
  'mysql://u@unix(/run/mysqld.sock)/db': undefined,
  'sqlite://./a.db': undefined,
};

for (const [endpoint, hosts] of Object.entries(warned)) {
  test(`plain text: ${endpoint} is ${hosts === undefined ? 'taken' : 'warned of'}`, (t) => {
    const warning = `t.yml:2: ${hosts} without TLS: whoever is on the way reads and changes what store events holds; use backendTLS`;
    t.deepEqual(parse(backend(endpoint)).warnings, hosts === undefined ? [] : [warning]);
    if (hosts !== undefined && !endpoint.startsWith('http:'))
      t.deepEqual(parse(backend(endpoint, 'backendTLS: { skipVerify: true }')).warnings, []);
  });
}
