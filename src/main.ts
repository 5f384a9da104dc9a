// The entry point: picks the command and turns its outcome into an exit code. 0: done, 2: wrong usage or topology, 1: the rest
// (cli/io.ts).

import { runCommand } from './cli/commands.ts';

// Databases and backups hold Secrets: what is made here nobody else reads, until somebody says so.
process.umask(0o077);

process.exitCode = await runCommand(process.argv.slice(2), {
  env: process.env,
  out: (text) => void process.stdout.write(`${text}\n`),
  err: (text) => void process.stderr.write(`${text}\n`),
});
