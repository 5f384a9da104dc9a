// The commands by name. `serve` is meant when the first argument is none of them.

import { UsageError } from '../config/config.ts';
import { shown } from '../lib/shown.ts';
import { version } from '../lib/version.ts';
import { TopologyError } from '../router/topology.ts';
import { runBackup } from './backup.ts';
import { runExplain } from './explain.ts';
import { exitCode, type ExitCode, type Io } from './io.ts';
import { runRestore } from './restore.ts';
import { runServe, serveHelp } from './serve.ts';
import { runValidate } from './validate.ts';

const help = `Usage: switchyard [COMMAND] [flags]

  serve                      serve the etcd v3 API (the default command)
  validate FILE              check a topology file
  explain KEY|TYPE.GROUP     which store holds it, by which rule
  backup FILE                write the objects of all stores, or of some, to a file
  restore FILE               bring them back, also into other engines
  --help, --version

${serveHelp()}`;

type Command = (args: readonly string[], io: Io) => ExitCode | Promise<ExitCode>;

const commands = new Map<string, Command>([
  ['serve', runServe],
  ['validate', runValidate],
  ['explain', runExplain],
  ['backup', runBackup],
  ['restore', runRestore],
  [
    'status',
    later('status', 'until then /readyz and /metrics on --listen-metrics-urls tell how the stores are'),
  ],
  ['migrate', later('migrate', 'a type stays where its objects are')],
  ['help', (_, io) => print(help, io)],
]);

function print(text: string, io: Io): ExitCode {
  io.out(text);
  return exitCode.done;
}

function later(name: string, instead: string): Command {
  return (_, io) => {
    io.err(`switchyard: ${name} is not part of this release; ${instead}`);
    return exitCode.failed;
  };
}

async function run(args: readonly string[], io: Io): Promise<ExitCode> {
  const [first] = args;
  if (first === undefined) return runServe([], io);
  if (first === '--help' || first === '-h') return print(help, io);
  if (first === '--version' || first === '-v' || first === 'version') return print(version, io);
  if (first.startsWith('-')) return runServe(args, io);
  const command = commands.get(first);
  if (command !== undefined) return command(args.slice(1), io);
  throw new UsageError([`Expected one of ${[...commands.keys()].join(', ')}, got ${shown(first)}`]);
}

/** Runs the command that `args` name and answers with the exit code. */
export async function runCommand(args: readonly string[], io: Io): Promise<ExitCode> {
  try {
    return await run(args, io);
  } catch (error) {
    if (error instanceof UsageError || error instanceof TopologyError) {
      for (const line of error.message.split('\n')) io.err(`switchyard: ${line}`);
      return error instanceof TopologyError && error.isOfFiles ? exitCode.failed : exitCode.usage;
    }
    io.err(`switchyard: ${error instanceof Error ? error.message : String(error)}`);
    return exitCode.failed;
  }
}
