// `switchyard explain KEY|TYPE.GROUP`: which store holds it, by which rule or record. What the topology alone can tell is told
// without a server; definitions and placement records are asked of the default store, if it answers.

import { UsageError } from '../config/config.ts';
import { keyRange, prefixRange } from '../etcd/range.ts';
import { linkedAbort } from '../lib/abort.ts';
import { systemClock } from '../lib/clock.ts';
import { silentLogger } from '../lib/log.ts';
import { shown } from '../lib/shown.ts';
import { createClassifier } from '../router/classify.ts';
import { definitionKey, definitionsPrefix, parseDefinition } from '../router/kinds.ts';
import { parseRecord, recordKey } from '../router/records.ts';
import { readKey, readOf } from '../router/requests.ts';
import { typeOf } from '../router/rules.ts';
import type { Topology } from '../router/topology.ts';
import { isThere, openStore } from '../store/open.ts';
import type { Store } from '../store/store.ts';
import { explainType, showStore, type Definition, type Findings } from './explanation.ts';
import { exitCode, type ExitCode, type Io } from './io.ts';
import { readArguments, topologyOf } from './topology-flags.ts';
import { readTypeName } from './type-name.ts';

const help = `Usage: switchyard explain KEY|TYPE.GROUP [--topology FILE] [--default-endpoint URL] [--key-prefix PREFIX] [--offline]

Says which store holds a key or a type and why. TYPE is a plural, singular or kind; a built-in type has no GROUP.
  switchyard explain /registry/data.example.com/largedata/default/one
  switchyard explain LargeData.data.example.com
--offline: by the topology alone, without asking the default store.`;

/** How long the default store is asked. */
const askTimeoutMs = 3_000;
const definitionsMax = 10_000;

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
    throw new UsageError([`Expected one key or type, got ${shown(positionals.join(' ')) || 'none'}`]);
  const topology = topologyOf(values, io, 'unchecked');
  const found = subjectOf(subject, values.keyPrefix);
  if (found.root === undefined) {
    io.out(found.spans ? found.note : `${found.note}\nstore   ${showStore(topology, 'default')}`);
    return exitCode.done;
  }
  const asked = values.offline ? 'not asked' : await ask(topology, found.root, values.keyPrefix);
  if (found.note !== undefined) io.out(found.note);
  io.out(explainType(topology, found.root, asked).join('\n'));
  return exitCode.done;
}

/** What the argument means: a type, with a note when it is not what was typed; or why it is none. */
type Subject =
  | { readonly root: string; readonly note: string | undefined }
  | { readonly root: undefined; readonly spans: boolean; readonly note: string };

/** The type that a key belongs to, or that `TYPE.GROUP` names. */
function subjectOf(subject: string, keyPrefix: string): Subject {
  if (!subject.includes('/')) return typeNamed(subject, keyPrefix);
  const location = createClassifier(keyPrefix).locate(keyRange(Buffer.from(subject), Buffer.alloc(0)));
  if (location.type === 'root') return { root: location.root, note: undefined };
  const below = subject === keyPrefix ? '' : subject.slice(keyPrefix.length + 1);
  const spans = `${subject}/`.startsWith(`${keyPrefix}/`) && /^[^/]*\/?$/u.test(below);
  if (!spans) return { root: undefined, spans, note: `${shown(subject)} belongs to no resource type` };
  const group = below.replace('/', '');
  const note =
    group === ''
      ? `${subject} spans all types, which may be in several stores: ask for one, such as ${keyPrefix}/pods/`
      : `${subject} spans all types of the group ${group}, which may be in several stores: ask for one, such as PLURAL.${group}`;
  return { root: undefined, spans, note };
}

/** With a note when the type is not what was typed. */
function typeNamed(subject: string, keyPrefix: string): Subject {
  const { root, plural, kind, group } = readTypeName(subject);
  const meaning = kind === undefined ? '' : `${subject} is the kind, ${plural} the type. `;
  const keys =
    root === subject || root.includes('/')
      ? ''
      : `Keys begin with ${keyPrefix}/${root}/` +
        (group === undefined ? '' : `: those of the built-in groups, as ${group} is, have no group`);
  return { root, note: meaning + keys || undefined };
}

/** Asks the default store; the text says why there is no answer. */
async function ask(topology: Topology, root: string, keyPrefix: string): Promise<Findings | string> {
  const backend = topology.default;
  if (!isThere(backend)) return `${backend.displayUrl} does not exist yet`;
  let store: Store;
  try {
    store = openStore(backend, { memberId: 1n, logger: silentLogger, clock: systemClock, keyPrefix });
  } catch (error) {
    // Its TLS files may be on the machine of the gateway alone.
    const reason = error instanceof Error ? error.message : String(error);
    return `${backend.displayUrl} cannot be asked from here (${reason})`;
  }
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
    typeOf(root).group === undefined
      ? { root, definition: 'built-in' as const }
      : await findDefinition(store, root, scope);
  const [record] = (await store.range(readKey(recordKey(named.root)), scope.signal)).kvs;
  return { ...named, recorded: record === undefined ? null : (parseRecord(record).store ?? 'unreadable') };
}

/** The definition of `root`, which may have a kind or singular in the plural's place. */
async function findDefinition(
  store: Store,
  root: string,
  { keyPrefix, signal }: Scope,
): Promise<{ readonly root: string; readonly definition: Definition }> {
  const type = typeOf(root);
  const [definition] = (await store.range(readKey(definitionKey(keyPrefix, type)), signal)).kvs;
  if (definition !== undefined)
    return { root, definition: parseDefinition(definition.value) ?? 'unreadable' };
  const all = prefixRange(Buffer.from(definitionsPrefix(keyPrefix)));
  for (const { key, value } of (await store.range(readOf(all, { limit: definitionsMax }), signal)).kvs) {
    const [plural = '', ...group] = key.toString('utf8', all.start.length).split('.');
    if (group.join('.') !== type.group) continue;
    const names = parseDefinition(value);
    if (names !== null && (names.kind === type.plural || names.singular === type.plural))
      return { root: `${type.group}/${plural}`, definition: names };
  }
  return { root, definition: 'absent' };
}
