// What a command has of the world: the environment and two places for text. Commands answer with an exit code.

/**
 * Exit codes. 2: the command line or the topology is wrong, and will be until somebody mends it; 1: anything else that went wrong,
 * which may be right the next time: also files that they name and that cannot be read or used.
 */
export const exitCode = { done: 0, failed: 1, usage: 2 } as const;

export type ExitCode = (typeof exitCode)[keyof typeof exitCode];

export interface Io {
  readonly env: NodeJS.ProcessEnv;
  /** One or more lines, without the last newline, to standard output. */
  readonly out: (text: string) => void;
  /** Same, to standard error. */
  readonly err: (text: string) => void;
}
