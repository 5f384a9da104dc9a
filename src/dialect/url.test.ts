// Addresses of the three engines: what is taken, what is refused and how, and that no message shows a password.

import test from 'ava';
import { SqlFault } from './dialect.ts';
import { parseMysqlUrl } from './mysql-url.ts';
import { parsePostgresUrl } from './postgres-url.ts';
import { parseSqliteUrl } from './sqlite.ts';

const secret = 's3cr3t';

test('postgres: parts, defaults, sockets, parameters', (t) => {
  t.deepEqual(
    parsePostgresUrl('postgres://me:p%40ss%2F%3A@db.example.com:6432/large%20data?sslmode=require'),
    {
      hosts: [{ host: 'db.example.com', port: 6432 }],
      target: 'any',
      user: 'me',
      password: 'p@ss/:',
      database: 'large data',
      parameters: { sslmode: 'require' },
    },
  );
  t.deepEqual(parsePostgresUrl('postgresql://'), {
    hosts: [{ host: 'localhost', port: 5432 }],
    target: 'any',
    user: 'postgres',
    password: undefined,
    database: 'switchyard',
    parameters: {},
  });
  t.like(parsePostgresUrl('postgres://u@[::1]:1/d'), {
    hosts: [{ host: '::1', port: 1 }],
    user: 'u',
    database: 'd',
  });
  t.like(parsePostgresUrl('postgres://u:p@/d?host=/run/postgresql'), {
    hosts: [{ host: '/run/postgresql', port: 5432 }],
    database: 'd',
  });
  t.like(parsePostgresUrl('postgres://u:p@%2Frun%2Fpostgresql/d'), {
    hosts: [{ host: '/run/postgresql', port: 5432 }],
  });
});

test('several hosts: in their order, and with what a store needs of them', (t) => {
  const several = parsePostgresUrl('postgres://u:a%2Cb@one:1,[::1]:2,three/d?sslmode=require');
  t.deepEqual(several.hosts, [
    { host: 'one', port: 1 },
    { host: '::1', port: 2 },
    { host: 'three', port: 5432 },
  ]);
  t.like(several, { target: 'read-write', user: 'u', password: 'a,b', database: 'd' });
  t.is(parsePostgresUrl('postgres://one,two/d?target_session_attrs=primary').target, 'primary');
  t.is(parsePostgresUrl('postgres://one/d?target_session_attrs=read-write').target, 'read-write');
  const nodes = [
    { host: 'one', port: 1 },
    { host: '::1', port: 3306 },
  ];
  t.deepEqual(parseMysqlUrl('mysql://u:p@one:1,[::1]/d').hosts, nodes);
  t.deepEqual(parseMysqlUrl('mysql://u:p,q@tcp(one:1,[::1])/d').hosts, nodes);
  t.is(parseMysqlUrl('mysql://u:p,q@tcp(one:1,[::1])/d').password, 'p,q');
});

test('mysql: parts, defaults, sockets, the Go form', (t) => {
  t.deepEqual(
    parseMysqlUrl('mysql://me:p%40ss@db.example.com:3307/large_data?tls=skip-verify&parseTime=true'),
    {
      hosts: [{ host: 'db.example.com', port: 3307 }],
      user: 'me',
      password: 'p@ss',
      database: 'large_data',
      tls: 'skip-verify',
    },
  );
  t.deepEqual(parseMysqlUrl('mariadb://localhost'), {
    hosts: [{ host: 'localhost', port: 3306 }],
    user: 'root',
    password: '',
    database: 'switchyard',
    tls: 'false',
  });
  t.like(parseMysqlUrl('mysql://u:p@[::1]/d'), { hosts: [{ host: '::1', port: 3306 }] });
  t.like(parseMysqlUrl('mysql://u:p@localhost/d?socketPath=/run/mysqld/mysqld.sock'), {
    hosts: [{ socketPath: '/run/mysqld/mysqld.sock' }],
  });
  t.like(parseMysqlUrl('mysql://root:p@ss:w/rd@tcp(127.0.0.1:3306)/d'), {
    hosts: [{ host: '127.0.0.1', port: 3306 }],
    user: 'root',
    password: 'p@ss:w/rd',
    database: 'd',
  });
  t.like(parseMysqlUrl('mysql://root@unix(/tmp/s.sock)/d'), {
    hosts: [{ socketPath: '/tmp/s.sock' }],
    password: '',
  });
});

test('sqlite: absolute and relative paths', (t) => {
  t.is(parseSqliteUrl('sqlite:///var/lib/a%20b.db'), '/var/lib/a b.db');
  t.is(parseSqliteUrl('sqlite://./data/x.db'), `${process.cwd()}/data/x.db`);
});

const refused: [(text: string) => unknown, string][] = [
  [parsePostgresUrl, `postgres://u:${secret}@one:x,two/d`],
  [parsePostgresUrl, `postgres://u:${secret}@one,two:x/d`],
  [parsePostgresUrl, `postgres://u:${secret}@one,two/d?host=/run/postgresql`],
  [parsePostgresUrl, `postgres://u:${secret}@one,two/d?target_session_attrs=standby`],
  [parseMysqlUrl, `mysql://u:${secret}@one,two:x/d`],
  [parseMysqlUrl, `mysql://u:${secret}@one,two/d?socketPath=/tmp/s`],
  [parsePostgresUrl, `postgres://u:${secret}@host:port/d`],
  [parsePostgresUrl, `http://u:${secret}@host/d`],
  [parsePostgresUrl, `postgres://u:${secret}@host/d?sslmode=perhaps`],
  [parsePostgresUrl, `postgres://u:${secret}@host/d?connect=1`],
  [parsePostgresUrl, `postgres://u:12?${secret}@host/d`],
  [parsePostgresUrl, `postgres://u:%zz${secret}@host/d`],
  [parsePostgresUrl, `postgres://u:${secret}@host/d?synchronous_commit=maybe`],
  [parseMysqlUrl, `mysql://u:${secret}@one,two:1/d?x=1`],
  [parseMysqlUrl, `mysql://u:${secret}@host:port/d`],
  [parseMysqlUrl, `mysql://u:12?${secret}@host/d`],
  [parseMysqlUrl, `mysql://u:%zz${secret}@host/d`],
  [parseMysqlUrl, `mysql://u:${secret}@host/d?tls=perhaps`],
  [parseMysqlUrl, `mysql://u:${secret}@tcp(a:b:c)/d`],
  [parseMysqlUrl, `postgres://u:${secret}@host/d`],
  [parseSqliteUrl, 'sqlite://:memory:'],
  [parseSqliteUrl, 'sqlite:///var/lib/'],
  [parseSqliteUrl, 'sqlite://'],
  [parseSqliteUrl, 'sqlite:///x.db?mode=ro'],
  [parseSqliteUrl, 'sqlite:///%zz.db'],
];

for (const [parse, text] of refused) {
  test(`refused without the password: ${text.replace(secret, '…')}`, (t) => {
    const error = t.throws(() => parse(text), { instanceOf: SqlFault });
    t.is(error.kind, 'refused');
    t.regex(error.message, /^Expected .*, got /);
    t.false(error.message.includes(secret), error.message);
  });
}
