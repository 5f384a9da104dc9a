// `switchyard validate FILE`: checks a topology file and says what it means. Reaches no server.

import { UsageError } from '../config/config.ts';
import { shown } from '../lib/shown.ts';
import { describeRule } from '../router/rules.ts';
import { loadTopology, type Topology } from '../router/topology.ts';
import { exitCode, type ExitCode, type Io } from './io.ts';
import { readArguments } from './topology-flags.ts';

const help = `Usage: switchyard validate FILE [--default-endpoint URL]

Checks a topology file without reaching any server. TLS files that it names must
be there. Exit code 0: it can be used; 2: not; 1: but for files that it names. Every problem is on standard error, as
warnings are in any case.`;

/** One line for each store and each rule. */
function summary({ path, default: defaultBackend, backends, rules, ...topology }: Topology): string {
  const stores = [defaultBackend, ...backends].map(({ name, displayUrl }) =>
    name === defaultBackend.name && topology.defaultFrom === 'nothing'
      ? `  default: none given, embedded SQLite at ${displayUrl}`
      : `  ${name} = ${displayUrl}`,
  );
  const ruleLines = rules.map((rule) => {
    const { name, store, line } = rule;
    return `  line ${line}: ${describeRule(rule)} → ${store}${name === store ? '' : ` (backend ${name})`}`;
  });
  const rest = `  everything else → ${defaultBackend.name}`;
  return [`${path} is valid`, 'stores', ...stores, 'rules, the first match wins', ...ruleLines, rest].join(
    '\n',
  );
}

/** Answers 0 with a summary. @throws UsageError, TopologyError */
export function runValidate(args: readonly string[], io: Io): ExitCode {
  const { values, positionals } = readArguments(args, io.env, ['default-endpoint']);
  if (values.help) {
    io.out(help);
    return exitCode.done;
  }
  const [path, ...more] = positionals;
  if (path === undefined || more.length > 0)
    throw new UsageError([
      `Expected one topology file, got ${path === undefined ? 'none' : shown(positionals.join(' '))}`,
    ]);
  const { defaultEndpoint } = values;
  const topology = loadTopology({
    path,
    env: io.env,
    ...(defaultEndpoint === undefined ? {} : { defaultEndpoint }),
  });
  for (const warning of topology.warnings) io.err(`warning: ${warning}`);
  io.out(summary(topology));
  return exitCode.done;
}
