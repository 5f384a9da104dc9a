// TLS material from files, in the form that both database packages and node:tls take. Used by postgres.ts and mysql.ts.

import { readFile } from 'node:fs/promises';
import { SqlFault, type DriverOptions } from './dialect.ts';

export interface TlsMaterial {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly rejectUnauthorized: boolean;
}

/** Reads the files. @throws SqlFault `refused` that names the file that cannot be read. */
export async function readTls(tls: NonNullable<DriverOptions['tls']>): Promise<TlsMaterial> {
  const [ca, cert, key] = await Promise.all([tls.caFile, tls.certFile, tls.keyFile].map(read));
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    rejectUnauthorized: !tls.skipVerify,
  };
}

async function read(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new SqlFault('refused', `Expected a readable TLS file, got ${JSON.stringify(path)}`, { cause });
  }
}
