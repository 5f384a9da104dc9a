// Certificates for tests of TLS: an authority, a server certificate for the loopback names and a client certificate, made with
// the openssl program when a test starts.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execute } from './system.ts';

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
export async function createCertificates(folder: string): Promise<Certificates> {
  const caFile = join(folder, 'ca.pem');
  const caKeyFile = join(folder, 'ca.key');
  const openssl = (command: string, ...args: readonly string[]) =>
    execute('openssl', [...command.split(' '), ...args]);
  const newKey = 'req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc';
  const days = '-days 1';
  await openssl(
    `${newKey} -x509 ${days}`,
    '-subj',
    '/CN=switchyard test',
    '-keyout',
    caKeyFile,
    '-out',
    caFile,
  );
  const sign = async (name: string, extensions: string): Promise<CertificateFiles> => {
    const file = (extension: string) => join(folder, `${name}.${extension}`);
    const [certFile, keyFile] = [file('pem'), file('key')];
    writeFileSync(file('ext'), extensions);
    await openssl(`${newKey} -new`, '-subj', `/CN=${name}`, '-keyout', keyFile, '-out', file('csr'));
    const authority = ['-CA', caFile, '-CAkey', caKeyFile, '-CAcreateserial'];
    const files = ['-in', file('csr'), '-extfile', file('ext'), '-out', certFile];
    await openssl(`x509 -req ${days}`, ...authority, ...files);
    return { certFile, keyFile };
  };
  const server = await sign(
    'server',
    'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n',
  );
  const client = await sign('client', 'extendedKeyUsage=clientAuth\n');
  return { caFile, server, client };
}
