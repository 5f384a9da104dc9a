// Which of a backend's servers are on other machines and spoken to without TLS. Used by topology.ts.

import { splitHosts } from '../lib/host-list.ts';
import { isLoopback } from '../lib/listen-url.ts';
import type { Backend } from '../store/store.ts';

/** Values of `sslmode` and `tls` with which nothing is said before the connection is encrypted. */
const encrypting = ['require', 'verify-ca', 'verify-full', 'skip-verify', 'true'];

/** Their hosts, without ports; empty: all that leaves this machine is encrypted. */
export function plainTextHosts({
  engine,
  url,
  tls,
}: Pick<Backend, 'engine' | 'url' | 'tls'>): readonly string[] {
  if (engine === 'sqlite' || tls !== undefined) return [];
  if (engine === 'etcd') return url.startsWith('https:') ? [] : remote(url.split(',').map(hostOf));
  const { single, hosts } = splitHosts(url);
  const query = URL.parse(single)?.searchParams;
  const mode = query?.get('sslmode') ?? query?.get('tls') ?? '';
  if (query?.has('socketPath') === true || encrypting.includes(mode)) return [];
  // Of libpq: the folder of a socket, or the host in the place of the one before it.
  const given = query?.get('host');
  if (given) return given.startsWith('/') ? [] : remote([given]);
  return remote(hosts.map((host) => hostOf(`${engine}://${host}`)));
}

const hostOf = (url: string) => (URL.parse(url)?.hostname ?? url).replace(/^\[(.*)\]$/u, '$1');

const remote = (hosts: readonly string[]) => hosts.filter((host) => !isLoopback(host));
