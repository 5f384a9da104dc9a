// Whether each store answers, asked for by probes (http.ts), by the health service and by the log. Questions asked at the
// same time share one round; a store that hangs is reported as failing after `probeTimeoutMs`.

import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';
import type { Store, StoreStatus } from '../store/store.ts';

/** How long a store may take to answer a probe; kube-apiserver's own probes wait 2 s. */
const probeTimeoutMs = 1_900;
/** An answer this old serves the next question too. */
const freshForMs = 500;
/** How often stores are looked at for the log and the metrics when nobody asks. */
const watchIntervalMs = 5_000;

export interface StoreHealth {
  readonly store: Store;
  readonly status?: StoreStatus;
  /** Why it does not answer; undefined: it does. No credentials. */
  readonly failure?: string;
  /** The etcd version that it told last; undefined: it has not answered since the start. */
  readonly latestVersion?: string;
}

export interface Readiness {
  /** Every store, the default one first. Never rejects. */
  check(): Promise<readonly StoreHealth[]>;
  /** What the last round found; empty before the first. */
  latest(): readonly StoreHealth[];
  /** Calls `listener` when a store answers that did not, or does not any more; answers the function that ends the calls. */
  onNews(listener: () => void): () => void;
  close(): void;
}

/** The deepest cause says what a person can act on: `password authentication failed`, not `request timed out`. */
function reasonOf(error: unknown): string {
  let deepest = error;
  for (let depth = 0; depth < 8 && deepest instanceof Error && deepest.cause instanceof Error; depth++)
    deepest = deepest.cause;
  if (!(deepest instanceof Error)) return String(deepest);
  if (deepest.message !== '') return deepest.message;
  return 'code' in deepest ? String(deepest.code) : deepest.name;
}

async function probe(store: Store): Promise<StoreHealth> {
  const abort = new AbortController();
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(new Error(`no answer within ${probeTimeoutMs} ms`));
    abort.abort();
  }, probeTimeoutMs);
  try {
    return { store, status: await Promise.race([store.status(abort.signal), late.promise]) };
  } catch (error) {
    return { store, failure: reasonOf(error) };
  } finally {
    clearTimeout(timer);
  }
}

/** Starts looking after the stores of `stores()`. */
export function createReadiness(options: {
  readonly stores: () => readonly Store[];
  readonly clock: Clock;
  readonly logger: Logger;
}): Readiness {
  const { clock, logger } = options;
  let latest: readonly StoreHealth[] = [];
  let latestAt = Number.NEGATIVE_INFINITY;
  let running: Promise<readonly StoreHealth[]> | undefined;
  const said = new Map<Store, string>();
  const versions = new Map<Store, string>();
  const listeners = new Set<() => void>();
  const closed = new AbortController();

  const say = ({ store, failure }: StoreHealth): boolean => {
    const before = said.get(store) ?? '';
    const now = failure ?? '';
    if (before === now) return false;
    said.set(store, now);
    if (failure === undefined) logger.info('store is reachable again', { store: store.name });
    else logger.warn('store does not answer', { store: store.name, reason: failure });
    return (before === '') !== (now === '');
  };
  /** What was found, with what is known from before. */
  const remember = ({ store, status, failure }: StoreHealth): StoreHealth => {
    if (status !== undefined) {
      versions.set(store, status.version);
      return { store, status, latestVersion: status.version };
    }
    const latestVersion = versions.get(store);
    if (latestVersion !== undefined) return { store, failure: failure!, latestVersion };
    return { store, failure: `not reached since the start: ${failure}` };
  };
  const round = async () => {
    const found = (await Promise.all(options.stores().map(probe))).map(remember);
    latest = found;
    latestAt = clock.now();
    // Stores that are being closed do not answer; that is no news.
    const news = closed.signal.aborted ? [] : found.filter(say);
    if (news.length > 0) for (const listener of listeners) listener();
    return found;
  };
  const check = () => {
    if (clock.now() - latestAt < freshForMs) return Promise.resolve(latest);
    return (running ??= round().finally(() => (running = undefined)));
  };

  const watch = async () => {
    while (!closed.signal.aborted) {
      await check();
      await clock.sleep(watchIntervalMs, closed.signal);
    }
  };
  watch().catch((error: unknown) => logger.error('stores are no longer looked after', { error }));
  const onNews = (listener: () => void) => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  };
  return { check, latest: () => latest, onNews, close: () => closed.abort() };
}
