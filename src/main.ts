// The entry point: picks the command and turns its outcome into an exit code. 0: done, 2: wrong usage or topology, 1: the rest.

import { runCommand } from './cli/commands.ts';

process.exitCode = await runCommand(process.argv.slice(2), {
  env: process.env,
  out: (text) => void process.stdout.write(`${text}\n`),
  err: (text) => void process.stderr.write(`${text}\n`),
});
