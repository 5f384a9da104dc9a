// A server as a child process: started and waited for, killed, started again with the same arguments, disposed of.
// Its output goes to a file, so it never blocks on a reader and can be shown when something fails.

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { childrenOf, gone, signalAll } from './children.ts';
import { guardProcess, releaseProcess } from './guard.ts';
import type { SystemUser } from './system.ts';
import { Hopeless, waitFor } from './wait.ts';

/** Most of a log that is shown or returned. */
const logBytesMax = 4 * 1024 * 1024;

/** How long a server may take to stop by itself before it is killed. */
const stopMsMax = 20_000;

const endingSignals: readonly string[] = ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGQUIT'];
/** A process cannot pass these on to its children. */
const familySignals: readonly string[] = ['SIGKILL', 'SIGSTOP', 'SIGCONT'];

export interface ServerOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Where its log is written. */
  readonly folder: string;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Run as this user (databases refuse to run as root). */
  readonly user?: SystemUser | undefined;
  /** The signal that asks for a clean stop; SIGTERM when absent. */
  readonly stopSignal?: NodeJS.Signals;
  /** True as soon as the server serves. */
  readonly ready: () => Promise<boolean>;
  readonly startMsMax?: number;
}

/** A server process that tests may stop, kill and start again. */
export class ServerProcess {
  readonly #options: ServerOptions;
  readonly #logFile: string;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#logFile = join(options.folder, `${options.name}.log`);
  }

  /** Process id of the running (or last) process. */
  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error(`Expected ${this.#options.name} to have been started`);
    return pid;
  }

  get running(): boolean {
    const child = this.#child;
    return (
      child !== undefined && child.pid !== undefined && child.exitCode === null && child.signalCode === null
    );
  }

  /** Of its last end by itself; null: it runs, or a signal has ended it. */
  get exitCode(): number | null {
    return this.#child?.exitCode ?? null;
  }

  /** Everything it printed, over all of its starts. */
  logs(): string {
    if (!existsSync(this.#logFile)) return '';
    return readFileSync(this.#logFile).subarray(-logBytesMax).toString();
  }

  /** Starts it, unless it runs, and waits until it serves, or until it is as `ready` says. */
  async start(ready = this.#options.ready): Promise<void> {
    if (!this.running) this.#spawn();
    const { name, startMsMax } = this.#options;
    await waitFor(
      () => {
        if (!this.running) throw new Hopeless(`${name} ended by itself`);
        return ready();
      },
      {
        what: `${name} to serve`,
        deadlineMs: startMsMax ?? 30_000,
        details: () => this.logs().split('\n').slice(-40).join('\n'),
      },
    );
  }

  #spawn(): void {
    const { command, args, cwd, env, user } = this.#options;
    const log = openSync(this.#logFile, 'a');
    const child = spawn(command, args, {
      stdio: ['ignore', log, log],
      // Ctrl-C in a terminal reaches this process alone, which then stops its servers in order.
      detached: true,
      ...(cwd === undefined ? {} : { cwd }),
      ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
      env: { ...process.env, ...env },
    });
    closeSync(log);
    this.#child = child;
    const { pid } = child;
    this.#exited = new Promise((resolve) => {
      child.once('error', () => resolve());
      child.once('exit', () => {
        if (pid !== undefined) releaseProcess(pid);
        resolve();
      });
    });
    if (pid !== undefined) guardProcess(pid);
    // Tests end by themselves; the guard stops what they leave.
    child.unref();
  }

  /**
   * Sends a signal (SIGKILL when none is given) and, when it is one that ends the process, waits for the end. One that leaves no
   * choice goes to the process's children too.
   */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (!this.running) return;
    const children = familySignals.includes(signal) ? childrenOf(this.pid) : [];
    this.#child?.kill(signal);
    signalAll(children, signal);
    if (!endingSignals.includes(signal)) return;
    await this.#end();
    await gone(children);
  }

  /** Asks for a clean stop and waits; kills it when it takes too long. */
  async stop(): Promise<void> {
    await this.kill(this.#options.stopSignal ?? 'SIGTERM');
  }

  async #end(): Promise<void> {
    this.#child?.ref();
    const timer = setTimeout(() => this.#child?.kill('SIGKILL'), stopMsMax);
    await this.#exited;
    clearTimeout(timer);
  }
}
