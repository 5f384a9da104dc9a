// Whether a store is the gateway itself, under whatever name: every request would go in a circle. Used by serve.ts.

import { lookup as dnsLookup } from 'node:dns/promises';
import { networkInterfaces } from 'node:os';
import { isLoopback, isWildcard, type ListenUrl } from '../lib/listen-url.ts';
import type { Backend } from '../store/store.ts';

/** How long a name may take to be resolved; a name that is not known then is taken for another's. */
const lookupTimeoutMs = 1_000;
const etcdPort = 2379;

export interface AddressSource {
  /** Every address of a name. */
  lookup(host: string): Promise<readonly string[]>;
  /** Every address of this machine. */
  local(): readonly string[];
}

const system: AddressSource = {
  lookup: async (host) => (await dnsLookup(host, { all: true })).map(({ address }) => address),
  local: () => Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address)),
};

async function addressesOf(host: string, source: AddressSource): Promise<readonly string[]> {
  const late = Promise.withResolvers<readonly string[]>();
  const timer = setTimeout(() => late.resolve([]), lookupTimeoutMs);
  try {
    return [host, ...(await Promise.race([source.lookup(host), late.promise]))];
  } catch {
    // Not known now: then it is not this process that answers under it.
    return [host];
  } finally {
    clearTimeout(timer);
  }
}

/** True when one of `addresses` leads to a listener on one of `listening`. */
function meet(addresses: readonly string[], listening: readonly string[], source: AddressSource): boolean {
  const local = new Set(source.local());
  const isHere = (host: string) => isLoopback(host) || isWildcard(host) || local.has(host);
  const same = (a: string, b: string) =>
    a === b || (isWildcard(b) && isHere(a)) || (isLoopback(b) && (isLoopback(a) || isWildcard(a)));
  return addresses.some((a) => listening.some((b) => same(a, b)));
}

async function isOwn(member: string, own: readonly ListenUrl[], source: AddressSource): Promise<boolean> {
  const url = URL.parse(member);
  if (url === null) return false;
  const written = /:(\d+)\/?$/u.exec(member)?.[1];
  const port = written === undefined ? etcdPort : Number(written);
  const candidates = own.filter((candidate) => candidate.port === port);
  // Names are asked for only where the port leaves a doubt.
  if (candidates.length === 0) return false;
  const host = url.hostname.replace(/^\[(.*)\]$/u, '$1');
  const [addresses, ...listening] = await Promise.all(
    [host, ...candidates.map((candidate) => candidate.host)].map((name) => addressesOf(name, source)),
  );
  return meet(addresses!, listening.flat(), source);
}

/** What is wrong with the addresses of `backends` for a gateway that listens on `own`; empty: nothing. */
export async function ownAddressProblems(
  backends: readonly Backend[],
  own: readonly ListenUrl[],
  source: AddressSource = system,
): Promise<readonly string[]> {
  const members = backends
    .filter(({ engine }) => engine === 'etcd')
    .flatMap(({ name, displayUrl }) =>
      displayUrl.split(',').map((member) => ({ name, member: member.trim() })),
    );
  const checked = await Promise.all(members.map(({ member }) => isOwn(member, own, source)));
  return members.flatMap(({ name, member }, index) =>
    checked[index] === true
      ? [
          `Expected the address of an etcd for store ${name}, got ${member}, which is switchyard's own ` +
            '(--listen-client-urls): give one of the two another port',
        ]
      : [],
  );
}
