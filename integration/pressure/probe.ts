// How another client fares: its latencies, and whether anything it asked was refused.

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { waitFor } from '../servers/index.ts';

interface Told {
  readonly ms: number;
  readonly code: number;
  readonly details: string;
}

/** Of the calls of a while. */
export interface Faring {
  readonly calls: number;
  /** What was answered with another status than OK. */
  readonly failures: readonly string[];
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export class Probe {
  readonly #worker: Worker;
  readonly #exit: Promise<unknown>;
  #told: Told[] = [];

  private constructor(worker: Worker) {
    this.#worker = worker;
    this.#exit = once(worker, 'exit');
    worker.on('message', (told: Told) => this.#told.push(told));
  }

  /** A client on a connection of its own that makes the same call again and again. */
  static async start(endpoint: string, method: string, request: Buffer): Promise<Probe> {
    const worker = new Worker(new URL('probe-worker.ts', import.meta.url), {
      workerData: { endpoint, method, request },
    });
    await once(worker, 'message');
    return new Probe(worker);
  }

  /** Waits until enough has been told to know how it fares, not counting what came first. */
  async warm(): Promise<void> {
    for (const calls of [50, 150]) {
      await waitFor(() => this.#told.length >= calls, { what: `${calls} calls of another client` });
      if (calls === 50) this.#told = [];
    }
  }

  /** What was told since the last look. */
  look(): Faring {
    const told = this.#told;
    this.#told = [];
    const ms = told.map((one) => one.ms).toSorted((a, b) => a - b);
    const at = (share: number) => ms[Math.min(ms.length - 1, Math.floor(ms.length * share))] ?? Number.NaN;
    const failures = told.filter(({ code }) => code !== 0).map(({ code, details }) => `${code} ${details}`);
    return { calls: told.length, failures, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
  }

  async stop(): Promise<void> {
    this.#worker.postMessage('stop');
    await this.#exit;
  }
}

/** `before` and `during` in one line. */
export function fared(before: Faring, during: Faring): string {
  const text = ({ p50Ms, p99Ms, maxMs }: Faring) =>
    `p50 ${p50Ms.toFixed(1)} p99 ${p99Ms.toFixed(1)} max ${maxMs.toFixed(0)} ms`;
  return `another client before: ${text(before)}, during: ${text(during)} (${during.calls} calls)`;
}
