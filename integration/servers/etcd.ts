// A private etcd with its own defaults (every write is synced to disk), of one member or of several.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { binary } from './binaries.ts';
import { tempFolder } from './guard.ts';
import { ServerProcess } from './process.ts';
import { freePort } from './wait.ts';

/** One process of an etcd, which a test may kill and start again. */
export interface EtcdMember {
  /** `http://127.0.0.1:PORT`. */
  readonly endpoint: string;
  readonly pid: number;
  /** SIGKILL by default. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  start(): Promise<void>;
  logs(): string;
}

/** An etcd; what it does as a whole is done by all members. */
export interface TestEtcd extends EtcdMember {
  /** The address, or those of all members with commas between them. */
  readonly endpoint: string;
  /** `https://127.0.0.1:PORT`, with `tls` only. */
  readonly secureEndpoint: string;
  /** Of the first member. */
  readonly pid: number;
  readonly members: readonly EtcdMember[];
  dispose(): Promise<void>;
}

export interface TestEtcdOptions {
  /** Default `etcd`. */
  readonly release?: 'etcd' | 'etcd-next';
  /** How many; default 1. */
  readonly members?: number;
  readonly args?: readonly string[];
  /** Listens with TLS too, and wants a client certificate of this authority there; with one member. */
  readonly tls?: { readonly caFile: string; readonly certFile: string; readonly keyFile: string };
}

/** Where a member listens. */
interface Addresses {
  readonly name: string;
  readonly endpoint: string;
  readonly secureEndpoint: string;
  readonly peer: string;
}

async function addressesOf(number: number): Promise<Addresses> {
  return {
    name: `test-${number}`,
    endpoint: `http://127.0.0.1:${await freePort()}`,
    secureEndpoint: `https://127.0.0.1:${await freePort()}`,
    peer: `http://127.0.0.1:${await freePort()}`,
  };
}

interface Setting {
  readonly folder: string;
  readonly command: string;
  /** Of all members. */
  readonly all: readonly Addresses[];
  readonly options: TestEtcdOptions;
}

function memberProcess({ name, endpoint, secureEndpoint, peer }: Addresses, setting: Setting): ServerProcess {
  const { folder, command, all, options } = setting;
  const { tls } = options;
  const secure =
    tls === undefined
      ? []
      : [
          `--cert-file=${tls.certFile}`,
          `--key-file=${tls.keyFile}`,
          `--trusted-ca-file=${tls.caFile}`,
          '--client-cert-auth',
        ];
  return new ServerProcess({
    name: `etcd-${name}`,
    command,
    args: [
      `--name=${name}`,
      `--data-dir=${join(folder, name)}`,
      `--listen-client-urls=${tls === undefined ? endpoint : `${endpoint},${secureEndpoint}`}`,
      `--advertise-client-urls=${endpoint}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=${all.map((one) => `${one.name}=${one.peer}`).join(',')}`,
      '--log-level=warn',
      ...secure,
      ...(options.args ?? []),
    ],
    folder,
    ready: async () => (await fetch(`${endpoint}/readyz`)).ok,
  });
}

/** Starts an empty etcd on free ports. */
export async function testEtcd(options: TestEtcdOptions = {}): Promise<TestEtcd> {
  const command = await binary(options.release ?? 'etcd');
  const folder = tempFolder('etcd');
  const all: Addresses[] = [];
  while (all.length < (options.members ?? 1)) all.push(await addressesOf(all.length));
  const servers = all.map((addresses) => memberProcess(addresses, { folder, command, all, options }));
  const onAll = async (work: (server: ServerProcess) => Promise<void>) =>
    void (await Promise.all(servers.map(work)));
  const dispose = async () => {
    await onAll((server) => server.stop());
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    // A member is ready when most of them are there.
    await onAll((server) => server.start());
  } catch (error) {
    await dispose();
    throw error;
  }
  const members = servers.map((server, index): EtcdMember => ({
    endpoint: all[index]!.endpoint,
    get pid() {
      return server.pid;
    },
    kill: (signal) => server.kill(signal),
    start: () => server.start(),
    logs: () => server.logs(),
  }));
  return {
    endpoint: all.map(({ endpoint }) => endpoint).join(','),
    secureEndpoint: all[0]!.secureEndpoint,
    get pid() {
      return servers[0]!.pid;
    },
    members,
    kill: (signal) => onAll((server) => server.kill(signal)),
    start: () => onAll((server) => server.start()),
    logs: () => servers.map((server) => server.logs()).join(''),
    dispose,
  };
}

/** The member that leads. */
export async function leaderOf({ members }: TestEtcd): Promise<EtcdMember> {
  for (const member of members) {
    const answer = await fetch(`${member.endpoint}/v3/maintenance/status`, { method: 'POST', body: '{}' });
    const { leader, header } = (await answer.json()) as { leader: string; header: { member_id: string } };
    if (leader === header.member_id) return member;
  }
  throw new Error('Expected an etcd with a leader, got none');
}
