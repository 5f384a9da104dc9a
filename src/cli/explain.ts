// `switchyard explain KEY|TYPE.GROUP`: which store holds it, by which rule or record. What the topology alone can tell is told
// without a server; definitions and placement records are asked of the default store, if it answers.

import { existsSync } from 'node:fs';
import { defaultTopologyPath, UsageError } from '../config.ts';
import { keyRange, prefixRange } from '../etcd/range.ts';
import { linkedAbort } from '../lib/abort.ts';
import { systemClock } from '../lib/clock.ts';
import { silentLogger } from '../lib/log.ts';
import { createClassifier } from '../router/classify.ts';
import { definitionKey, definitionsPrefix, parseDefinition } from '../router/kinds.ts';
import { parseRecord, recordKey } from '../router/records.ts';
import { readKey, readOf } from '../router/requests.ts';
import { describeMatch, matchRule, needsNames, typeOf, type KindNames } from '../router/rules.ts';
import { loadTopology, type Topology } from '../router/topology.ts';
import { openStore } from '../store/open.ts';
import type { Store } from '../store/store.ts';
import { exitCode, type ExitCode, type Io } from './io.ts';
import { readArguments, type TopologyFlags } from './topology-flags.ts';

const help = `Usage: switchyard explain KEY|TYPE.GROUP [--topology FILE] [--default-endpoint URL] [--key-prefix PREFIX] [--offline]

Says which store holds a key or a type and why. TYPE is a plural, singular or kind; a built-in type has no GROUP.
  switchyard explain /registry/data.example.com/largedata/default/one
  switchyard explain LargeData.data.example.com
--offline: by the topology alone, without asking the default store.`;

/** How long the default store is asked. */
const askTimeoutMs = 3_000;
const definitionsMax = 10_000;

/** What the default store knows about a type. */
interface Findings {
  /** The type's root, after a kind or singular was turned into its plural. */
  readonly root: string;
  /** null: no definition, or one that cannot be read. */
  readonly names: KindNames | null;
  /** The name in the record; null: there is no record. */
  readonly recorded: string | null;
}

/** Answers 0 and says what is known. @throws UsageError, TopologyError */
export async function runExplain(args: readonly string[], io: Io): Promise<ExitCode> {
  const accepted = ['topology', 'default-endpoint', 'key-prefix', 'offline'] as const;
  const { values, positionals } = readArguments(args, io.env, accepted);
  if (values.help) {
    io.out(help);
    return exitCode.done;
  }
  const [subject, ...more] = positionals;
  if (subject === undefined || subject === '' || more.length > 0)
    throw new UsageError([`Expected one key or type, got ${positionals.join(' ') || 'none'}`]);
  const topology = readTopology(values, io);
  const root = rootOf(subject, values.keyPrefix);
  if (root === undefined) {
    io.out(`${subject} belongs to no resource type\nstore   ${show(topology, 'default')}`);
    return exitCode.done;
  }
  const asked = values.offline ? 'not asked' : await ask(topology, root, values.keyPrefix);
  io.out(describe(topology, root, asked).join('\n'));
  return exitCode.done;
}

function readTopology({ topology: given, defaultEndpoint }: TopologyFlags, io: Io): Topology {
  const path = given ?? (existsSync(defaultTopologyPath) ? defaultTopologyPath : undefined);
  return loadTopology({
    env: io.env,
    ...(path === undefined ? {} : { path }),
    ...(defaultEndpoint === undefined ? {} : { defaultEndpoint }),
  });
}

/** The root of the type that a key belongs to, or that `TYPE.GROUP` names. */
function rootOf(subject: string, keyPrefix: string): string | undefined {
  if (subject.includes('/')) {
    const range = keyRange(Buffer.from(subject), Buffer.alloc(0));
    const location = createClassifier(keyPrefix).locate(range);
    return location.type === 'root' ? location.root : undefined;
  }
  const lower = subject.toLowerCase();
  const at = lower.indexOf('.');
  return at < 0 ? lower : `${lower.slice(at + 1)}/${lower.slice(0, at)}`;
}

/** Asks the default store; the text says why there is no answer. */
async function ask(topology: Topology, root: string, keyPrefix: string): Promise<Findings | string> {
  const backend = topology.default;
  // Opening an SQLite file would create it.
  if (backend.engine === 'sqlite' && !existsSync(decodeURIComponent(backend.url.slice('sqlite://'.length))))
    return `${backend.displayUrl} does not exist yet`;
  const store = openStore(backend, { memberId: 1n, logger: silentLogger, clock: systemClock });
  const never = new AbortController();
  const bounded = linkedAbort(never.signal);
  const timer = setTimeout(() => bounded.abort(), askTimeoutMs);
  try {
    return await retryUntil(() => find(store, root, { keyPrefix, signal: bounded.signal }), bounded.signal);
  } catch {
    return `${backend.displayUrl} does not answer`;
  } finally {
    clearTimeout(timer);
    bounded.abort();
    await store[Symbol.asyncDispose]();
  }
}

/** A store that was just opened may not be connected yet. */
async function retryUntil<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (signal.aborted) throw error;
      await systemClock.sleep(100, signal);
    }
  }
}

interface Scope {
  readonly keyPrefix: string;
  readonly signal: AbortSignal;
}

async function find(store: Store, root: string, scope: Scope): Promise<Findings> {
  const named =
    typeOf(root).group === undefined ? { root, names: null } : await findNames(store, root, scope);
  const [record] = (await store.range(readKey(recordKey(named.root)), scope.signal)).kvs;
  return { ...named, recorded: record === undefined ? null : (parseRecord(record).store ?? 'unreadable') };
}

/** The definition of `root`, which may have a kind or singular in the plural's place. */
async function findNames(store: Store, root: string, { keyPrefix, signal }: Scope) {
  const type = typeOf(root);
  const [definition] = (await store.range(readKey(definitionKey(keyPrefix, type)), signal)).kvs;
  if (definition !== undefined) return { root, names: parseDefinition(definition.value) };
  const all = prefixRange(Buffer.from(definitionsPrefix(keyPrefix)));
  for (const { key, value } of (await store.range(readOf(all, { limit: definitionsMax }), signal)).kvs) {
    const [plural = '', ...group] = key.toString('utf8', all.start.length).split('.');
    if (group.join('.') !== type.group) continue;
    const names = parseDefinition(value);
    if (names?.kind === type.plural || names?.singular === type.plural)
      return { root: `${type.group}/${plural}`, names };
  }
  return { root, names: null };
}

function show({ default: defaultBackend, backends }: Topology, name: string): string {
  const backend = [defaultBackend, ...backends].find((candidate) => candidate.name === name);
  return backend === undefined ? name : `${name} = ${backend.displayUrl}`;
}

function describe(topology: Topology, root: string, asked: Findings | string): readonly string[] {
  const known = typeof asked === 'string' ? undefined : asked;
  const type = typeOf(known?.root ?? root);
  const matched = matchRule(topology.rules, type, known?.names);
  const rule = matched === needsNames ? undefined : matched;
  const wished = rule?.store ?? 'default';
  const lines = [`type    ${type.root}`];
  const place = topology.path ?? 'topology';
  if (matched === needsNames)
    lines.push(
      `rule    not known: a rule names a kind of ${type.group}, and the type's definition was not read`,
    );
  else if (rule === undefined) lines.push('rule    none names this type');
  else lines.push(`rule    ${rule.name} (${place}:${rule.line}): ${describeMatch(rule.match)}`);
  if (known === undefined) {
    lines.push(`record  not known: ${typeof asked === 'string' ? asked : ''}`);
    if (matched !== needsNames)
      lines.push(`store   ${show(topology, wished)}, unless the type had objects elsewhere before the rule`);
    return lines;
  }
  if (known.recorded === null) {
    if (rule === undefined) return [...lines, 'record  none', `store   ${show(topology, 'default')}`];
    const outcome = `store   ${show(topology, wished)} from the first request on, unless the type has objects elsewhere by then`;
    return [...lines, 'record  none yet', outcome];
  }
  lines.push(`record  ${known.recorded}`);
  const actual = topology.storeNames.get(known.recorded);
  if (actual === undefined)
    return [
      ...lines,
      `store   none: the topology has no backend named ${known.recorded}; requests for the type fail`,
    ];
  lines.push(`store   ${show(topology, actual)}`);
  if (actual !== wished)
    lines.push(`wished  ${show(topology, wished)}: the type stays where its record says`);
  return lines;
}
