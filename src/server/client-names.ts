// Who may speak on the client port: names in client certificates, which are of the authority already. Used by listener.ts.

import type { TLSSocket } from 'node:tls';
import { isIP } from 'node:net';

/** Which name of a certificate counts, and which are allowed. */
export interface AllowedClients {
  /** `hostname`: the alternative names, DNS names and IP addresses, as servers' certificates have them. */
  readonly by: 'common name' | 'hostname';
  readonly names: readonly string[];
}

/** Why the client behind `socket` is not let in, as "Expected …, got …"; undefined: it is. */
export function refusalOf(socket: TLSSocket, { by, names }: AllowedClients): string | undefined {
  const { subject } = socket.getPeerCertificate();
  // A certificate may have several; then none of them says who it is.
  const commonName: unknown = subject?.CN;
  const certificate = socket.getPeerX509Certificate();
  if (by === 'common name') {
    if (typeof commonName === 'string' && names.includes(commonName)) return undefined;
    return `Expected a client certificate with one of the common names ${names.join(', ')}, got ${shown(commonName)}`;
  }
  const isFor = (name: string) =>
    isIP(name) === 0
      ? certificate?.checkHost(name, { subject: 'never' }) !== undefined
      : certificate?.checkIP(name) !== undefined;
  if (names.some(isFor)) return undefined;
  const got = certificate?.subjectAltName ?? 'none';
  return `Expected a client certificate for one of the hostnames ${names.join(', ')}, got ${got} (common name ${shown(commonName)})`;
}

const shown = (name: unknown) => (name === undefined ? 'none' : JSON.stringify(name));
