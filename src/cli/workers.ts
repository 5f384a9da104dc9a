// `--workers N`: several processes on the same client addresses. The process that was started serves nobody itself. It hands new
// connections to its workers in turn (node:cluster), each of them a gateway with stores of its own; it starts again what
// ends by itself, and stops all of them in order. Used by serve.ts, on both sides.
//
// A worker is begun, says once that it is serving, and is told to stop; meanwhile either side may say how much is to be logged. At the
// start one that ends without having served has met what would end the next one too: then all end, with its exit code. One that has
// served is followed by another once all have.

import cluster, { type Worker } from 'node:cluster';
import { setTimeout as sleep } from 'node:timers/promises';
import { createBackoff, type Backoff } from '../lib/backoff.ts';
import type { Logger, LogLevel } from '../lib/log.ts';
import { exitCode, type ExitCode } from './io.ts';
import type { LogSwitch } from './log-switch.ts';

const numberVariable = 'SWITCHYARD_WORKER_NUMBER';
const restartMsMin = 200;
const restartMsMax = 10_000;
/** A worker that has served for so long ended for a new reason. */
const steadyMs = 60_000;

/** Where a gateway listens. */
export interface Serving {
  readonly clientUrls: readonly string[];
  readonly metricsUrls: readonly string[];
}

/** Either side to the other. */
interface LevelMessage {
  readonly logLevel: LogLevel;
}

/** How a worker ended. */
interface End {
  readonly code: number | null;
  readonly signal: string | null;
}

/** Which worker this process is, from 1; undefined: it is none. */
export function workerNumber(env: NodeJS.ProcessEnv): number | undefined {
  return cluster.isWorker ? Number(env[numberVariable]) : undefined;
}

/** To be called in a worker that serves. */
export function saysServing(serving: Serving): void {
  process.send?.(serving);
}

/** To be called in a worker that has nothing more to do; else its link to the supervisor keeps it alive. */
export function leaveSupervisor(): void {
  cluster.worker?.disconnect();
}

/**
 * In a worker: resolves when it is to stop. A signal may come from the supervisor and, to all processes at once, from a terminal
 * or a service manager: several are one.
 */
export function workerStop(): Promise<string> {
  return new Promise((resolve) => {
    process.on('message', (message: string | LevelMessage) => {
      if (typeof message === 'string') resolve(message);
    });
    process.on('SIGTERM', () => resolve('SIGTERM'));
    // Of a terminal; the supervisor gets it too and says so.
    process.on('SIGINT', () => undefined);
  });
}

/** To be called in a worker: its log is as all others are. */
export function shareLevel(log: LogSwitch): void {
  log.onChange((logLevel) => process.send?.({ logLevel } satisfies LevelMessage));
  process.on('message', (message: string | LevelMessage) => {
    if (typeof message === 'object') log.follow(message.logLevel);
  });
}

export interface SuperviseOptions {
  readonly workers: number;
  readonly logger: Logger;
  readonly log: LogSwitch;
  /** The signal that ends it all. */
  readonly signaled: Promise<NodeJS.Signals>;
  /** Called when every worker serves, with what the first one said and all addresses for metrics. */
  readonly onServing: (serving: Serving) => void;
}

/** Runs the workers until the signal. */
export async function superviseWorkers(options: SuperviseOptions): Promise<ExitCode> {
  const { logger, log, signaled } = options;
  cluster.schedulingPolicy = cluster.SCHED_RR;
  const seats = Array.from({ length: options.workers }, (_, index) => new Seat(index + 1, logger, log));
  log.onChange(() => {
    for (const seat of seats) seat.tellLevel();
  });
  const started = await Promise.race([startAll(seats), signaled]);
  if (typeof started === 'object' && 'failed' in started) {
    await stopAll(seats, 'SIGTERM');
    return started.failed;
  }
  if (typeof started === 'object') {
    options.onServing(started);
    for (const seat of seats) seat.keep();
  }
  const signal = await signaled;
  logger.info('stopping', { signal });
  const ends = await stopAll(seats, signal);
  logger.info('stopped');
  const inOrder = (end: End) => end.code === exitCode.done || end.signal === signal;
  return ends.every(inOrder) ? exitCode.done : exitCode.failed;
}

/** The first one alone: what keeps it from serving is said once. */
async function startAll([first, ...others]: readonly Seat[]): Promise<Serving | { failed: ExitCode }> {
  const outcomes = [await first!.start()];
  if ('clientUrls' in outcomes[0]!) outcomes.push(...(await Promise.all(others.map((seat) => seat.start()))));
  const serving: Serving[] = [];
  for (const outcome of outcomes) {
    if ('clientUrls' in outcome) serving.push(outcome);
    else return { failed: outcome.code === exitCode.usage ? exitCode.usage : exitCode.failed };
  }
  return {
    clientUrls: serving[0]!.clientUrls,
    metricsUrls: serving.flatMap(({ metricsUrls }) => metricsUrls),
  };
}

async function stopAll(seats: readonly Seat[], signal: string): Promise<readonly End[]> {
  const ends = await Promise.all(seats.map((seat) => seat.stop(signal)));
  return ends.filter((end) => end !== undefined);
}

/** One worker after the other under one number. */
class Seat {
  readonly #number: number;
  readonly #logger: Logger;
  readonly #log: LogSwitch;
  readonly #backoff: Backoff = createBackoff({ firstMs: restartMsMin, maxMs: restartMsMax });
  readonly #stopping = new AbortController();
  #worker: Worker | undefined;
  #ended: Promise<End> | undefined;
  #servingSince = Number.POSITIVE_INFINITY;
  #stopSignal: string | undefined;

  constructor(number: number, logger: Logger, log: LogSwitch) {
    this.#number = number;
    this.#logger = logger;
    this.#log = log;
  }

  /** Begins a worker; resolves when it serves or has ended. */
  async start(): Promise<Serving | End> {
    // A stop may come while others are waited for.
    if (this.#stopSignal !== undefined) return { code: exitCode.done, signal: null };
    this.#servingSince = Number.POSITIVE_INFINITY;
    const { promise: ended, resolve: end } = Promise.withResolvers<End>();
    this.#ended = ended;
    const notBegun = (error: unknown) => {
      this.#logger.error('worker cannot be begun', { worker: this.#number, error });
      this.#worker = undefined;
      end({ code: exitCode.failed, signal: null });
    };
    let worker: Worker;
    try {
      worker = cluster.fork({ [numberVariable]: String(this.#number) });
    } catch (error) {
      // The system has no room for a process now.
      notBegun(error);
      return ended;
    }
    this.#worker = worker;
    worker.once('exit', (code, signal) => end({ code, signal }));
    worker.on('error', (error) => {
      // Then no end is told. One that is there and cannot be reached ends by itself, or goes on.
      if (worker.process.pid === undefined) notBegun(error);
      else this.#logger.warn('worker cannot be told', { worker: this.#number, error });
    });
    const serving = new Promise<Serving>((resolve) => {
      worker.on('message', (message: Serving | LevelMessage) => {
        if ('logLevel' in message) return this.#log.change(message.logLevel);
        // It has begun with the level of the flags.
        this.tellLevel();
        this.#servingSince = performance.now();
        // It may not have listened when it was told.
        if (this.#stopSignal !== undefined) this.#tell(worker, this.#stopSignal);
        return resolve(message);
      });
    });
    return Promise.race([serving, ended]);
  }

  /** The worker is to log as much as this process. */
  tellLevel(): void {
    if (this.#worker !== undefined) this.#tell(this.#worker, { logLevel: this.#log.level });
  }

  /** From now on a worker that ends is followed by another. */
  keep(): void {
    void this.#follow();
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const end = await this.#ended!;
      if (signal.aborted) return;
      if (performance.now() - this.#servingSince > steadyMs) this.#backoff.reset();
      const delayMs = Math.round(this.#backoff.next());
      this.#logger.error('worker ended and is started again', { worker: this.#number, ...end, delayMs });
      // A stop ends the wait; nothing is begun after it.
      await sleep(delayMs, undefined, { signal }).catch(() => undefined);
      if (!signal.aborted) await this.start();
    }
  }

  /** Resolves when the worker has ended; undefined: there was none. */
  async stop(signal: string): Promise<End | undefined> {
    this.#stopSignal = signal;
    this.#stopping.abort();
    if (this.#worker?.isDead() !== false) return undefined;
    this.#tell(this.#worker, signal);
    return this.#ended;
  }

  #tell(worker: Worker, message: string | LevelMessage): void {
    // One that ends by itself meanwhile cannot be told any more, and need not be.
    if (worker.isConnected()) worker.send(message, () => undefined);
  }
}
