// The HTTP/1 side: /livez, /readyz, /health, /version and /metrics, on the metrics port and on the client port, where kubeadm
// and probes written for etcd look for them. Paths and the JSON of /health and /version are etcd's.

import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { listenText, type ListenUrl } from '../lib/listen-url.ts';
import type { Logger } from '../lib/log.ts';
import type { Router } from '../router/router.ts';
import { metricHead, type RpcMetrics } from './metrics.ts';
import type { Readiness, StoreHealth } from './readiness.ts';
import { emulatedEtcdVersion } from '../etcd/version.ts';

export interface HttpOptions {
  readonly readiness: Readiness;
  readonly metrics: RpcMetrics;
  readonly router: Router;
  /** How many connections clients have. */
  readonly connections: () => number;
  readonly logger: Logger;
  /** switchyard's own version. */
  readonly version: string;
  /** Which of several processes this is, from 1; undefined: the only one. */
  readonly worker?: number;
  /** True from the moment the server drains. */
  readonly draining: () => boolean;
}

interface Answer {
  readonly code: number;
  readonly type: 'text/plain; charset=utf-8' | 'application/json';
  readonly body: string;
}

const text = (code: number, body: string): Answer => ({ code, type: 'text/plain; charset=utf-8', body });
const json = (code: number, value: unknown): Answer => ({
  code,
  type: 'application/json',
  body: `${JSON.stringify(value)}\n`,
});

function checkLine({ store, failure }: StoreHealth): string {
  const about = `store ${store.name} (${store.engine})`;
  return failure === undefined ? `[+]${about} ok` : `[-]${about} failed: ${failure}`;
}

async function readyz({ readiness, router, draining }: HttpOptions): Promise<Answer> {
  const found = await readiness.check();
  const unserved = router.unserved();
  const failing = draining() || unserved.length > 0 || found.some((health) => health.failure !== undefined);
  const lines = found.map(checkLine);
  for (const { root, store } of unserved)
    lines.push(`[-]type ${root} failed: its store ${store} is not in the topology`);
  if (draining()) lines.push('[-]switchyard failed: stopping');
  lines.push(failing ? 'readyz check failed' : 'ok');
  return text(failing ? 503 : 200, `${lines.join('\n')}\n`);
}

/** etcd's /health: whether the default store serves. The other stores are /readyz's. */
async function health({ readiness, draining }: HttpOptions): Promise<Answer> {
  const [first] = await readiness.check();
  const reason = draining() ? 'stopping' : (first?.failure ?? '');
  const serving = reason === '';
  return json(serving ? 200 : 503, { health: String(serving), reason });
}

async function version({ readiness, version: own }: HttpOptions): Promise<Answer> {
  const [first] = await readiness.check();
  const etcdserver = first?.status?.version ?? emulatedEtcdVersion;
  const etcdcluster = etcdserver.replace(/^(\d+\.\d+)\..*$/u, '$1.0');
  return json(200, { etcdserver, etcdcluster, storage: etcdcluster, switchyard: own });
}

/** A value between the quotes of a label. */
function label(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function metrics(options: HttpOptions): Answer {
  const { metrics: rpc, readiness, router, connections, version: own, worker } = options;
  const which = worker === undefined ? '' : `,worker="${worker}"`;
  const lines = [
    ...metricHead('switchyard_build_info', 'gauge', 'The running version; always 1.'),
    `switchyard_build_info{version="${own}"${which}} 1`,
    ...metricHead('switchyard_connections', 'gauge', 'HTTP/2 connections of clients that are open.'),
    `switchyard_connections ${connections()}`,
    ...metricHead('switchyard_store_up', 'gauge', 'Whether the store answered when it was last asked.'),
  ];
  for (const { store, failure } of readiness.latest()) {
    lines.push(
      `switchyard_store_up{store="${store.name}",engine="${store.engine}"} ${failure === undefined ? 1 : 0}`,
    );
  }
  for (const [name, field, help] of [
    ['switchyard_store_revision', 'revision', 'The latest revision of the store.'],
    ['switchyard_store_bytes', 'dbSize', 'Size of the store, as it tells itself.'],
  ] as const) {
    lines.push(...metricHead(name, 'gauge', help));
    for (const { store, status } of readiness.latest()) {
      if (status !== undefined) lines.push(`${name}{store="${store.name}"} ${status[field]}`);
    }
  }
  const mismatch = 'switchyard_placement_mismatch';
  lines.push(
    ...metricHead(mismatch, 'gauge', 'Types that live elsewhere than the topology wishes; always 1.'),
  );
  for (const { root, recorded, wished } of router.mismatches())
    lines.push(
      `${mismatch}{root="${label(root)}",recorded="${label(recorded)}",wished="${label(wished)}"} 1`,
    );
  const unserved = 'switchyard_type_unserved';
  lines.push(...metricHead(unserved, 'gauge', 'Types whose store is not in the topology; always 1.'));
  for (const { root, store } of router.unserved())
    lines.push(`${unserved}{root="${label(root)}",store="${label(store)}"} 1`);
  return text(200, `${rpc.render()}${lines.join('\n')}\n`);
}

async function answer(path: string, options: HttpOptions): Promise<Answer> {
  switch (path) {
    case '/livez':
      return text(200, 'ok\n');
    case '/readyz':
      return readyz(options);
    case '/health':
      return health(options);
    case '/version':
      return version(options);
    case '/metrics':
      return metrics(options);
    default:
      return text(404, 'Expected /livez, /readyz, /health, /version or /metrics\n');
  }
}

function send(response: ServerResponse, { code, type, body }: Answer): void {
  response.writeHead(code, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}

/** Answers GET and HEAD requests. */
export function createHttpHandler(options: HttpOptions): RequestListener {
  return (request, response) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      send(response, text(405, 'Expected GET or HEAD\n'));
      return;
    }
    const path = (request.url ?? '/').split('?', 1)[0]!;
    answer(path, options).then(
      (found) => send(response, found),
      (error: unknown) => {
        options.logger.error('HTTP request failed', { path, error });
        send(response, text(500, 'internal error\n'));
      },
    );
  };
}

export interface HttpListener {
  readonly url: string;
  close(): void;
}

/** Binds one address of the metrics port. @throws Error of the system, for example EADDRINUSE. */
export async function listenHttp(url: ListenUrl, handler: RequestListener): Promise<HttpListener> {
  const server: Server = createServer(handler);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: url.host, port: url.port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : url.port;
  return {
    url: listenText(url.scheme, url.host, port),
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
