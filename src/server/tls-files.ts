// The server's certificate, its key and the authority of its clients, read from files and read again when they change. A
// file that cannot be read or used leaves what is in use as it is: a renewal half written must not stop the server.

import { constants, createPrivateKey, X509Certificate } from 'node:crypto';
import { statSync } from 'node:fs';
import { createSecureContext, type SecureContextOptions, type Server } from 'node:tls';
import { fileReason } from '../lib/file-reason.ts';
import { errorText, type Logger } from '../lib/log.ts';
import { certificatesIn, pemBlocks } from '../lib/pem.ts';
import { readRegularFile } from '../lib/regular-file.ts';
import type { AllowedClients } from './client-names.ts';

/** How often the files are looked at. Looking, not notification: secrets mounted by Kubernetes change by symlink. */
const checkIntervalMs = 5_000;

export interface TlsPaths {
  readonly certFile: string;
  readonly keyFile: string;
  /** With it, only clients with a certificate of this authority are let in. */
  readonly trustedCaFile?: string;
  /** Certificates that do not count any more: a list of each authority, those in the middle of a chain included. */
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
  /** Of the files in use. */
  #stamp: string;
  /** Why the files that are there now cannot be used, as it was logged. */
  #failure: string | undefined;

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

  /** Looks at the files now. Those that cannot be used are tried again each time, and told of when the reason is another. */
  refresh(): void {
    const stamp = stampOf(this.#settings);
    if (stamp === this.#stamp) {
      this.#failure = undefined;
      return;
    }
    try {
      const context = load(this.#settings);
      // Tickets of sessions from before count no more, so whoever comes back shows a certificate to the new authority.
      for (const server of this.#servers) server.setSecureContext(context);
      this.#context = context;
      this.#stamp = stamp;
      this.#failure = undefined;
      this.#logger.info('certificate reloaded', { certFile: this.#settings.certFile });
    } catch (error) {
      const failure = error instanceof Error ? errorText(error) : String(error);
      if (failure === this.#failure) return;
      this.#failure = failure;
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
      // A change of the mode, or one within a tick of the clock that mtime has, shows in ctime.
      const { ino, size, mtimeMs, ctimeMs } = statSync(path);
      return `${ino}-${size}-${mtimeMs}-${ctimeMs}`;
    } catch (error) {
      // Whoever reads it says so.
      return fileReason(error);
    }
  });
  return parts.join(' ');
}

/** What `take` makes of the file. @throws TlsFileError that names the file. */
function taken<T>(path: string, expected: string, take: (bytes: Buffer) => T): T {
  let bytes: Buffer;
  try {
    bytes = readRegularFile(path);
  } catch (error) {
    throw new TlsFileError(`Expected a readable PEM file, got ${path}: ${fileReason(error)}`);
  }
  try {
    return take(bytes);
  } catch (cause) {
    throw new TlsFileError(`Expected ${expected}, got ${path}: ${reasonOf(cause)}`, { cause });
  }
}

const reasonOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** As OpenSSL takes it, with those that follow it up to its authority. @throws Error */
function ownCertificate(bytes: Buffer): Buffer {
  certificatesIn(bytes);
  return bytes;
}

function ownKey(bytes: Buffer): Buffer {
  createPrivateKey(bytes);
  return bytes;
}

/** One text each: of a text with several, Node takes the first. @throws Error */
function revocationLists(bytes: Buffer, ca: readonly string[]): readonly string[] {
  const lists = pemBlocks(bytes, 'X509 CRL');
  createSecureContext({ ca: [...ca], crl: [...lists] });
  return lists;
}

function load(settings: TlsSettings): SecureContextOptions {
  const { certFile, keyFile, trustedCaFile, crlFile, minVersion, maxVersion, ciphers } = settings;
  const cert = taken(certFile, 'certificates in PEM', ownCertificate);
  const key = taken(keyFile, 'a private key in PEM without a passphrase', ownKey);
  const ca = trustedCaFile === undefined ? [] : taken(trustedCaFile, 'certificates in PEM', certificatesIn);
  const crl =
    crlFile === undefined
      ? []
      : taken(crlFile, 'revocation lists in PEM', (bytes) => revocationLists(bytes, ca));
  const context: SecureContextOptions = {
    cert,
    key,
    ...(ca.length === 0 ? {} : { ca: [...ca] }),
    ...(crl.length === 0 ? {} : { crl: [...crl] }),
    minVersion,
    maxVersion,
    ciphers: [...ciphers13, ...ciphers].join(':'),
    // A handshake within a connection is work for nothing, and HTTP/2 forbids it (RFC 9113, 9.2.1).
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  };
  try {
    // Fails here, with the operator, and not at the first client.
    createSecureContext(context);
  } catch (cause) {
    throw new TlsFileError(
      `Expected a certificate and its key, got ${certFile} and ${keyFile}: ${reasonOf(cause)}`,
      { cause },
    );
  }
  return context;
}
