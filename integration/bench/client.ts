// The load program (load/*.go) as a process of its own per server: told what to do a line at a time, it answers with a result.

import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { loadSource, ownProgram } from '../servers/index.ts';

/** What the load is told; see `command` in load/main.go. */
export interface Command {
  readonly do: string;
  readonly clients?: number;
  readonly seconds?: number;
  readonly rate?: number;
  readonly every?: number;
  readonly keys?: number;
  readonly first?: number;
  readonly watchers?: number;
  readonly endpoint?: string;
  readonly revision?: number;
}

/** Times in milliseconds, rates per second. */
export interface Summary {
  readonly count: number;
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** What the load answers; see `result` in load/main.go. */
export interface Result extends Summary {
  readonly conflicts: number;
  readonly errors: number;
  /** The first of them. */
  readonly error?: string;
  /** Of the measured part. */
  readonly seconds: number;
  /** CPU seconds of the load itself in the measured part. */
  readonly cpu: number;
  readonly parts?: Readonly<Record<string, Summary>>;
  readonly revision?: number;
  readonly keys?: number;
}

type Answer = Result | { readonly begins: true } | { readonly sample: Result };

/** `HOST:PORT` of a URL. */
export const addressOf = (endpoint: string): string => endpoint.replace(/^\w+:\/\//u, '');

/** A load process for one server. */
export class LoadClient {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** Builds the program when it is not there yet (needs Go). */
  static async start(options: {
    readonly endpoint: string;
    readonly valueBytes: number;
  }): Promise<LoadClient> {
    const program = await ownProgram(loadSource);
    const args = ['-endpoint', addressOf(options.endpoint), '-value-bytes', String(options.valueBytes)];
    return new LoadClient(spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] }));
  }

  /** Runs one command to its end; `begins` is called when the measured part begins, `sampled` with every sample. */
  async run(
    command: Command,
    begins: () => void = () => undefined,
    sampled: (sample: Result) => void = () => undefined,
  ): Promise<Result> {
    const { endpoint, ...rest } = command;
    const line = { ...rest, ...(endpoint === undefined ? {} : { endpoint: addressOf(endpoint) }) };
    this.#child.stdin.write(`${JSON.stringify(line)}\n`);
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done === true)
        throw new Error(`Expected a result of ${command.do}, got the end of the load process`);
      const answer = JSON.parse(value as string) as Answer;
      if ('begins' in answer) begins();
      else if ('sample' in answer) sampled(answer.sample);
      else return answer;
    }
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.stdin.end();
    await exited;
  }
}
