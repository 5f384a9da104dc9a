// What the health pages say: /livez and /readyz in the ways of Kubernetes (single checks, `verbose`, `exclude`), /health and /version with
// the JSON of etcd. Used by http.ts. A page tells the truth of the moment: it asks the stores, and is late by 2 s at most.

import { emulatedEtcdVersion } from '../etcd/version.ts';
import type { Router } from '../router/router.ts';
import type { LifeCycle } from './life-cycle.ts';
import type { Readiness } from './readiness.ts';

export interface HealthOptions {
  readonly readiness: Readiness;
  readonly router: Router;
  readonly lifeCycle: LifeCycle;
  /** switchyard's own version. */
  readonly version: string;
}

/** What a page answers: a text, or what is written as JSON. */
export interface Page {
  readonly code: number;
  readonly body: string | object;
}

/** One thing that must be well. */
interface Check {
  /** As in the path, `store/default`, and in `exclude`. */
  readonly name: string;
  /** Why it is not well; undefined: it is. */
  readonly failure: string | undefined;
}

const notReady = 503;
const ping: Check = { name: 'ping', failure: undefined };

/** That the process answers at all: what a database does is no reason to start it again. */
export function livez(rest: string, query: URLSearchParams): Page {
  return pageOf({ title: 'livez', checks: [ping], rest, query });
}

/** That the gateway and every store serve, each as a check of its own. */
export async function readyz(rest: string, query: URLSearchParams, options: HealthOptions): Promise<Page> {
  const { readiness, router, lifeCycle } = options;
  const { phase } = lifeCycle;
  const checks: Check[] = [
    ping,
    { name: 'startup', failure: phase === 'starting' ? 'not all addresses are listened on yet' : undefined },
  ];
  for (const { store, failure } of await readiness.check())
    checks.push({ name: `store/${store.name}`, failure });
  for (const { root, store } of router.unserved())
    checks.push({ name: `type/${root}`, failure: `its store ${store} is not in the topology` });
  // Asked last: it may have begun meanwhile.
  const isStopping = lifeCycle.phase === 'stopping';
  checks.push({ name: 'shutdown', failure: isStopping ? 'switchyard is stopping' : undefined });
  return pageOf({ title: 'readyz', checks, rest, query });
}

/** etcd's /health: whether this gateway's default store serves, and it goes on serving. The other stores are /readyz's. */
export async function health({ readiness, lifeCycle }: HealthOptions): Promise<Page> {
  const [first] = await readiness.check();
  const { phase } = lifeCycle;
  const reason = phase === 'serving' ? (first?.failure ?? '') : phase;
  const serving = reason === '';
  return { code: serving ? 200 : notReady, body: { health: String(serving), reason } };
}

/** etcd's /version, and how it is here: `starting`, `serving`, `degraded` while a store does not answer, `stopping`. */
export async function version({ readiness, lifeCycle, version: own }: HealthOptions): Promise<Page> {
  const found = await readiness.check();
  const etcdserver = found[0]?.latestVersion ?? emulatedEtcdVersion;
  const etcdcluster = etcdserver.replace(/^(\d+\.\d+)\..*$/u, '$1.0');
  const { phase } = lifeCycle;
  const isDegraded = found.some(({ failure }) => failure !== undefined);
  const state = phase === 'serving' && isDegraded ? 'degraded' : phase;
  return { code: 200, body: { etcdserver, etcdcluster, storage: etcdcluster, switchyard: own, state } };
}

interface Checked {
  readonly title: 'livez' | 'readyz';
  readonly checks: readonly Check[];
  /** Behind `/livez/` or `/readyz/`; empty: all checks. */
  readonly rest: string;
  readonly query: URLSearchParams;
}

/** As kube-apiserver answers (k8s.io/apiserver, pkg/server/healthz), but with the reasons, and 503 like etcd. */
function pageOf({ title, checks, rest, query }: Checked): Page {
  if (rest !== '') return singlePage(title, checks, rest);
  const excluded = new Set(query.getAll('exclude'));
  const lines: string[] = [];
  let failed = false;
  for (const { name, failure } of checks) {
    if (excluded.delete(name)) lines.push(`[+]${name} excluded: ok`);
    else if (failure === undefined) lines.push(`[+]${name} ok`);
    else {
      failed = true;
      lines.push(`[-]${name} failed: ${failure}`);
    }
  }
  if (excluded.size > 0) {
    const names = [...excluded].map((name) => JSON.stringify(name)).join(', ');
    lines.push(`warn: some health checks cannot be excluded: no matches for ${names}`);
  }
  if (failed) return { code: notReady, body: [...lines, `${title} check failed`, ''].join('\n') };
  if (!query.has('verbose')) return { code: 200, body: 'ok\n' };
  return { code: 200, body: [...lines, `${title} check passed`, ''].join('\n') };
}

function singlePage(title: string, checks: readonly Check[], name: string): Page {
  const found = checks.find((check) => check.name === name);
  // A type is a check only while it fails.
  if (found === undefined && name.startsWith('type/')) return { code: 200, body: 'ok\n' };
  if (found === undefined) {
    const names = checks.map((check) => `/${title}/${check.name}`).join(', ');
    return { code: 404, body: `Expected ${names}\n` };
  }
  if (found.failure === undefined) return { code: 200, body: 'ok\n' };
  return { code: notReady, body: `[-]${name} failed: ${found.failure}\n` };
}
