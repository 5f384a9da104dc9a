// Endpoints that can never work are refused before any server is reached, in the words of what is missing; and what is
// known of parameters here is what the dialects' parsers know.

import test from 'ava';
import { tmpdir } from 'node:os';
import { parseMysqlUrl } from '../dialect/mysql-url.ts';
import { parsePostgresUrl } from '../dialect/postgres-url.ts';
import { endpointParameters } from './endpoint-parameters.ts';
import { parseEndpoint } from './endpoint.ts';

const parse = (text: string) => parseEndpoint(text, [{ type: 'text', text }]);
const tcp = 'mysql://u:hidden@tcp';

const refused: readonly (readonly [endpoint: string, message: string])[] = [
  [
    'postgres://u:hidden@h/db?sslmode=foo',
    'Expected sslmode to be one of disable, allow, prefer, require, verify-ca, verify-full, got foo in postgres://u:***@h/db',
  ],
  [
    'mysql://u:hidden@h/db?tls=yes',
    'Expected tls to be one of false, preferred, skip-verify, true, got yes in mysql://u:***@h/db',
  ],
  [
    'postgres://u:hidden@h:99999/db',
    'Expected a port from 1 to 65535, got 99999 in postgres://u:***@h:99999/db',
  ],
  ['mysql://h:0/db', 'Expected a port from 1 to 65535, got 0 in mysql://h:0/db'],
  ['http://h:99999', 'Expected a port from 1 to 65535, got 99999 in http://h:99999'],
  [`${tcp}(h:99999)/db`, 'Expected a port from 1 to 65535, got 99999 in mysql://u:***@tcp(h:99999)/db'],
  [
    'http://127.0.0.1',
    'Expected a port in each etcd member, as in http://127.0.0.1:2379, got http://127.0.0.1',
  ],
  [
    `${tcp}(h:1)`,
    'Expected a database after the address, as in tcp(HOST:PORT)/DATABASE, got mysql://u:***@tcp(h:1)',
  ],
  [
    `${tcp}(h:1)?tls=true`,
    'Expected a database after the address, as in tcp(HOST:PORT)/DATABASE, got mysql://u:***@tcp(h:1)',
  ],
  [`${tcp}(h:1)/`, 'Expected a database in the URL, as in HOST:PORT/DATABASE, got mysql://u:***@tcp(h:1)/'],
  [
    'postgres://u:hidden@h:1',
    'Expected a database in the URL, as in HOST:PORT/DATABASE, got postgres://u:***@h:1',
  ],
  [
    'postgres://u:hidden@h:1,i:99999/db',
    'Expected a port from 1 to 65535, got 99999 in postgres://u:***@h:1,i:99999/db',
  ],
  [
    'postgres://u:hidden@h:1,/db',
    'Expected HOST:PORT, or several separated by commas, in postgres://USER:PASSWORD@HOST:PORT/DATABASE, got postgres://u:***@h:1,/db',
  ],
  ['mysql://u:hidden@h:3306,h/db', 'Expected each host once, got mysql://u:***@h:3306,h/db'],
  [
    'postgres://u:hidden@h,i/db?host=/run/postgresql',
    'Expected several hosts or a socket, got postgres://u:***@h,i/db, which has both',
  ],
  [
    `${tcp}(h:1,i:j)/db`,
    'Expected HOST:PORT, or several separated by commas, in tcp(…), got mysql://u:***@tcp(h:1,i:j)/db',
  ],
  [
    `sqlite://${tmpdir()}`,
    `Expected the path of a database file, got sqlite://${tmpdir()}, which is a directory`,
  ],
];

for (const [endpoint, message] of refused) {
  test(`refused: ${endpoint}`, (t) => {
    t.is(t.throws(() => parse(endpoint))?.message, message);
  });
}

test('a port that is the own of the scheme is kept', (t) => {
  t.is(parse('http://h:80,http://i:2379/').url, 'http://h:80,http://i:2379');
});

test('several hosts keep their order; who lists them in another one means the same database', (t) => {
  const found = parse('postgres://u:p@h:1,[::1],i:2/db?sslmode=require');
  t.is(found.url, 'postgres://u:p@h:1,[::1],i:2/db?sslmode=require');
  t.is(found.displayUrl, 'postgres://u:***@h:1,[::1],i:2/db?sslmode=require');
  t.is(found.identity, parse('postgresql://x@i:2,h:1,[::1]:5432/db').identity);
  t.not(found.identity, parse('postgres://x@i:2,h:1/db').identity);
  t.is(parse(`${tcp}(h:1,i)/db`).url, 'mysql://u:hidden@h:1,i/db');
});

/** The list in a message of a dialect's parser. */
function listed(parser: (text: string) => unknown, url: string): string[] {
  try {
    parser(url);
  } catch (error) {
    const message = error instanceof Error ? error.message : '';
    const list =
      /(?:to be one of|parameters|parameter but) (.*?)(?: in the|, got)/u.exec(message)?.[1] ?? message;
    return list.split(/, | and /u);
  }
  return [];
}

const parsers = { postgres: parsePostgresUrl, mysql: parseMysqlUrl };
for (const engine of ['postgres', 'mysql'] as const) {
  test(`parameters of ${engine}: the same as those of its dialect`, (t) => {
    const known = endpointParameters[engine];
    t.deepEqual(Object.keys(known), listed(parsers[engine], `${engine}://h/db?nosuch=1`));
    for (const [name, values] of Object.entries(known))
      t.deepEqual(values ?? [], listed(parsers[engine], `${engine}://h/db?${name}=nosuch`), name);
  });
}
