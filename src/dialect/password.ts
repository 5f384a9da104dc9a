// The password that a connection to a database begins with. Used by postgres-client.ts and mysql.ts.

import { readPasswordFile } from '../lib/password-file.ts';
import { SqlFault, type DriverOptions } from './dialect.ts';

/**
 * That of the file, as it is now, where there is one; else that of the URL.
 * @throws SqlFault `refused` that names the file that cannot be used.
 */
export async function passwordOf<T>({ passwordFile }: DriverOptions, inUrl: T): Promise<string | T> {
  if (passwordFile === undefined) return inUrl;
  try {
    return await readPasswordFile(passwordFile);
  } catch (cause) {
    throw new SqlFault('refused', cause instanceof Error ? cause.message : String(cause), { cause });
  }
}
