// The server's certificate, its key and the authority of its clients, read from files and read again when they change. A
// file that cannot be read or used leaves what is in use as it is: a renewal half written must not stop the server.

import { constants, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createSecureContext, type SecureContextOptions, type Server } from 'node:tls';
import { fileReason } from '../lib/file-reason.ts';
import type { Logger } from '../lib/log.ts';
import type { AllowedClients } from './client-names.ts';

/** How often the files are looked at. Looking, not notification: secrets mounted by Kubernetes change by symlink. */
const checkIntervalMs = 5_000;

export interface TlsPaths {
  readonly certFile: string;
  readonly keyFile: string;
  /** With it, only clients with a certificate of this authority are let in. */
  readonly trustedCaFile?: string;
  /** Certificates of the authority that do not count any more. */
  readonly crlFile?: string;
}

/** How TLS is spoken on the addresses of a server, and with whom. */
export interface TlsSettings extends TlsPaths {
  /** Undefined: whoever has a certificate of the authority. */
  readonly allowedClients?: AllowedClients;
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
  readonly maxVersion: 'TLSv1.2' | 'TLSv1.3';
  /** For TLS 1.2, as OpenSSL names them, the preferred first. */
  readonly ciphers: readonly string[];
}

/** Those of TLS 1.3, which OpenSSL wants in the same list. */
const ciphers13 = ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'];

/** A file of the TLS material cannot be used. */
export class TlsFileError extends Error {
  override readonly name = 'TlsFileError';
}

/** What a listener needs of the files. Close it, or its timer goes on. */
export class TlsMaterial {
  readonly #settings: TlsSettings;
  readonly #logger: Logger;
  readonly #servers = new Set<Server>();
  readonly #timer: NodeJS.Timeout;
  #context: SecureContextOptions;
  #stamp: string;

  /** @throws TlsFileError when the files cannot be used. */
  constructor(settings: TlsSettings, logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
    this.#stamp = stampOf(settings);
    this.#context = load(settings);
    this.#timer = setInterval(() => this.refresh(), checkIntervalMs).unref();
  }

  get context(): SecureContextOptions {
    return this.#context;
  }

  /** When the certificate in use ends, in milliseconds since the epoch. */
  get endsAt(): number {
    return new X509Certificate(this.#context.cert as Buffer).validToDate.getTime();
  }

  get demandsClientCertificate(): boolean {
    return this.#settings.trustedCaFile !== undefined;
  }

  /** Undefined: whoever has a certificate of the authority. */
  get allowedClients(): AllowedClients | undefined {
    return this.#settings.allowedClients;
  }

  /** The server gets new material as it comes. */
  onChange(server: Server): void {
    this.#servers.add(server);
  }

  offChange(server: Server): void {
    this.#servers.delete(server);
  }

  /** Looks at the files now. */
  refresh(): void {
    const stamp = stampOf(this.#settings);
    if (stamp === this.#stamp) return;
    // Also on failure: the same broken files are reported once.
    this.#stamp = stamp;
    try {
      this.#context = load(this.#settings);
      // Tickets of sessions from before count no more, so whoever comes back shows a certificate to the new authority.
      for (const server of this.#servers) server.setSecureContext(this.#context);
      this.#logger.info('certificate reloaded', { certFile: this.#settings.certFile });
    } catch (error) {
      this.#logger.error('certificate not reloaded, the old one stays in use', { error });
    }
  }

  close(): void {
    clearInterval(this.#timer);
    this.#servers.clear();
  }
}

function pathsOf({ certFile, keyFile, trustedCaFile, crlFile }: TlsPaths): string[] {
  return [certFile, keyFile, trustedCaFile, crlFile].filter((path) => path !== undefined);
}

function stampOf(paths: TlsPaths): string {
  const parts = pathsOf(paths).map((path) => {
    try {
      const { ino, size, mtimeMs } = statSync(path);
      return `${ino}-${size}-${mtimeMs}`;
    } catch (error) {
      // Whoever reads it says so.
      return fileReason(error);
    }
  });
  return parts.join(' ');
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new TlsFileError(`Expected a readable PEM file, got ${path}: ${fileReason(error)}`);
  }
}

/** OpenSSL passes over what is no PEM in these two, and would then refuse everybody, or let in who is in the list. */
function readPem(path: string, label: string): Buffer {
  const bytes = read(path);
  if (bytes.includes(`-----BEGIN ${label}-----`)) return bytes;
  throw new TlsFileError(`Expected a PEM file with a ${label}, got ${path} without one`);
}

function load(settings: TlsSettings): SecureContextOptions {
  const { certFile, keyFile, trustedCaFile, crlFile, minVersion, maxVersion, ciphers } = settings;
  const context: SecureContextOptions = {
    cert: read(certFile),
    key: read(keyFile),
    ...(trustedCaFile === undefined ? {} : { ca: readPem(trustedCaFile, 'CERTIFICATE') }),
    ...(crlFile === undefined ? {} : { crl: readPem(crlFile, 'X509 CRL') }),
    minVersion,
    maxVersion,
    ciphers: [...ciphers13, ...ciphers].join(':'),
    // A handshake within a connection is work for nothing, and HTTP/2 forbids it (RFC 9113, 9.2.1).
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  };
  try {
    // Fails here, with the operator, and not at the first client.
    createSecureContext(context);
  } catch (error) {
    throw new TlsFileError(
      `Expected a certificate and its key, got ${certFile} and ${keyFile}, which do not make a pair`,
      { cause: error },
    );
  }
  return context;
}
