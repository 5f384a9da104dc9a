// The real etcdctl as a child process against one endpoint.

import { spawn, type ChildProcess } from 'node:child_process';
import { binary } from './servers/index.ts';

export interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** An etcdctl for one endpoint; `flags` go to every command. */
export class Etcdctl {
  readonly #program: string;
  readonly #flags: readonly string[];

  private constructor(program: string, flags: readonly string[]) {
    this.#program = program;
    this.#flags = flags;
  }

  static async of(endpoint: string, flags: readonly string[] = []): Promise<Etcdctl> {
    return new Etcdctl(await binary('etcdctl'), [
      `--endpoints=${endpoint}`,
      '--command-timeout=10s',
      ...flags,
    ]);
  }

  /** Standard output of a command that must succeed. */
  async run(...args: readonly string[]): Promise<string> {
    const { code, out, err } = await this.attempt(args);
    if (code !== 0) throw new Error(`Expected etcdctl ${args.join(' ')} to succeed, got ${code}: ${err}`);
    return out;
  }

  /** Any outcome; `input` goes to standard input. */
  attempt(args: readonly string[], input = ''): Promise<Outcome> {
    const child = this.start(args);
    // A command that reads no input may be over before it is offered; how it went is in its exit code.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
    return outcomeOf(child);
  }

  /** A command that runs until it is stopped. */
  start(args: readonly string[]): ChildProcess {
    return spawn(this.#program, [...this.#flags, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  }
}

/** Collects the output of a child until it ends. */
export function outcomeOf(child: ChildProcess): Promise<Outcome> {
  let out = '';
  let err = '';
  child.stdout?.on('data', (part: Buffer) => (out += part.toString()));
  child.stderr?.on('data', (part: Buffer) => (err += part.toString()));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, out, err }));
  });
}
