// Endpoints of topology.yml: one string that names an engine, an address and credentials. Used by topology.ts.
// Invariant: no message and no displayUrl holds a password; messages show what stands in the file, variables unfilled.

import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileReason } from '../lib/file-reason.ts';
import { splitHosts } from '../lib/host-list.ts';
import type { Engine } from '../store/store.ts';
import { checkParameters } from './endpoint-parameters.ts';
import { fill, type Template } from './environment.ts';

export interface Endpoint {
  readonly engine: Engine;
  /** As Backend.url. */
  readonly url: string;
  readonly displayUrl: string;
  /** Equal for endpoints that lead to the same database, whoever logs in. */
  readonly identity: string;
}

/** What is wrong with an endpoint, as "Expected …, got …". */
export class EndpointError extends Error {
  override readonly name = 'EndpointError';
}

const schemes: Readonly<Record<string, Engine>> = {
  http: 'etcd',
  https: 'etcd',
  postgres: 'postgres',
  postgresql: 'postgres',
  mysql: 'mysql',
  mariadb: 'mysql',
  sqlite: 'sqlite',
};

const portDefaults = { postgres: '5432', mysql: '3306' };

/** The source text for a message: without anything that may be a credential. */
export function maskEndpoint(source: string): string {
  const [, scheme = '', rest = ''] = /^([a-z]+:\/\/)?(.*)$/isu.exec(source) ?? [];
  const at = rest.lastIndexOf('@');
  const user = /^[^:@/?#%\s]*/u.exec(rest)?.[0] ?? '';
  const place = rest.slice(at + 1).split('?')[0] ?? '';
  // Where the `@` was mistyped the password looks like a part of the place: then something in it is none.
  const isPlain = /^[\w.,$%{}()[\]:/-]*$/u.test(place);
  if (at >= 0) return `${scheme}${scheme === '' ? '' : user}:***@${isPlain ? place : '***'}`;
  const isPlace = isPlain && !/:(?!\d+(?:[,)/]|$))/u.test(place.replaceAll(/\[[\da-f:.]*\]/giu, ''));
  return scheme + (isPlace ? place : `${user}:***`);
}

/** Reads an endpoint; `source` is the text in the file. @throws EndpointError */
export function parseEndpoint(source: string, template: Template): Endpoint {
  const text = fill(template);
  const scheme = /^([a-z]+):\/\//u.exec(text)?.[1] ?? '';
  const engine = schemes[scheme];
  if (engine === undefined) {
    throw refuse(
      'an endpoint that begins with http://, https://, postgres://, mysql://, mariadb:// or sqlite://',
      source,
    );
  }
  switch (engine) {
    case 'etcd':
      return parseEtcd(fillLogin(template), source);
    case 'sqlite':
      return parseSqlite(text, source);
    case 'mysql':
      return parseGoMysql(template, source) ?? parseSqlUrl('mysql', template, source);
    case 'postgres':
      return parseSqlUrl('postgres', template, source);
  }
}

function refuse(expected: string, source: string, note = ''): EndpointError {
  return new EndpointError(`Expected ${expected}, got ${maskEndpoint(source) || 'nothing'}${note}`);
}

/** A login stands in front of the first member and is for all of them. */
function parseEtcd(text: string, source: string): Endpoint {
  const members = text.split(',').map((member, index) => {
    const url = URL.parse(member.trim());
    const usable =
      url !== null &&
      /^https?:$/u.test(url.protocol) &&
      (index === 0 || url.username === '') &&
      (url.username !== '' || url.password === '') &&
      isEncoded(url.username) &&
      isEncoded(url.password) &&
      url.pathname === '/' &&
      url.search === '' &&
      url.hash === '';
    if (!usable) {
      throw (
        wrongPort(member, source) ??
        refuse(
          'etcd members as http(s)://HOST:PORT, separated by commas, without a path, with a user in the first or in none',
          source,
        )
      );
    }
    if (!/:\d+\/?$/u.test(member.trim()))
      throw refuse('a port in each etcd member, as in http://127.0.0.1:2379', source);
    return url;
  });
  if (new Set(members.map((url) => url.protocol)).size > 1)
    throw refuse('all etcd members with http:// or all with https://', source);
  // URL drops a scheme's own port.
  const port = (url: URL) => url.port || (url.protocol === 'https:' ? '443' : '80');
  const shown = members.map((url) => `${url.protocol}//${url.hostname}:${port(url)}`);
  const { username, password } = members[0]!;
  const build = (shownPassword: string) =>
    username === ''
      ? shown.join(',')
      : shown.join(',').replace('://', () => `://${username}${password === '' ? '' : shownPassword}@`);
  return {
    engine: 'etcd',
    url: build(`:${password}`),
    displayUrl: build(':***'),
    identity: `etcd ${shown.toSorted().join(',')}`,
  };
}

/** Whether percent signs in it, if there are any, begin escapes. */
function isEncoded(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

function parseSqlite(text: string, source: string): Endpoint {
  const expected = 'sqlite://./RELATIVE.db or sqlite:///ABSOLUTE.db';
  const path = text.slice('sqlite://'.length);
  if (/[?#]/u.test(path)) throw refuse(`${expected} without parameters`, source);
  if (path === '' || path.endsWith('/') || path.includes(':memory:')) throw refuse(expected, source);
  let absolute: string;
  try {
    absolute = resolve(decodeURIComponent(path));
  } catch {
    throw refuse('a percent-encoded path', source);
  }
  try {
    if (statSync(absolute, { throwIfNoEntry: false })?.isDirectory() === true)
      throw refuse('the path of a database file', source, ', which is a directory');
  } catch (error) {
    if (error instanceof EndpointError) throw error;
    throw refuse('the path of a database file', source, `: ${fileReason(error)}`);
  }
  const url = `sqlite://${absolute.split('/').map(encodeURIComponent).join('/')}`;
  return { engine: 'sqlite', url, displayUrl: `sqlite://${absolute}`, identity: `sqlite ${absolute}` };
}

interface SqlParts {
  readonly user: string;
  readonly password: string;
  /** `host:port` or `[::1]:port` of each, in the order in which they are preferred; not looked at with a socket. */
  readonly hosts: readonly string[];
  readonly database: string;
  readonly parameters: URLSearchParams;
}

function sqlEndpoint(engine: 'postgres' | 'mysql', parts: SqlParts, source: string): Endpoint {
  const { user, password, hosts, database, parameters: query } = parts;
  if (database === '') throw refuse('a database in the URL, as in HOST:PORT/DATABASE', source);
  const build = (shownPassword: string) => {
    const login = user === '' && password === '' ? '' : `${encodeURIComponent(user)}${shownPassword}@`;
    const tail = query.size === 0 ? '' : `?${query.toString()}`;
    return `${engine}://${login}${hosts.join(',')}/${encodeURIComponent(database)}${tail}`;
  };
  const socket = query.get('socketPath') ?? query.get('host');
  if (socket !== null && hosts.length > 1)
    throw refuse('several hosts or a socket', source, ', which has both');
  const places = hosts.map((host) => (/:\d+$/u.test(host) ? host : `${host}:${portDefaults[engine]}`));
  if (new Set(places).size < places.length) throw refuse('each host once', source);
  return {
    engine,
    url: build(password === '' ? '' : `:${encodeURIComponent(password)}`),
    displayUrl: build(password === '' ? '' : ':***'),
    identity: `${engine} ${socket ?? places.toSorted().join(',')}/${database}`,
  };
}

function readParameters(
  engine: 'postgres' | 'mysql',
  given: URLSearchParams,
  source: string,
): URLSearchParams {
  const checked = checkParameters(engine, given);
  if (checked instanceof URLSearchParams) return checked;
  throw new EndpointError(`Expected ${checked.expected}, got ${checked.got}${maskEndpoint(source)}`);
}

/** `mysql://USER:PASSWORD@tcp(HOST:PORT)/DATABASE`, as Go's driver writes it: nothing is percent-encoded. */
function parseGoMysql(template: Template, source: string): Endpoint | undefined {
  const found =
    /^(?:mysql|mariadb):\/\/(?:([^:]*?)(?::(.*))?@)?(tcp|unix)\(([^)]*)\)\/([^/?]*)(?:\?(.*))?$/su.exec(
      fill(template),
    );
  if (found === null) {
    const noDatabase = /^[a-z]+:\/\/(?:.*@)?(?:tcp|unix)\([^)]*\)\/?(?:\?[^@]*)?$/su.test(fill(template));
    if (noDatabase) throw refuse('a database after the address, as in tcp(HOST:PORT)/DATABASE', source);
    return undefined;
  }
  const [, user = '', password = '', network, place = '', database = '', query = ''] = found;
  const given = readParameters('mysql', new URLSearchParams(query), source);
  if (network === 'unix') {
    if (!place.startsWith('/')) throw refuse('the absolute path of a socket in unix(…)', source);
    given.set('socketPath', place);
    return sqlEndpoint(
      'mysql',
      { user, password, hosts: ['localhost'], database, parameters: given },
      source,
    );
  }
  const hosts = place.split(',').map((host) => (host === '' ? '127.0.0.1' : host));
  checkHosts(hosts, 'HOST:PORT, or several separated by commas, in tcp(…)', source);
  return sqlEndpoint('mysql', { user, password, hosts, database, parameters: given }, source);
}

function checkHosts(hosts: readonly string[], expected: string, source: string): void {
  const wrong = hosts.find((host) => !isHostAndPort(host));
  if (wrong !== undefined) throw wrongPort(`//${wrong}`, source) ?? refuse(expected, source);
}

function isHostAndPort(text: string): boolean {
  const found = /^(?:\[[0-9a-f:.]+\]|[^:/?#@,\s[\]]+)(?::(\d{1,5}))?$/iu.exec(text);
  return found !== null && isPort(found[1] ?? '1');
}

function isPort(text: string): boolean {
  return Number(text) >= 1 && Number(text) <= 65_535;
}

/** The refusal of a number that is no port, if there is one in the host's place of a URL. */
function wrongPort(text: string, source: string): EndpointError | undefined {
  const at = text.lastIndexOf('@');
  const host = at < 0 ? text.replace(/^[^/]*\/\//u, '') : text.slice(at + 1);
  const port = /^(?:\[[0-9a-f:.]+\]|[^:/?#@\s]+):(\d+)(?:[/?]|$)/iu.exec(host)?.[1];
  return port === undefined || isPort(port)
    ? undefined
    : new EndpointError(`Expected a port from 1 to 65535, got ${port} in ${maskEndpoint(source)}`);
}

/** The URL form. Variables in front of the `@` are taken literally, as they would be in the Go form. */
function parseSqlUrl(engine: 'postgres' | 'mysql', template: Template, source: string): Endpoint {
  const example = engine === 'postgres' ? 'postgres://' : 'mysql://';
  const expected = `${example}USER:PASSWORD@HOST:PORT/DATABASE with special characters percent-encoded`;
  const text = fillLogin(template);
  const { single, hosts } = splitHosts(text);
  // The URL parser takes no empty host behind a user, as in postgres://user@/db?host=/run/postgresql.
  const url = URL.parse(single.replace(/^([^/?]*\/\/[^/?]*@)\//u, '$1localhost/'));
  if (url === null || url.hash !== '' || url.pathname.slice(1).includes('/'))
    throw wrongPort(single, source) ?? refuse(expected, source);
  const shape = `HOST:PORT, or several separated by commas, in ${example}USER:PASSWORD@HOST:PORT/DATABASE`;
  const others = hosts.slice(1);
  checkHosts([...(url.host === '' ? [] : [decode(url.host, expected, source)]), ...others], shape, source);
  return sqlEndpoint(
    engine,
    {
      user: decode(url.username, expected, source),
      password: decode(url.password, expected, source),
      hosts: [url.host === '' ? 'localhost' : url.host, ...others],
      database: decode(url.pathname.slice(1), expected, source),
      parameters: readParameters(engine, url.searchParams, source),
    },
    source,
  );
}

function decode(part: string, expected: string, source: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw refuse(expected, source);
  }
}

/** Percent-encodes the variables that stand between `scheme://` and the last `@` of the file's own text. */
function fillLogin(template: Template): string {
  const [first] = template;
  if (first?.type !== 'text' || !/^[a-z]+:\/\//u.test(first.text)) return fill(template);
  let lastAt = -1;
  template.forEach((part, index) => {
    if (part.type === 'text' && part.text.includes('@')) lastAt = index;
  });
  return fill(template.slice(0, lastAt + 1), encodeURIComponent) + fill(template.slice(lastAt + 1));
}
