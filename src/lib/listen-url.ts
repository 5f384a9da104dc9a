// Addresses to listen on, as operators write them: `http://HOST:PORT`. Used by config.ts, the server and the check against a
// gateway that is its own backend.

export interface ListenUrl {
  readonly scheme: 'http' | 'https';
  /** Without the brackets of an IPv6 address. */
  readonly host: string;
  readonly port: number;
  /** As it was written, normalised. */
  readonly text: string;
}

/** Undefined for anything but `http(s)://HOST:PORT` without a path. */
export function parseListenUrl(text: string): ListenUrl | undefined {
  const url = URL.parse(text);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) return undefined;
  if (url.pathname !== '/' || url.search !== '' || url.hostname === '') return undefined;
  if (url.username !== '' || url.password !== '') return undefined;
  const scheme = url.protocol === 'https:' ? 'https' : 'http';
  // The URL parser drops a scheme's own port, and a forgotten port must not come to mean it.
  if (!/:\d+\/?$/u.test(text)) return undefined;
  const port = url.port === '' ? (scheme === 'https' ? 443 : 80) : Number(url.port);
  const host = url.hostname.replace(/^\[(.*)\]$/u, '$1');
  return { scheme, host, port, text: listenText(scheme, host, port) };
}

/** `http://HOST:PORT`, with brackets around IPv6. */
export function listenText(scheme: string, host: string, port: number): string {
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** True for hosts that only this machine reaches. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/u.test(host);
}

/** True for the hosts that stand for every address of the machine. */
export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}
