// The address of a MySQL or MariaDB database and how its connections are encrypted. Used by mysql.ts. Invariant: no message
// holds a password.

import type { ConnectionOptions } from 'mysql2/promise';
import { splitHosts } from '../lib/host-list.ts';
import type { DriverOptions } from './dialect.ts';
import { readTls } from './tls.ts';
import { decoded, refuse, shownName } from './url.ts';

/** Where a server listens. */
export type MysqlHost = { readonly host: string; readonly port: number } | { readonly socketPath: string };

export interface MysqlAddress {
  /** In the order in which they are preferred. */
  readonly hosts: readonly MysqlHost[];
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly tls: string;
}

const defaultDatabase = 'switchyard';
const tlsModes = ['false', 'preferred', 'skip-verify', 'true'];

/**
 * The parts of `mysql://user:password@host:port/database?tls=…`; several hosts are separated by commas. A Unix socket is the
 * parameter `socketPath`:
 * `mysql://user:password@localhost/database?socketPath=/run/mysqld/mysqld.sock`. The Go form, with `tcp(host:port)` or
 * `unix(path)` in the place of the host and a user and password that are not percent-encoded, is taken too.
 * @throws SqlFault without the password.
 */
export function parseMysqlUrl(text: string): MysqlAddress {
  const shown = text.replace(/\/\/.*@/, '//…@');
  const go = /^(?:mysql|mariadb):\/\/(?:([^:]*?)(?::(.*))?@)?(tcp|unix)\((.*)\)\/([^/?]*)(?:\?(.*))?$/.exec(
    text,
  );
  if (go) {
    const [, user = 'root', password = '', network, place = '', database = '', query = ''] = go;
    const { tls } = readParameters(new URLSearchParams(query));
    const hosts = network === 'unix' ? [{ socketPath: place }] : hostsOf(place.split(','), shown);
    return { hosts, user, password, database: database || defaultDatabase, tls };
  }
  const { single, hosts } = splitHosts(text);
  let url: URL;
  try {
    url = new URL(single);
  } catch {
    refuse('a URL of the form mysql://user:password@host:port/database', shown);
  }
  if (url.protocol !== 'mysql:' && url.protocol !== 'mariadb:') refuse('a mysql:// URL', shown);
  const { tls, socketPath } = readParameters(url.searchParams);
  if (socketPath !== undefined && hosts.length > 1)
    refuse('several hosts or the parameter socketPath in the MySQL URL', 'both');
  return {
    hosts: socketPath === undefined ? hostsOf([url.host, ...hosts.slice(1)], shown) : [{ socketPath }],
    user: decoded(url.username) || 'root',
    password: decoded(url.password),
    database: decoded(url.pathname.slice(1)) || defaultDatabase,
    tls,
  };
}

function hostsOf(texts: readonly string[], shown: string): readonly MysqlHost[] {
  return texts.map((text) => {
    const match = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(text);
    if (!match) refuse('each host as host:port in the MySQL URL', shown);
    const host = match[1] ?? match[2];
    return { host: host || '127.0.0.1', port: match[3] === undefined ? 3306 : Number(match[3]) };
  });
}

/** Parameters of other clients' URLs that say nothing to this one. */
const ignored = ['parseTime', 'charset', 'collation', 'loc'];

function readParameters(parameters: URLSearchParams): {
  readonly tls: string;
  readonly socketPath: string | undefined;
} {
  let tls = 'false';
  let socketPath: string | undefined;
  for (const [name, value] of parameters) {
    if (name === 'tls') tls = value;
    else if (name === 'socketPath') socketPath = value;
    else if (!ignored.includes(name)) {
      refuse('no parameter but tls and socketPath in the MySQL URL', shownName(name));
    }
  }
  if (!tlsModes.includes(tls)) refuse(`tls to be one of ${tlsModes.join(', ')}`, tls);
  return { tls, socketPath };
}

/** What goes to the package as `ssl`; undefined = not encrypted. */
export async function mysqlTls(
  address: MysqlAddress,
  tls: DriverOptions['tls'],
): Promise<ConnectionOptions['ssl']> {
  if (!tls && (address.tls === 'false' || address.tls === 'preferred')) return undefined;
  const material = await readTls(tls ?? { skipVerify: address.tls === 'skip-verify' });
  return { ...material, verifyIdentity: material.rejectUnauthorized };
}
