// The address of a Postgres database and how its connections are encrypted. Used by postgres-client.ts and postgres.ts.
// Invariant: no message holds a password.

import type { ConnectionOptions } from 'node:tls';
import { splitHosts } from '../lib/host-list.ts';
import type { DriverOptions } from './dialect.ts';
import { readTls } from './tls.ts';
import { decoded, refuse, shownName } from './url.ts';

const parameters = [
  'host',
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'application_name',
  'synchronous_commit',
  'prepared',
  'target_session_attrs',
] as const;
type Parameter = (typeof parameters)[number];

const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'];
const commitModes = ['off', 'local', 'remote_write', 'on', 'remote_apply'];
const targets = ['read-write', 'primary', 'any'] as const;

/** What a server must be: not read-only, no replica, or just there. */
export type PostgresTarget = (typeof targets)[number];

export interface PostgresHost {
  readonly host: string;
  readonly port: number;
}

export interface PostgresAddress {
  /** In the order in which they are preferred. */
  readonly hosts: readonly PostgresHost[];
  /** A store must write, so of several hosts it is the one that can; a single host is taken as it is. */
  readonly target: PostgresTarget;
  readonly user: string;
  readonly password: string | undefined;
  readonly database: string;
  readonly parameters: Partial<Record<Parameter, string>>;
}

/**
 * The parts of `postgres://user:password@host:port/database?parameter=…`; several hosts are separated by commas. A Unix socket is
 * named by its folder: `postgres://user:password@/database?host=/run/postgresql`. Parameters are those of libpq, as far as they are known here, and
 * `prepared=off` for poolers that lose prepared statements. @throws SqlFault without the password.
 */
export function parsePostgresUrl(text: string): PostgresAddress {
  const shown = text.replace(/\/\/.*@/, '//…@');
  const { single, hosts } = splitHosts(text);
  let url: URL;
  try {
    // The URL parser takes no empty host behind a user.
    url = new URL(single.replace(/^([^/?]*\/\/[^/?]*@)\//, '$1localhost/'));
  } catch {
    refuse('a URL of the form postgres://user:password@host:port/database', shown);
  }
  if (url.protocol !== 'postgres:' && url.protocol !== 'postgresql:') refuse('a postgres:// URL', shown);
  const given: Partial<Record<Parameter, string>> = {};
  for (const [name, value] of url.searchParams) {
    const known = parameters.find((parameter) => parameter === name);
    if (known === undefined)
      refuse(`one of the parameters ${parameters.join(', ')} in the Postgres URL`, shownName(name));
    given[known] = value;
  }
  const check = (name: Parameter, allowed: readonly string[]) => {
    const value = given[name];
    if (value !== undefined && !allowed.includes(value))
      refuse(`${name} to be one of ${allowed.join(', ')}`, value);
  };
  check('sslmode', sslModes);
  check('synchronous_commit', commitModes);
  check('prepared', ['on', 'off']);
  check('target_session_attrs', targets);
  if (given.host && hosts.length > 1)
    refuse('several hosts or the parameter host in the Postgres URL', 'both');
  const wanted = targets.find((target) => target === given.target_session_attrs);
  return {
    hosts: given.host ? [{ host: given.host, port: portOf(url) }] : hosts.map((host) => hostOf(host, shown)),
    target: wanted ?? (hosts.length > 1 ? 'read-write' : 'any'),
    user: decoded(url.username) || 'postgres',
    password: url.password === '' ? undefined : decoded(url.password),
    database: decoded(url.pathname.slice(1)) || 'switchyard',
    parameters: given,
  };
}

const portOf = ({ port }: URL) => (port === '' ? 5432 : Number(port));

/** One host as it is written in a URL. */
function hostOf(text: string, shown: string): PostgresHost {
  const url = URL.parse(`postgres://${text}/`);
  if (url === null || /[@?#]/.test(text)) refuse('each host as HOST:PORT in the Postgres URL', shown);
  return { host: decoded(url.hostname).replace(/^\[(.*)\]$/, '$1') || 'localhost', port: portOf(url) };
}

/** What goes to the package as `ssl`. */
export async function postgresTls(
  address: PostgresAddress,
  tls: DriverOptions['tls'],
): Promise<ConnectionOptions | false> {
  const { sslmode, sslrootcert, sslcert, sslkey } = address.parameters;
  if (tls) return await readTls(tls);
  // Without a certificate authority to check against, `require` asks for encryption alone, as it does in libpq.
  const checks =
    sslmode === 'verify-full' || sslmode === 'verify-ca' || (sslmode === 'require' && sslrootcert);
  if (!checks && sslmode !== 'require') return false;
  const material = await readTls({
    ...(sslrootcert === undefined ? {} : { caFile: sslrootcert }),
    ...(sslcert === undefined ? {} : { certFile: sslcert }),
    ...(sslkey === undefined ? {} : { keyFile: sslkey }),
    skipVerify: !checks,
  });
  return sslmode === 'verify-full' ? material : { ...material, checkServerIdentity: () => undefined };
}
