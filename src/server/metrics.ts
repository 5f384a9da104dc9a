// Counters of the server in Prometheus text: calls by method and code with their time, open streams. Read by
// server/http.ts; written by server/call.ts only.

import { grpcCode } from '../etcd/errors.ts';

/** Upper bounds of the latency buckets, in seconds. */
const bucketsSeconds = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
] as const;

interface Latency {
  readonly buckets: number[];
  sumSeconds: number;
  count: number;
}

const codeNames = new Map<number, string>(Object.entries(grpcCode).map(([name, code]) => [code, name]));

/** Call counters. One instance per server. */
export class RpcMetrics {
  readonly #handled = new Map<string, Map<number, number>>();
  readonly #latencies = new Map<string, Latency>();
  readonly #streams = new Map<string, number>();

  /** Counts one finished call; streams count at their end. */
  finished(method: string, code: number, tookMs: number): void {
    let codes = this.#handled.get(method);
    if (codes === undefined) this.#handled.set(method, (codes = new Map()));
    codes.set(code, (codes.get(code) ?? 0) + 1);
    let latency = this.#latencies.get(method);
    if (latency === undefined) {
      latency = { buckets: Array.from(bucketsSeconds, () => 0), sumSeconds: 0, count: 0 };
      this.#latencies.set(method, latency);
    }
    const seconds = tookMs / 1000;
    latency.sumSeconds += seconds;
    latency.count++;
    const bucket = bucketsSeconds.findIndex((bound) => seconds <= bound);
    if (bucket >= 0) latency.buckets[bucket]!++;
  }

  streamOpened(method: string): void {
    this.#streams.set(method, (this.#streams.get(method) ?? 0) + 1);
  }

  streamClosed(method: string): void {
    this.#streams.set(method, (this.#streams.get(method) ?? 1) - 1);
  }

  /** The Prometheus text of everything counted. */
  render(): string {
    const lines = ['# TYPE switchyard_rpc_handled_total counter'];
    for (const [method, codes] of this.#handled) {
      for (const [code, count] of codes) {
        lines.push(
          `switchyard_rpc_handled_total{method="${method}",code="${codeNames.get(code) ?? code}"} ${count}`,
        );
      }
    }
    lines.push('# TYPE switchyard_rpc_seconds histogram');
    for (const [method, latency] of this.#latencies) {
      let below = 0;
      for (const [index, bound] of bucketsSeconds.entries()) {
        below += latency.buckets[index]!;
        lines.push(`switchyard_rpc_seconds_bucket{method="${method}",le="${bound}"} ${below}`);
      }
      lines.push(`switchyard_rpc_seconds_bucket{method="${method}",le="+Inf"} ${latency.count}`);
      lines.push(`switchyard_rpc_seconds_sum{method="${method}"} ${latency.sumSeconds}`);
      lines.push(`switchyard_rpc_seconds_count{method="${method}"} ${latency.count}`);
    }
    lines.push('# TYPE switchyard_streams gauge');
    for (const [method, count] of this.#streams)
      lines.push(`switchyard_streams{method="${method}"} ${count}`);
    lines.push(
      '# TYPE process_resident_memory_bytes gauge',
      `process_resident_memory_bytes ${process.memoryUsage.rss()}`,
    );
    lines.push(
      '# TYPE process_cpu_seconds_total counter',
      `process_cpu_seconds_total ${process.cpuUsage().user / 1e6}`,
    );
    return `${lines.join('\n')}\n`;
  }
}
