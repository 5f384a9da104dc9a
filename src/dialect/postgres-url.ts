// The address of a Postgres database and how its connections are encrypted. Used by postgres-client.ts and postgres.ts.
// Invariant: no message holds a password.

import type { ConnectionOptions } from 'node:tls';
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
] as const;
type Parameter = (typeof parameters)[number];

const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'];
const commitModes = ['off', 'local', 'remote_write', 'on', 'remote_apply'];

export interface PostgresAddress {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string | undefined;
  readonly database: string;
  readonly parameters: Partial<Record<Parameter, string>>;
}

/**
 * The parts of `postgres://user:password@host:port/database?parameter=…`. A Unix socket is named by its folder:
 * `postgres://user:password@/database?host=/run/postgresql`. Parameters are those of libpq, as far as they are known here, and
 * `prepared=off` for poolers that lose prepared statements. @throws SqlFault without the password.
 */
export function parsePostgresUrl(text: string): PostgresAddress {
  const shown = text.replace(/\/\/.*@/, '//…@');
  if (/^[^/]*\/\/(?:.*@)?[^/?]*,/.test(text)) refuse('one host in the Postgres URL', shown);
  let url: URL;
  try {
    // The URL parser takes no empty host behind a user.
    url = new URL(text.replace(/^([^/?]*\/\/[^/?]*@)\//, '$1localhost/'));
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
  return {
    host: given.host || decoded(url.hostname).replace(/^\[(.*)\]$/, '$1') || 'localhost',
    port: url.port === '' ? 5432 : Number(url.port),
    user: decoded(url.username) || 'postgres',
    password: url.password === '' ? undefined : decoded(url.password),
    database: decoded(url.pathname.slice(1)) || 'switchyard',
    parameters: given,
  };
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
