// Certificate files for tests of TLS: an authority, a server certificate for the loopback names and a client certificate,
// made when a test starts.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAuthority } from './authority.ts';

/** Files of one certificate. */
export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

/** Everything that two sides of a TLS connection need. */
export interface Certificates {
  readonly caFile: string;
  readonly server: CertificateFiles;
  readonly client: CertificateFiles;
}

/** Makes an authority and certificates of it in `folder`; valid for a day. */
export function createCertificates(folder: string): Certificates {
  const write = (name: string, pem: string) => {
    const path = join(folder, name);
    writeFileSync(path, pem);
    return path;
  };
  const authority = createAuthority('switchyard test');
  const issue = (name: string): CertificateFiles => {
    const { cert, key } = authority.issue(name);
    return { certFile: write(`${name}.pem`, cert), keyFile: write(`${name}.key`, key) };
  };
  return { caFile: write('ca.pem', authority.cert), server: issue('server'), client: issue('client') };
}
