// The server's certificate, its key and the authority of its clients, read from files and read again when they change. A
// file that cannot be read or used leaves what is in use as it is: a renewal half written must not stop the server.

import { readFileSync, statSync } from 'node:fs';
import { createSecureContext, type SecureContextOptions, type Server } from 'node:tls';
import type { Logger } from '../lib/log.ts';

/** How often the files are looked at. Looking, not notification: secrets mounted by Kubernetes change by symlink. */
const checkIntervalMs = 5_000;

export interface TlsPaths {
  readonly certFile: string;
  readonly keyFile: string;
  readonly trustedCaFile?: string;
}

/** A file of the TLS material cannot be used. */
export class TlsFileError extends Error {
  override readonly name = 'TlsFileError';
}

/** What a listener needs of the files. Close it, or its timer goes on. */
export class TlsMaterial {
  readonly #paths: TlsPaths;
  readonly #logger: Logger;
  readonly #servers = new Set<Server>();
  readonly #timer: NodeJS.Timeout;
  #context: SecureContextOptions;
  #stamp: string;

  /** @throws TlsFileError when the files cannot be used. */
  constructor(paths: TlsPaths, logger: Logger) {
    this.#paths = paths;
    this.#logger = logger;
    this.#stamp = stampOf(paths);
    this.#context = load(paths);
    this.#timer = setInterval(() => this.refresh(), checkIntervalMs).unref();
  }

  get context(): SecureContextOptions {
    return this.#context;
  }

  get demandsClientCertificate(): boolean {
    return this.#paths.trustedCaFile !== undefined;
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
    const stamp = stampOf(this.#paths);
    if (stamp === this.#stamp) return;
    // Also on failure: the same broken files are reported once.
    this.#stamp = stamp;
    try {
      this.#context = load(this.#paths);
      for (const server of this.#servers) {
        server.setSecureContext({ ...this.#context, minVersion: 'TLSv1.2' });
      }
      this.#logger.info('certificate reloaded', { certFile: this.#paths.certFile });
    } catch (error) {
      this.#logger.error('certificate not reloaded, the old one stays in use', { error });
    }
  }

  close(): void {
    clearInterval(this.#timer);
    this.#servers.clear();
  }
}

function pathsOf(paths: TlsPaths): string[] {
  const { certFile, keyFile, trustedCaFile } = paths;
  return trustedCaFile === undefined ? [certFile, keyFile] : [certFile, keyFile, trustedCaFile];
}

function stampOf(paths: TlsPaths): string {
  const parts = pathsOf(paths).map((path) => {
    const stat = statSync(path, { throwIfNoEntry: false });
    return stat === undefined ? 'absent' : `${stat.ino}-${stat.size}-${stat.mtimeMs}`;
  });
  return parts.join(' ');
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new TlsFileError(`Expected a readable PEM file, got ${path}`, { cause: error });
  }
}

function load({ certFile, keyFile, trustedCaFile }: TlsPaths): SecureContextOptions {
  const context: SecureContextOptions = {
    cert: read(certFile),
    key: read(keyFile),
    ...(trustedCaFile === undefined ? {} : { ca: read(trustedCaFile) }),
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
