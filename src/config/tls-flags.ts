// The flags about TLS on the addresses that switchyard listens on, and the rules between them. Names and meanings are etcd's, where
// it has the flag. Used by config.ts.

import type { ListenUrl } from '../lib/listen-url.ts';
import { shown } from '../lib/shown.ts';

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3';

/** TLS on the addresses that begin with https://. Files are in PEM. */
export interface TlsSettings {
  readonly certFile: string;
  readonly keyFile: string;
  /** With it, only clients with a certificate of this authority are let in. */
  readonly trustedCaFile?: string;
  /** Certificates that the authority has taken back. */
  readonly crlFile?: string;
  /** With it, only clients of whose names in the certificate one is allowed. */
  readonly allowedClients?: AllowedClients;
  readonly minVersion: TlsVersion;
  readonly maxVersion: TlsVersion;
  /** For TLS 1.2, in OpenSSL's names, the preferred first. Those of TLS 1.3 are all good. */
  readonly ciphers: readonly string[];
}

/** Which name of a certificate counts, and which are allowed. */
export interface AllowedClients {
  readonly by: 'common name' | 'hostname';
  readonly names: readonly string[];
}

export const tlsFlags = [
  { name: 'cert-file', value: 'text', placeholder: 'FILE', help: "the server's certificate (PEM)" },
  { name: 'key-file', value: 'text', placeholder: 'FILE', help: "the certificate's key (PEM)" },
  {
    name: 'trusted-ca-file',
    value: 'text',
    placeholder: 'FILE',
    help: 'authority of client certificates (PEM); clients without a certificate of it are refused',
  },
  {
    name: 'client-cert-auth',
    value: 'switch',
    help: 'demand client certificates; needs, and is already implied by --trusted-ca-file',
  },
  {
    name: 'client-cert-allowed-cn',
    value: 'text',
    placeholder: 'NAME,…',
    help: 'common names of client certificates; clients with another one are refused',
  },
  {
    name: 'client-cert-allowed-hostname',
    value: 'text',
    placeholder: 'NAME,…',
    help: 'the same by the alternative names (DNS names, IP addresses) of client certificates',
  },
  {
    name: 'client-crl-file',
    value: 'text',
    placeholder: 'FILE',
    help: 'revocation lists (PEM), one of each authority; clients with a certificate in one are refused',
  },
  {
    name: 'tls-min-version',
    value: 'text',
    placeholder: 'VERSION',
    default: 'TLS1.2',
    help: 'TLS1.2 or TLS1.3',
  },
  { name: 'tls-max-version', value: 'text', placeholder: 'VERSION', default: 'TLS1.3', help: 'the same' },
  {
    name: 'cipher-suites',
    value: 'text',
    placeholder: 'NAME,…',
    help: 'for TLS 1.2, as Go names them (default: all that HTTP/2 permits)',
  },
  {
    name: 'insecure-allow-remote',
    value: 'switch',
    help: 'permit http:// on addresses other than loopback: whoever reaches the port reads and writes every key',
  },
] as const;

type TlsFlagName = (typeof tlsFlags)[number]['name'];

/** What is read from: the values given, and where problems are noted. */
interface FlagReader {
  readonly problems: string[];
  /** Undefined when it is empty, too. */
  text(name: TlsFlagName): string | undefined;
  /** Whether somebody gave it, with whatever value. */
  isGiven(name: TlsFlagName): boolean;
  on(name: TlsFlagName): boolean;
  /** How the operator wrote it, for messages. */
  shown(name: TlsFlagName): string;
}

const versions: Readonly<Record<string, TlsVersion>> = { 'TLS1.2': 'TLSv1.2', 'TLS1.3': 'TLSv1.3' };

/** What HTTP/2 permits with TLS 1.2 (RFC 9113, 9.2.2) and Go offers: ephemeral keys and authenticated encryption. */
const suites: Readonly<Record<string, string>> = {
  TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: 'ECDHE-ECDSA-AES128-GCM-SHA256',
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: 'ECDHE-RSA-AES128-GCM-SHA256',
  TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384: 'ECDHE-ECDSA-AES256-GCM-SHA384',
  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384: 'ECDHE-RSA-AES256-GCM-SHA384',
  TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: 'ECDHE-ECDSA-CHACHA20-POLY1305',
  TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256: 'ECDHE-RSA-CHACHA20-POLY1305',
};

/** Names between commas. One that was given and has none, as by a variable that is not set, would allow all that it is to narrow. */
function listOf(reader: FlagReader, name: TlsFlagName): string[] {
  const parts = (reader.text(name) ?? '').split(',').map((part) => part.trim());
  const names = parts.filter((part) => part !== '');
  if (names.length === 0 && reader.isGiven(name))
    reader.problems.push(`Expected names in ${reader.shown(name)}, got none`);
  return names;
}

/** Undefined where a problem was noted. */
function readVersion(
  reader: FlagReader,
  name: 'tls-min-version' | 'tls-max-version',
): TlsVersion | undefined {
  const text = reader.text(name) ?? '';
  const found = Object.hasOwn(versions, text) ? versions[text] : undefined;
  if (found === undefined)
    reader.problems.push(
      `Expected ${Object.keys(versions).join(' or ')} for ${reader.shown(name)}, got ${shown(text) || 'nothing'}`,
    );
  return found;
}

function readVersions(reader: FlagReader): Pick<TlsSettings, 'minVersion' | 'maxVersion' | 'ciphers'> {
  const minVersion = readVersion(reader, 'tls-min-version');
  const maxVersion = readVersion(reader, 'tls-max-version');
  if (minVersion !== undefined && maxVersion !== undefined && minVersion > maxVersion)
    reader.problems.push('Expected --tls-min-version to be at most --tls-max-version, got a later one');
  const given = listOf(reader, 'cipher-suites');
  if (given.length > 0 && minVersion === 'TLSv1.3')
    reader.problems.push('Expected --cipher-suites with TLS 1.2, got it with --tls-min-version TLS1.3');
  for (const name of given) {
    if (!Object.hasOwn(suites, name))
      reader.problems.push(
        `Expected names among ${Object.keys(suites).join(', ')} in ${reader.shown('cipher-suites')}, got ${shown(name)}`,
      );
  }
  const names = given.length === 0 ? Object.keys(suites) : given;
  return {
    minVersion: minVersion ?? 'TLSv1.2',
    maxVersion: maxVersion ?? 'TLSv1.3',
    ciphers: names.flatMap((name) => suites[name] ?? []),
  };
}

function readAllowedClients(reader: FlagReader): AllowedClients | undefined {
  const commonNames = listOf(reader, 'client-cert-allowed-cn');
  const hostnames = listOf(reader, 'client-cert-allowed-hostname');
  if (commonNames.length > 0 && hostnames.length > 0)
    reader.problems.push(
      'Expected --client-cert-allowed-cn or --client-cert-allowed-hostname, got both: a certificate is judged by one of them',
    );
  if (commonNames.length > 0) return { by: 'common name', names: commonNames };
  return hostnames.length > 0 ? { by: 'hostname', names: hostnames } : undefined;
}

/** Flags that say something about client certificates. */
const clientFlags = ['client-cert-allowed-cn', 'client-cert-allowed-hostname', 'client-crl-file'] as const;

/** The file that a flag names. One that was given and names none would let in whom the file is to keep out. */
function fileOf(reader: FlagReader, name: 'trusted-ca-file' | 'client-crl-file'): string | undefined {
  const path = reader.text(name);
  if (path === undefined && reader.isGiven(name))
    reader.problems.push(`Expected a file after ${reader.shown(name)}, got none`);
  return path;
}

/** Undefined without TLS, or where a problem was noted. `urls` are all addresses that are listened on. */
export function readTls(
  reader: FlagReader,
  urls: { readonly clients: readonly ListenUrl[]; readonly metrics: readonly ListenUrl[] },
): TlsSettings | undefined {
  const certFile = reader.text('cert-file');
  const keyFile = reader.text('key-file');
  const trustedCaFile = fileOf(reader, 'trusted-ca-file');
  const crlFile = fileOf(reader, 'client-crl-file');
  const allowedClients = readAllowedClients(reader);
  const chosen = readVersions(reader);
  if ((certFile === undefined) !== (keyFile === undefined)) {
    reader.problems.push(
      `Expected --cert-file and --key-file together, got only --${certFile === undefined ? 'key' : 'cert'}-file`,
    );
    return undefined;
  }
  const forClients = clientFlags.filter((name) => reader.text(name)?.trim());
  const wantsClients = reader.on('client-cert-auth') ? (['client-cert-auth'] as const) : forClients;
  if (!reader.isGiven('trusted-ca-file') && wantsClients.length > 0)
    reader.problems.push(`Expected --trusted-ca-file with ${reader.shown(wantsClients[0]!)}, got none`);
  const all = [...urls.clients, ...urls.metrics];
  if (certFile === undefined || keyFile === undefined) {
    const secure = all.find((url) => url.scheme === 'https');
    if (secure !== undefined)
      reader.problems.push(`Expected --cert-file and --key-file for ${secure.text}, got neither`);
    else if (trustedCaFile !== undefined)
      reader.problems.push('Expected --cert-file and --key-file with --trusted-ca-file, got neither');
    return undefined;
  }
  if (!all.some((url) => url.scheme === 'https'))
    reader.problems.push('Expected an https:// address in --listen-client-urls with --cert-file, got none');
  return {
    certFile,
    keyFile,
    ...(trustedCaFile === undefined ? {} : { trustedCaFile }),
    ...(crlFile === undefined ? {} : { crlFile }),
    ...(allowedClients === undefined ? {} : { allowedClients }),
    ...chosen,
  };
}
