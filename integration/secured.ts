// A gateway behind TLS, its authority and files, and what a client sees of its handshakes. Used by the tests of TLS.

import { renameSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { get, type RequestOptions } from 'node:https';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { createAuthority, type Authority, type Certificate } from './servers/authority.ts';
import { freePort, startSwitchyard, tempFolder } from './servers/index.ts';

/** See `files`. */
export interface Files {
  readonly folder: string;
  readonly write: (name: string, text: string) => string;
  pair(name: string, certificate: Certificate): string[];
}

/** A folder of PEM files. */
export function files(): Files {
  const folder = tempFolder('tls');
  const write = (name: string, text: string) => {
    const path = join(folder, name);
    // As Kubernetes does it: the new file is there at once or not at all.
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
    return path;
  };
  return {
    folder,
    write,
    pair: (name, { cert, key }) => [
      `--cert=${write(`${name}.crt`, cert)}`,
      `--key=${write(`${name}.key`, key)}`,
    ],
  };
}

/** What the flags are made of. */
export interface Scene {
  readonly authority: Authority;
  readonly own: Files;
}

/** Starts switchyard with TLS for clients and, on a second address, for metrics; further flags come from `more`. */
export async function setUp(more: (scene: Scene) => readonly string[]) {
  const authority = createAuthority('test authority');
  const own = files();
  const server = authority.issue('switchyard');
  const certFile = own.write('server.crt', server.cert);
  const keyFile = own.write('server.key', server.key);
  const caFile = own.write('ca.crt', authority.cert);
  const endpoint = `https://127.0.0.1:${await freePort()}`;
  const tls = ['--listen-client-urls', endpoint, '--cert-file', certFile, '--key-file', keyFile];
  const metrics = `https://127.0.0.1:${await freePort()}`;
  const args = [...tls, ...more({ authority, own })];
  const gateway = await startSwitchyard({ args, metricsUrls: [metrics] });
  const dispose = async () => {
    await gateway.dispose();
    rmSync(own.folder, { recursive: true, force: true });
  };
  const port = Number(new URL(endpoint).port);
  return { authority, own, gateway, endpoint, metrics, port, caFile, dispose };
}

/** What a probe reads, as kubeadm and a kubelet ask for it. */
export async function page(url: string, tls: RequestOptions): Promise<string> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(url, { ...tls, agent: false }, resolve).once('error', reject);
  });
  const parts: Buffer[] = [];
  for await (const part of response) parts.push(part as Buffer);
  if (response.statusCode !== 200) throw new Error(`Expected 200 from ${url}, got ${response.statusCode}`);
  return Buffer.concat(parts).toString();
}

/** The protocol agreed on. */
export function handshake(port: number, options: object): Promise<string | false | null> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options }, () => {
      resolve(socket.alpnProtocol);
      socket.destroy();
    });
    socket.once('error', reject);
  });
}

/** The name in the certificate that the server shows. */
export function subject(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => {
      resolve(String(socket.getPeerCertificate().subject.CN));
      socket.destroy();
    });
    socket.once('error', reject);
  });
}
