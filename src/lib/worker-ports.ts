// The metrics ports of several workers: those of the Nth are N-1 higher, and must be ports and nobody else's. Worse than a
// clash: workers that listen on one address share it without a word, and each answers for all. Used by config.ts.

import { isLoopback, isWildcard, type ListenUrl } from './listen-url.ts';

const portMax = 65_535;

export interface WorkerAddresses {
  readonly workers: number;
  readonly listenClientUrls: readonly ListenUrl[];
  /** The first worker's. */
  readonly listenMetricsUrls: readonly ListenUrl[];
}

/** What is wrong with the addresses; nothing where there is only one worker. */
export function workerPortProblems(addresses: WorkerAddresses): readonly string[] {
  const { workers, listenClientUrls, listenMetricsUrls } = addresses;
  if (workers === 1) return [];
  return listenMetricsUrls.flatMap(({ port, host, text }, index) => {
    if (port === 0) return [`Expected a port for the metrics of ${workers} workers, got ${text}`];
    const last = port + workers - 1;
    const expected = `Expected ports ${port} to ${last} for the metrics of ${workers} workers`;
    if (last > portMax) return [`${expected}, got none above ${portMax}`];
    const taken = listenClientUrls.find((url) => url.port > port && url.port <= last);
    if (taken !== undefined) return [`${expected}, got ${taken.text} for clients among them`];
    const other = listenMetricsUrls
      .slice(index + 1)
      .find((url) => Math.abs(url.port - port) < workers && mayBeOne(url.host, host));
    return other === undefined ? [] : [`${expected} alone, got ${other.text} for metrics too`];
  });
}

/** Whether two hosts to listen on may be the same. */
function mayBeOne(one: string, other: string): boolean {
  if (one === other || isWildcard(one) || isWildcard(other)) return true;
  return [one, other].includes('localhost') && isLoopback(one) && isLoopback(other);
}
