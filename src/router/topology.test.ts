// topology.yml: what is read from it, and each mistake with its line.

import { resolve } from 'node:path';
import test from 'ava';
import { loadTopology, parseTopology, TopologyError } from './topology.ts';

const env = { PASSWORD: 'p@ss/w:rd?#%', EMPTY: '', URL: 'postgres://u:secret@h/db' };

function parse(text: string, defaultEndpoint?: string) {
  return parseTopology(text, {
    path: 't.yml',
    env,
    ...(defaultEndpoint === undefined ? {} : { defaultEndpoint }),
  });
}

function problemsOf(text: string, defaultEndpoint?: string): string[] {
  try {
    parse(text, defaultEndpoint);
  } catch (error) {
    if (error instanceof TopologyError) return error.message.split('\n');
    throw error;
  }
  return [];
}

/** A topology of one backend, its endpoint in line 2. */
function backend(endpoint: string, policy = 'prefix: { prefix: events }'): string {
  return `backends:\n  - endpoint: ${endpoint}\n    ${policy}\n`;
}

test('the example of the documentation', (t) => {
  const { default: first, backends, rules } = loadTopology({ path: 'topology/example.yml', env: {} });
  t.is(first.url, 'http://127.0.0.1:2379');
  t.deepEqual(
    backends.map(({ name, engine }) => [name, engine]),
    [
      ['largedata', 'mysql'],
      ['metrics', 'postgres'],
      ['webshop', 'sqlite'],
    ],
  );
  t.deepEqual(
    rules.map(({ match }) => match),
    [
      { type: 'customresource', group: 'data.example.com', kind: 'largedata' },
      { type: 'customresource', group: 'monitoring.example.com', kind: 'metric' },
      { type: 'customresource', group: 'webshop.example.com', kind: undefined },
    ],
  );
});

test('no file: everything in the embedded store', (t) => {
  const { default: first, backends } = loadTopology({ env: {} });
  t.is(first.url, `sqlite://${resolve('data/switchyard.db')}`);
  t.deepEqual(backends, []);
});

test('the flag wins over default', (t) => {
  t.is(parse('default: http://a:2379', 'http://b:2379').default.url, 'http://b:2379');
});

const endpoints: readonly (readonly [written: string, url: string, shown: string])[] = [
  ['http://a:2379,http://b:2379', 'http://a:2379,http://b:2379', 'http://a:2379,http://b:2379'],
  [
    'mysql://root:passwd@tcp(127.0.0.1:3306)/db',
    'mysql://root:passwd@127.0.0.1:3306/db',
    'mysql://root:***@127.0.0.1:3306/db',
  ],
  [
    'mysql://u:a@b:c/d@tcp([::1]:3306)/db?parseTime=true&tls=true',
    'mysql://u:a%40b%3Ac%2Fd@[::1]:3306/db?tls=true',
    'mysql://u:***@[::1]:3306/db?tls=true',
  ],
  [
    'mariadb://u:p@unix(/run/mysqld/mysqld.sock)/db',
    'mysql://u:p@localhost/db?socketPath=%2Frun%2Fmysqld%2Fmysqld.sock',
    'mysql://u:***@localhost/db?socketPath=%2Frun%2Fmysqld%2Fmysqld.sock',
  ],
  ['mysql://u:p%40@h/db', 'mysql://u:p%40@h/db', 'mysql://u:***@h/db'],
  [
    'postgres://u:${PASSWORD}@h:5432/db?sslmode=require',
    'postgres://u:p%40ss%2Fw%3Ard%3F%23%25@h:5432/db?sslmode=require',
    'postgres://u:***@h:5432/db?sslmode=require',
  ],
  ['mysql://u:${PASSWORD}@tcp(h:1)/db', 'mysql://u:p%40ss%2Fw%3Ard%3F%23%25@h:1/db', 'mysql://u:***@h:1/db'],
  [
    'postgresql://u@/db?host=/run/postgresql',
    'postgres://u@localhost/db?host=%2Frun%2Fpostgresql',
    'postgres://u@localhost/db?host=%2Frun%2Fpostgresql',
  ],
  ['${URL}', 'postgres://u:secret@h/db', 'postgres://u:***@h/db'],
  ['mysql://u:$${x}@tcp(h:1)/db', 'mysql://u:%24%7Bx%7D@h:1/db', 'mysql://u:***@h:1/db'],
  ['sqlite:///var/lib/a%20b.db', 'sqlite:///var/lib/a%20b.db', 'sqlite:///var/lib/a b.db'],
];

for (const [written, url, shown] of endpoints) {
  test(`endpoint ${written}`, (t) => {
    const [found] = parse(backend(`'${written}'`)).backends;
    t.is(found?.url, url);
    t.is(found?.displayUrl, shown);
  });
}

test('a relative SQLite path counts from the working directory', (t) => {
  t.is(parse(backend('sqlite://./x/y.db')).backends[0]?.url, `sqlite://${resolve('x/y.db')}`);
});

test('two backends with the same database share one store', (t) => {
  const { backends, rules, storeNames } = parse(`
backends:
  - { name: a, endpoint: 'mysql://u:p@tcp(h:3306)/db', prefix: { prefix: events } }
  - { name: b, endpoint: 'mysql://u:p@tcp(h:3306)/db', prefix: { prefix: leases } }`);
  t.deepEqual(
    backends.map(({ name }) => name),
    ['a'],
  );
  t.deepEqual(
    rules.map(({ name, store }) => [name, store]),
    [
      ['a', 'a'],
      ['b', 'a'],
    ],
  );
  t.is(storeNames.get('b'), 'a');
});

test('options of a backend', (t) => {
  const [found] = parse(
    backend(
      'postgres://u:p@h/db',
      `customresource: { group: data.example.com/v1, kind: LargeData }
    backendTLS: { caFile: /ca.pem, certFile: c.pem, keyFile: k.pem, skipVerify: true }
    connectionPool: { maxOpen: 8, maxIdle: 2, maxLifeTime: 1h30m, maxIdleLifeTime: 90 }`,
    ),
  ).backends;
  t.deepEqual(found?.tls, { caFile: '/ca.pem', certFile: 'c.pem', keyFile: 'k.pem', skipVerify: true });
  t.deepEqual(found?.pool, { maxOpen: 8, maxIdle: 2, maxLifeTimeMs: 5_400_000, maxIdleLifeTimeMs: 90_000 });
  t.is(found?.name, 'largedata.data.example.com');
});

const broken: readonly (readonly [what: string, text: string, problems: readonly string[]])[] = [
  [
    'unknown field',
    'defaults: x',
    [
      't.yml:1: Expected one of the fields default, backends in the topology, got defaults: did you mean default?',
    ],
  ],
  ['no mapping', '- x', ['t.yml:1: Expected the topology with the fields default, backends, got a list']],
  [
    'two wrong endpoints and an unset variable',
    `default: ftp://h\nbackends:\n  - endpoint: postgres://u:\${NO_SUCH}@h/db\n    prefix: { prefix: events }\n  - endpoint: mysql://u:hidden@h:x/db\n    prefix: { prefix: leases }`,
    [
      't.yml:1: Expected an endpoint that begins with http://, https://, postgres://, mysql://, mariadb:// or sqlite://, got ftp://h',
      't.yml:3: Expected the environment variable NO_SUCH to be set, got nothing',
      't.yml:5: Expected mysql://USER:PASSWORD@HOST:PORT/DATABASE with special characters percent-encoded, got mysql://u:***@h:x/db',
    ],
  ],
  [
    'policy by namespace',
    backend('sqlite://./a.db', 'namespace: { namespace: x }'),
    [
      't.yml:3: Expected a policy that places whole types (customresource or prefix), got namespace: placing by namespace would split a type over stores, and Kubernetes compares the revisions of all objects of a type',
    ],
  ],
  [
    'policy by pattern',
    backend('sqlite://./a.db', 'regexp: { prefix: x, key: y }'),
    [
      't.yml:3: Expected a policy that places whole types (customresource or prefix), got regexp: placing by patterns of keys would split a type over stores, and Kubernetes compares the revisions of all objects of a type',
    ],
  ],
  [
    'two policies',
    backend('sqlite://./a.db', 'prefix: { prefix: x }\n    customresource: { group: a.b }'),
    ['t.yml:2: Expected one of customresource and prefix in a backend, got customresource and prefix'],
  ],
  [
    'no policy',
    'backends:\n  - endpoint: sqlite://./a.db',
    ['t.yml:2: Expected one of customresource and prefix in a backend, got none'],
  ],
  [
    'no endpoint',
    'backends:\n  - prefix: { prefix: x }',
    ['t.yml:2: Expected endpoint in a backend, got none'],
  ],
  [
    'a part of a type',
    backend('sqlite://./a.db', 'prefix: { prefix: services/specs }'),
    [
      "t.yml:3: Expected the first part of a built-in type's keys such as events, got services/specs: a type is placed as a whole",
    ],
  ],
  [
    'a custom resource by prefix',
    backend('sqlite://./a.db', 'prefix: { prefix: data.example.com/largedata }'),
    [
      "t.yml:3: Expected the first part of a built-in type's keys such as events, got data.example.com/largedata: custom resources are placed by customresource",
    ],
  ],
  [
    'the definitions themselves',
    backend('sqlite://./a.db', 'customresource: { group: apiextensions.k8s.io }'),
    [
      't.yml:3: Expected a group that may leave the default store, got apiextensions.k8s.io: the definitions are read in the default store to find the kinds of all other groups',
    ],
  ],
  [
    'shadowed and duplicate',
    `backends:
  - { name: a, endpoint: 'sqlite://./a.db', customresource: { group: a.example.com } }
  - { name: a, endpoint: 'sqlite://./b.db', customresource: { group: b.example.com } }
  - { name: c, endpoint: 'sqlite://./c.db', customresource: { group: a.example.com, kind: C } }
  - { name: default, endpoint: 'sqlite://./d.db', prefix: { prefix: x } }`,
    [
      't.yml:3: Expected a name of its own for each backend, got a, the name of the backend in line 2',
      't.yml:4: Expected a rule that can match, got one for types that a (line 2) takes already',
      't.yml:5: Expected a name of its own for each backend, got default, the name of the default store',
    ],
  ],
  [
    'one database with two logins',
    `backends:
  - { name: a, endpoint: 'postgres://u:one@h/db', prefix: { prefix: x } }
  - { name: b, endpoint: 'postgres://u:two@h:5432/db', prefix: { prefix: y } }`,
    [
      't.yml:3: Expected the same user, password and parameters as in a (line 2), which leads to the same database, got another',
    ],
  ],
  [
    'options',
    backend(
      'sqlite://./a.db',
      `prefix: { prefix: x }
    backendTLS: { caFile: x }
    connectionPool: { maxOpen: 0, maxIdle: many, maxLifeTime: soon, size: 3 }`,
    ),
    [
      't.yml:4: Expected backendTLS with a server, got it with sqlite, which is a file',
      't.yml:5: Expected one of the fields maxOpen, maxIdle, maxLifeTime, maxIdleLifeTime in connectionPool, got size',
      't.yml:5: Expected maxOpen to be a whole number from 1 to 10000, got 0',
      't.yml:5: Expected maxIdle to be a whole number from 0 to 10000, got many',
      't.yml:5: Expected maxLifeTime to be a time such as 30s, 5m or 1h30m (at most 720h), got soon',
    ],
  ],
  [
    'a parameter',
    backend("'mysql://u:hidden@tcp(h:1)/db?timeout=3s'"),
    ['t.yml:2: Expected only the parameters tls, socketPath, got timeout in mysql://u:***@tcp(h:1)/db'],
  ],
  ['a text for a list', 'backends: x', ['t.yml:1: Expected backends to be a list, got a text']],
  [
    'a kind that is empty',
    backend('sqlite://./a.db', "customresource: { group: a.b, kind: '' }"),
    ['t.yml:3: Expected kind to be a text, got an empty text'],
  ],
];

for (const [what, text, problems] of broken) {
  test(`refused: ${what}`, (t) => {
    t.deepEqual(problemsOf(text), problems);
  });
}

test('refused: no YAML', (t) => {
  const [problem, ...more] = problemsOf('default: [\n');
  t.regex(problem ?? '', /^t\.yml:2: Expected YAML, got: /u);
  t.deepEqual(more, []);
});

test('refused: a file that is not there', (t) => {
  const error = t.throws(() => loadTopology({ path: '/no/such.yml', env: {} }), {
    instanceOf: TopologyError,
  });
  t.is(error?.message, '/no/such.yml: Expected a file that can be read, got no such file');
});

test('refused: a flag, by its name', (t) => {
  t.deepEqual(problemsOf('', 'mysql://u:hidden@h:x/'), [
    '--default-endpoint: Expected mysql://USER:PASSWORD@HOST:PORT/DATABASE with special characters percent-encoded, got mysql://u:***@h:x/',
  ]);
});

test('no message shows a password that has slipped into another place', (t) => {
  const address = 'postgres://u:hidden@h/db';
  for (const text of [
    `${address}: 1`,
    `default: { '${address}': 1 }`,
    `default: { endpoint: http://h:1, '${address}' }`,
    `default: x ${address}: y`,
    `default: "x" ${address}`,
    backend('sqlite://./a.db', `name: '${address}'`),
    backend('sqlite://./a.db', `prefix: { prefix: '${address}' }`),
    backend('sqlite://./a.db', `customresource: { group: '${address}' }`),
    backend('sqlite://./a.db', `customresource: { group: a.b, kind: '${address}' }`),
    backend('postgres://h/db', `prefix: { prefix: a }\n    backendTLS: { skipVerify: '${address}' }`),
    backend('postgres://h/db', `prefix: { prefix: a }\n    connectionPool: { maxOpen: '${address}' }`),
    backend('postgres://h/db', `prefix: { prefix: a }\n    connectionPool: { maxLifeTime: '${address}' }`),
  ]) {
    const problems = problemsOf(text);
    t.true(problems.length > 0, text);
    t.notRegex(problems.join('\n'), /hid/u, text);
  }
});

test('no message shows a password, however the endpoint is mangled', (t) => {
  const mangled = [
    'u:hidden@tcp(h:1)/db',
    'mysql:/u:hidden@h/db',
    'postgres://u:hid#den@h/db',
    'postgres://u:hidden@@h:x/db',
    'mysql://u:hidden@h,i:x/db',
    'http://u:hidden@h:2379/x',
    'postgres://h/db?password=hidden',
    'postgres://u:hidden#h:1/db',
    'mysql://u:hidden/h:x/db',
    'mysql://u/hidden@h/db#',
    'mysql://u:p@hidden#h:1/db',
    'https://u:hidden#h:1',
  ];
  for (const endpoint of mangled) {
    const problems = problemsOf(backend(`'${endpoint}'`));
    t.true(problems.length > 0, endpoint);
    t.notRegex(problems.join('\n'), /hid/u, endpoint);
  }
});
