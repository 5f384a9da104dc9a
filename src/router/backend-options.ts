// backendTLS, passwordFile and connectionPool of a backend in topology.yml. Used by topology.ts.

import { fileReason } from '../lib/file-reason.ts';
import { splitHosts } from '../lib/host-list.ts';
import { readRegularFile } from '../lib/regular-file.ts';
import { shown } from '../lib/shown.ts';
import type { BackendTls, ConnectionPool, Engine } from '../store/store.ts';
import { fill, readTemplate } from './environment.ts';
import type { Fields, TopologyReader } from './topology-reader.ts';

const connectionsMax = 10_000;

/** What the rest of a backend says about its TLS. */
export interface TlsContext {
  readonly env: NodeJS.ProcessEnv;
  readonly engine: Engine;
  /** The endpoint's, as Backend.url. */
  readonly url: string;
  readonly files: FileCheck;
}

/** Whether files that the topology names must be there: not where it is only explained. */
export type FileCheck = 'checked' | 'unchecked';

/** Why the file cannot be read; undefined: it can. */
function unreadable(path: string): string | undefined {
  try {
    readRegularFile(path);
    return undefined;
  } catch (error) {
    return fileReason(error);
  }
}

/** Notes the certificates among the parameters of a Postgres URL that cannot be read. */
export function checkUrlFiles(
  url: string,
  { engine, files }: Pick<TlsContext, 'engine' | 'files'>,
  note: (message: string) => void,
): void {
  if (engine !== 'postgres' || files === 'unchecked') return;
  const given = URL.parse(splitHosts(url).single)?.searchParams;
  for (const name of ['sslrootcert', 'sslcert', 'sslkey']) {
    const path = given?.get(name) ?? undefined;
    const reason = path === undefined ? undefined : unreadable(path);
    if (reason !== undefined) note(`Expected ${name} to be a file that can be read, got ${path}: ${reason}`);
  }
}

/** What in the endpoint speaks against TLS. */
function contradiction({ engine, url }: TlsContext): string | undefined {
  if (engine === 'sqlite') return 'sqlite, which is a file';
  if (engine === 'etcd') return url.startsWith('http:') ? 'an http:// endpoint: write https://' : undefined;
  const query = URL.parse(splitHosts(url).single)?.searchParams;
  if (query?.get('sslmode') === 'disable') return 'sslmode=disable';
  if (query?.get('tls') === 'false') return 'tls=false';
  return undefined;
}

/** Reads `backendTLS`; undefined when it is absent or a problem was noted. */
export function readTls(
  reader: TopologyReader,
  backend: Fields,
  context: TlsContext,
): BackendTls | undefined {
  const at = backend.lines.get('backendTLS');
  if (at === undefined) return undefined;
  const known = ['caFile', 'certFile', 'keyFile', 'skipVerify'];
  const fields = reader.fields(backend.byName.get('backendTLS') ?? null, at, 'backendTLS', known);
  if (fields === undefined) return undefined;
  const against = contradiction(context);
  if (against !== undefined) {
    const expected = context.engine === 'sqlite' ? 'a server' : 'an encrypted connection';
    reader.note(at, `Expected backendTLS with ${expected}, got it with ${against}`);
    return undefined;
  }
  const file = (name: string): string | undefined => {
    const located = reader.text(fields, name);
    if (located === undefined) return undefined;
    const { template, problems } = readTemplate(located.value, context.env);
    for (const problem of problems) reader.note(located.line, problem);
    const path = fill(template);
    const reason = problems.length > 0 || context.files === 'unchecked' ? undefined : unreadable(path);
    if (reason !== undefined)
      reader.noteFile(
        located.line,
        `Expected ${name} to be a file that can be read, got ${shown(located.value)}: ${reason}`,
      );
    return path;
  };
  const [caFile, certFile, keyFile] = [file('caFile'), file('certFile'), file('keyFile')];
  if (fields.byName.has('certFile') !== fields.byName.has('keyFile')) {
    const only = fields.byName.has('certFile') ? 'certFile' : 'keyFile';
    reader.note(at, `Expected certFile and keyFile together, got only ${only}`);
  }
  const skip = reader.scalar(fields, 'skipVerify');
  if (skip !== undefined && typeof skip.value !== 'boolean')
    reader.note(skip.line, `Expected skipVerify to be true or false, got ${shown(String(skip.value))}`);
  return {
    ...(caFile === undefined ? {} : { caFile }),
    ...(certFile === undefined ? {} : { certFile }),
    ...(keyFile === undefined ? {} : { keyFile }),
    skipVerify: skip?.value === true,
  };
}

/** Reads `passwordFile`; undefined when it is absent or a problem was noted. */
export function readPasswordFile(
  reader: TopologyReader,
  backend: Fields,
  { env, engine, url, files }: TlsContext,
): string | undefined {
  const located = reader.text(backend, 'passwordFile');
  if (located === undefined) return undefined;
  const { template, problems } = readTemplate(located.value, env);
  for (const problem of problems) reader.note(located.line, problem);
  if (problems.length > 0) return undefined;
  const path = fill(template);
  const login = URL.parse(splitHosts(url).single);
  const against = (): string | undefined => {
    if (engine === 'sqlite')
      return 'Expected passwordFile with a server, got it with sqlite, which is a file';
    if (login?.password !== '') return 'Expected a password in the endpoint or a passwordFile, got both';
    if (engine === 'etcd' && login.username === '')
      return 'Expected a user in the endpoint with passwordFile, as in https://USER@HOST:PORT, got none';
    return undefined;
  };
  const problem = against();
  if (problem !== undefined) {
    reader.note(located.line, problem);
    return undefined;
  }
  const reason = files === 'unchecked' ? undefined : unreadable(path);
  if (reason === undefined) return path;
  // Who takes it for the place of the password writes no path.
  const written = located.value.includes('/') ? shown(located.value) : 'one without a folder';
  reader.noteFile(
    located.line,
    `Expected passwordFile to be a file that can be read, got ${written}: ${reason}`,
  );
  return undefined;
}

/** Reads `connectionPool`; what is absent or wrong is left to the engine's default. */
export function readPool(reader: TopologyReader, backend: Fields, engine: Engine): ConnectionPool {
  const at = backend.lines.get('connectionPool');
  if (at === undefined) return {};
  const known = ['maxOpen', 'maxIdle', 'maxLifeTime', 'maxIdleLifeTime'];
  const fields = reader.fields(backend.byName.get('connectionPool') ?? null, at, 'connectionPool', known);
  if (fields === undefined) return {};
  if (engine === 'etcd') {
    reader.note(at, 'Expected connectionPool with a SQL database, got it with etcd');
    return {};
  }
  const maxOpen = count(reader, fields, { name: 'maxOpen', least: 1 });
  const maxIdle = count(reader, fields, { name: 'maxIdle', least: 0 });
  if (maxOpen !== undefined && maxIdle !== undefined && maxIdle > maxOpen)
    reader.note(at, `Expected maxIdle to be at most maxOpen (${maxOpen}), got ${maxIdle}`);
  const maxLifeTimeMs = duration(reader, fields, 'maxLifeTime');
  const maxIdleLifeTimeMs = duration(reader, fields, 'maxIdleLifeTime');
  return {
    ...(maxOpen === undefined ? {} : { maxOpen }),
    ...(maxIdle === undefined ? {} : { maxIdle }),
    ...(maxLifeTimeMs === undefined ? {} : { maxLifeTimeMs }),
    ...(maxIdleLifeTimeMs === undefined ? {} : { maxIdleLifeTimeMs }),
  };
}

function count(
  reader: TopologyReader,
  fields: Fields,
  { name, least }: { readonly name: string; readonly least: number },
): number | undefined {
  const located = reader.scalar(fields, name);
  if (located === undefined) return undefined;
  const { value, line } = located;
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= connectionsMax)
    return value;
  reader.note(
    line,
    `Expected ${name} to be a whole number from ${least} to ${connectionsMax}, got ${shown(String(value))}`,
  );
  return undefined;
}

const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const longestMs = 30 * 24 * 3_600_000;

/** `90`, `90s`, `1m30s`: a number alone means seconds. */
function duration(reader: TopologyReader, fields: Fields, name: string): number | undefined {
  const located = reader.scalar(fields, name);
  if (located === undefined) return undefined;
  const text = typeof located.value === 'number' ? `${located.value}s` : String(located.value);
  let totalMs = 0;
  if (/^(\d+(\.\d+)?(ms|s|m|h))+$/u.test(text)) {
    for (const [, amount = '', unit = ''] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/gu))
      totalMs += Number(amount) * (unitsMs[unit] ?? 0);
  }
  if (totalMs > 0 && totalMs <= longestMs) return Math.ceil(totalMs);
  reader.note(
    located.line,
    `Expected ${name} to be a time such as 30s, 5m or 1h30m (at most 720h), got ${shown(String(located.value))}`,
  );
  return undefined;
}
