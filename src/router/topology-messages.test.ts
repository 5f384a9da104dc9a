// Messages that a typo or a misunderstanding in topology.yml meets: what to do, and nothing the user did not write. Also
// warnings, and files that must be there.

import test from 'ava';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadTopology, parseTopology, TopologyError } from './topology.ts';

const env = { PGPW: 'secret' };

function problemsOf(work: () => unknown): string[] {
  try {
    work();
  } catch (error) {
    if (error instanceof TopologyError) return error.message.split('\n');
    throw error;
  }
  return [];
}

function backend(policy: string, endpoint = 'sqlite://./a.db'): string {
  return `backends:\n  - endpoint: '${endpoint}'\n    ${policy}\n`;
}

const events = 'prefix: { prefix: events }';
const fields =
  'Expected one of the fields name, endpoint, passwordFile, customresource, prefix, backendTLS, connectionPool in a backend';

const broken: readonly (readonly [what: string, text: string, problems: readonly string[]])[] = [
  ['a field that is not proposed', backend(`${events}\n    color: red`), [`t.yml:4: ${fields}, got color`]],
  [
    'a misspelt list',
    'backend: []',
    [
      't.yml:1: Expected one of the fields default, backends in the topology, got backend: did you mean backends?',
    ],
  ],
  [
    'a misspelt endpoint, not missing too',
    `backends:\n  - endpont: sqlite://./a.db\n    ${events}`,
    [`t.yml:2: ${fields}, got endpont: did you mean endpoint?`],
  ],
  [
    'a misspelt policy, not missing too',
    backend('customresorce: { group: a.b }'),
    [`t.yml:3: ${fields}, got customresorce: did you mean customresource?`],
  ],
  [
    'the same rule twice, without names',
    `${backend('customresource: { group: a.b, kind: B }')}  - endpoint: sqlite://./b.db
    customresource: { group: a.b, kind: b }`,
    ['t.yml:4: Expected a rule for types of its own, got the same types as line 2'],
  ],
  [
    'the same prefix in two spellings',
    `${backend(events)}  - { endpoint: 'sqlite://./b.db', prefix: { prefix: /registry/events/ } }`,
    ['t.yml:4: Expected a rule for types of its own, got the same types as line 2'],
  ],
  [
    'a name made of the rule that another has',
    `${backend('name: leases\n    prefix: { prefix: events }')}  - { endpoint: 'sqlite://./b.db', prefix: { prefix: leases } }`,
    [
      't.yml:5: Expected a name of its own for each backend, got leases, the name of the backend in line 2 (made of the rule: give the backend another by name)',
    ],
  ],
  [
    'two documents',
    'default: http://h:1\n---\nbackends: []\n',
    ['t.yml:2: Expected one YAML document, got 2'],
  ],
  [
    'a built-in group',
    backend('customresource: { group: apps, kind: Deployment }'),
    [
      't.yml:3: Expected a group of custom resources, got apps, a built-in group: use prefix, as in prefix: { prefix: leases }',
    ],
  ],
  [
    'a policy whose fields stand too far left',
    'backends:\n  - endpoint: sqlite://./a.db\n    prefix:\n',
    ['t.yml:3: Expected prefix with the fields name, prefix, got nothing: check the indentation below it'],
  ],
  [
    'TLS without TLS, etcd',
    `${backend(events, 'http://h:1')}    backendTLS: { skipVerify: true }`,
    [
      't.yml:4: Expected backendTLS with an encrypted connection, got it with an http:// endpoint: write https://',
    ],
  ],
  [
    'TLS without TLS, Postgres',
    `${backend(events, 'postgres://h/db?sslmode=disable')}    backendTLS: { skipVerify: true }`,
    ['t.yml:4: Expected backendTLS with an encrypted connection, got it with sslmode=disable'],
  ],
];

for (const [what, text, problems] of broken) {
  test(`refused: ${what}`, (t) => {
    t.deepEqual(
      problemsOf(() => parseTopology(text, { path: 't.yml', env })),
      problems,
    );
  });
}

test('refused: wrong indentation, with a hint', (t) => {
  const text = 'backends:\n  - endpoint: sqlite://./a.db\n     prefix: { prefix: events }\n';
  const problems = problemsOf(() => parseTopology(text, { path: 't.yml', env }));
  t.true(problems.length > 0);
  t.regex(problems[0] ?? '', /^t\.yml:\d: Expected YAML, got: .*: check the indentation$/u);
});

test('a literal $NAME is warned of, and a $ within a password is not shown', (t) => {
  const warningsOf = (endpoint: string) =>
    parseTopology(backend(events, endpoint), { path: 't.yml', env }).warnings;
  const [pgpw, other] = ['PGPW', 'OTHER'].map(
    (name) => `t.yml:2: a literal $${name}; did you mean \${${name}}?`,
  );
  t.deepEqual(warningsOf('postgres://u:$PGPW@localhost/db'), [pgpw!]);
  t.deepEqual(warningsOf('postgres://u:$OTHER@localhost/db'), [other!]);
  t.deepEqual(warningsOf('postgres://u:x$PGPW@localhost/db').length, 1);
  t.deepEqual(warningsOf('postgres://u:hid$DEN@localhost/db'), []);
  t.deepEqual(warningsOf('postgres://u:${PGPW}@localhost/db'), []);
});

test('where the default store comes from', (t) => {
  const from = (text: string, defaultEndpoint?: string) =>
    parseTopology(text, { path: 't.yml', env, ...(defaultEndpoint === undefined ? {} : { defaultEndpoint }) })
      .defaultFrom;
  t.is(from(''), 'nothing');
  t.is(from('# nothing yet\n'), 'nothing');
  t.is(from('default: http://h:1'), 'file');
  t.is(from('default: http://h:1', 'http://i:1'), 'flag');
});

test('files that a topology names must be there when it is loaded', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'topology-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 't.yml');
  const gone = join(folder, 'gone.pem');
  const shut = join(folder, 'shut.pem');
  writeFileSync(shut, '');
  chmodSync(shut, 0);
  const text = `${backend(events, `postgres://h/db?sslmode=verify-full&sslrootcert=${gone}`)}    backendTLS: { caFile: ${gone}, certFile: ${folder}, keyFile: ${shut} }`;
  writeFileSync(path, text);
  const problems = [
    `${path}:2: Expected sslrootcert to be a file that can be read, got ${gone}: no such file`,
    `${path}:4: Expected caFile to be a file that can be read, got ${gone}: no such file`,
    `${path}:4: Expected certFile to be a file that can be read, got ${folder}: a directory`,
  ];
  const isRoot = process.getuid?.() === 0;
  if (!isRoot)
    problems.push(`${path}:4: Expected keyFile to be a file that can be read, got ${shut}: no permission`);
  t.deepEqual(
    problemsOf(() => loadTopology({ path, env })),
    problems,
  );
  t.notThrows(() => loadTopology({ path, env, files: 'unchecked' }));
});

test('a directory for a file is called that', (t) => {
  t.deepEqual(
    problemsOf(() => loadTopology({ path: tmpdir(), env })),
    [`${tmpdir()}: Expected a file that can be read, got a directory`],
  );
});
