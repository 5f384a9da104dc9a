// Counters of the server in Prometheus text: calls by method and code with their time, open streams, what is held for clients. Read
// by server/http.ts; written by server/call.ts and server/server.ts.

import { grpcCode } from '../grpc/codes.ts';

/** Upper bounds of the latency buckets, in seconds. */
const bucketsSeconds = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
] as const;

interface Latency {
  readonly buckets: number[];
  sumSeconds: number;
  count: number;
}

/** As gRPC writes them: `OK`, `InvalidArgument`. */
const codeNames = new Map<number, string>(
  Object.entries(grpcCode).map(([name, code]) => [
    code,
    code === grpcCode.ok ? 'OK' : name[0]!.toUpperCase() + name.slice(1),
  ]),
);
/** Seconds since the epoch. */
const startedAt = performance.timeOrigin / 1000;

/** The lines that stand before the samples of a metric. */
export function metricHead(name: string, type: 'counter' | 'gauge' | 'histogram', help: string): string[] {
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
}

/** What collectors expect of any process. */
function processMetrics(): string[] {
  const { user, system } = process.cpuUsage();
  return [
    ...metricHead('process_resident_memory_bytes', 'gauge', 'Memory that the process holds.'),
    `process_resident_memory_bytes ${process.memoryUsage.rss()}`,
    ...metricHead('process_cpu_seconds_total', 'counter', 'Processor time that the process has used.'),
    `process_cpu_seconds_total ${(user + system) / 1e6}`,
    ...metricHead('process_start_time_seconds', 'gauge', 'When the process was started, since the epoch.'),
    `process_start_time_seconds ${startedAt}`,
  ];
}

/** Call counters. One instance per server. */
export class RpcMetrics {
  readonly #handled = new Map<string, Map<number, number>>();
  readonly #latencies = new Map<string, Latency>();
  readonly #streams = new Map<string, number>();
  /** Each gives its lines. */
  readonly #gauges: (() => string[])[] = [];

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

  /** `value` is asked whenever somebody looks. */
  gauge(name: string, help: string, value: () => number): void {
    this.#gauges.push(() => [...metricHead(name, 'gauge', help), `${name} ${value()}`]);
  }

  /** The Prometheus text of everything counted. */
  render(): string {
    const lines = metricHead(
      'switchyard_rpc_handled_total',
      'counter',
      'Calls answered; streams count at their end.',
    );
    for (const [method, codes] of this.#handled) {
      for (const [code, count] of codes) {
        lines.push(
          `switchyard_rpc_handled_total{method="${method}",code="${codeNames.get(code) ?? code}"} ${count}`,
        );
      }
    }
    lines.push(...metricHead('switchyard_rpc_seconds', 'histogram', 'How long calls took.'));
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
    lines.push(...metricHead('switchyard_streams', 'gauge', 'Streams that are open.'));
    for (const [method, count] of this.#streams)
      lines.push(`switchyard_streams{method="${method}"} ${count}`);
    lines.push(...this.#gauges.flatMap((gauge) => gauge()), ...processMetrics());
    return `${lines.join('\n')}\n`;
  }
}
