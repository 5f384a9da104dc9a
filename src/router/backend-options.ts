// backendTLS and connectionPool of a backend in topology.yml. Used by topology.ts.

import type { BackendTls, ConnectionPool, Engine } from '../store/store.ts';
import { fill, readTemplate } from './environment.ts';
import type { Fields, TopologyReader } from './topology-reader.ts';

const connectionsMax = 10_000;

/** Reads `backendTLS`; undefined when it is absent or a problem was noted. */
export function readTls(
  reader: TopologyReader,
  backend: Fields,
  env: NodeJS.ProcessEnv,
  engine: Engine,
): BackendTls | undefined {
  const at = backend.lines.get('backendTLS');
  if (at === undefined) return undefined;
  const known = ['caFile', 'certFile', 'keyFile', 'skipVerify'];
  const fields = reader.fields(backend.byName.get('backendTLS') ?? null, at, 'backendTLS', known);
  if (fields === undefined) return undefined;
  if (engine === 'sqlite') {
    reader.note(at, 'Expected backendTLS with a server, got it with sqlite, which is a file');
    return undefined;
  }
  const file = (name: string): string | undefined => {
    const located = reader.text(fields, name);
    if (located === undefined) return undefined;
    const { template, problems } = readTemplate(located.value, env);
    for (const problem of problems) reader.note(located.line, problem);
    return fill(template);
  };
  const [caFile, certFile, keyFile] = [file('caFile'), file('certFile'), file('keyFile')];
  if (fields.byName.has('certFile') !== fields.byName.has('keyFile')) {
    const only = fields.byName.has('certFile') ? 'certFile' : 'keyFile';
    reader.note(at, `Expected certFile and keyFile together, got only ${only}`);
  }
  const skip = reader.scalar(fields, 'skipVerify');
  if (skip !== undefined && typeof skip.value !== 'boolean')
    reader.note(skip.line, `Expected skipVerify to be true or false, got ${String(skip.value)}`);
  return {
    ...(caFile === undefined ? {} : { caFile }),
    ...(certFile === undefined ? {} : { certFile }),
    ...(keyFile === undefined ? {} : { keyFile }),
    skipVerify: skip?.value === true,
  };
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
    `Expected ${name} to be a whole number from ${least} to ${connectionsMax}, got ${String(value)}`,
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
    `Expected ${name} to be a time such as 30s, 5m or 1h30m (at most 720h), got ${String(located.value)}`,
  );
  return undefined;
}
