// `switchyard backup FILE`: writes everything, some stores or some types to a file, as deploy/backup.md describes it.

import { BackupError, type Scope } from '../backup/format.ts';
import { fileOutput, streamOutput } from '../backup/output.ts';
import { writeBackup, type BackupOptions, type StoreChosen, type StoreDone } from '../backup/write.ts';
import { UsageError } from '../config/config.ts';
import { errorText } from '../lib/log.ts';
import { shown } from '../lib/shown.ts';
import { createClassifier } from '../router/classify.ts';
import { definitionKey } from '../router/kinds.ts';
import { parseRecord, recordKey } from '../router/records.ts';
import { typeOf } from '../router/rules.ts';
import type { Topology } from '../router/topology.ts';
import type { BulkStore } from '../store/bulk.ts';
import { bulkSession, showBytes, showCount, type BulkSession } from './bulk-session.ts';
import { exitCode, type ExitCode, type Io } from './io.ts';
import { readArguments, topologyOf } from './topology-flags.ts';
import { readTypeName } from './type-name.ts';

const help = `Usage: switchyard backup FILE [--type PLURAL.GROUP]… | [--store NAME]… [--topology FILE] [--default-endpoint URL] [--key-prefix PREFIX]

Writes all live objects of all stores to a new file, each store as it is at one revision, while gateways serve.
  switchyard backup all.jsonl.gz                                      everything; a name in .gz is compressed
  switchyard backup --topology topology.yml --type largedata.data.example.com largedata.jsonl
  switchyard backup --topology topology.yml --store metrics - | zstd > metrics.jsonl.zst      - is standard output
The file has Secrets in it as they are in the stores: keep it as safe as them. Its format, and what a backup is good for: deploy/backup.md.
Exit code 0: the file is whole; 1: there is none; 2: wrong usage or topology.`;

/** Answers 0 when the file is there, whole. @throws UsageError, TopologyError, Error */
export async function runBackup(args: readonly string[], io: Io): Promise<ExitCode> {
  const accepted = ['type', 'store', 'topology', 'default-endpoint', 'key-prefix'] as const;
  const { values, positionals, listOf } = readArguments(args, io.env, accepted);
  if (values.help) {
    io.out(help);
    return exitCode.done;
  }
  const [path, ...more] = positionals;
  if (path === undefined || more.length > 0)
    throw new UsageError([`Expected one file, got ${shown(positionals.join(' ')) || 'none'}`]);
  const types = listOf('type');
  const stores = listOf('store');
  if (types.length > 0 && stores.length > 0) throw new UsageError(['Expected --type or --store, got both']);
  const topology = topologyOf(values, io, 'checked');
  const names = stores.map((name) => storeName(topology, name));
  const { keyPrefix } = values;
  const done = await bulkSession({ topology, keyPrefix, io }, async (session) => {
    const selection =
      types.length > 0
        ? await ofTypes(types, { topology, keyPrefix, session })
        : ofStores(topology, session, names);
    return await write({ path, topology, keyPrefix, session, io, ...selection });
  });
  for (const { store, revision, pairs, bytes } of done)
    io.err(`${store}: ${showCount(pairs)}, ${showBytes(bytes)}, at revision ${revision}`);
  if (path !== '-') io.err(`${path} is whole`);
  return exitCode.done;
}

function storeName(topology: Topology, given: string): string {
  const name = topology.storeNames.get(given);
  if (name !== undefined) return name;
  const known = [...topology.storeNames.keys()].join(', ');
  throw new UsageError([`Expected a store of the topology (${known}), got ${shown(given)}`]);
}

interface Selection {
  readonly scope: Scope;
  readonly stores: readonly StoreChosen[];
}

function ofStores(topology: Topology, session: BulkSession, names: readonly string[]): Selection {
  const all = [topology.default, ...topology.backends].map(({ name }) => name);
  const chosen = names.length === 0 ? all : all.filter((name) => names.includes(name));
  const scope = names.length === 0 ? {} : { stores: chosen };
  return { scope, stores: chosen.map((name) => ({ store: session.open(name, 'something') })) };
}

interface Where {
  readonly topology: Topology;
  readonly keyPrefix: string;
  readonly session: BulkSession;
}

/** The stores that the types live in. @throws BackupError for a type that nothing is known of. */
async function ofTypes(types: readonly string[], where: Where): Promise<Selection> {
  const chosen = new Map<BulkStore, Set<string>>();
  for (const type of types) {
    const { root } = readTypeName(type);
    const store = await storeOf(root, where);
    if (store === undefined)
      throw new BackupError(
        `Expected a type with objects, a placement record or a CustomResourceDefinition, got ${type}`,
      );
    chosen.set(store, (chosen.get(store) ?? new Set()).add(root));
  }
  const stores = [...chosen].map(([store, roots]) => ({ store, roots: [...roots] }));
  const { name: first } = where.topology.default;
  return {
    scope: { types: stores.flatMap(({ roots }) => roots) },
    stores: stores.toSorted((a, b) => Number(b.store.name === first) - Number(a.store.name === first)),
  };
}

async function storeOf(
  root: string,
  { topology, keyPrefix, session }: Where,
): Promise<BulkStore | undefined> {
  const defaultStore = session.open(topology.default.name, 'something');
  const record = await defaultStore.find(recordKey(root));
  if (record !== undefined) {
    const recorded = parseRecord(record).store;
    const name = recorded === undefined ? undefined : topology.storeNames.get(recorded);
    if (name !== undefined) return session.open(name, 'something');
    throw new BackupError(
      `Expected a backend named ${recorded ?? '?'} in the topology, where ${root} lives, got none`,
    );
  }
  const all = [defaultStore, ...topology.backends.map(({ name }) => session.open(name, 'something'))];
  for (const store of all) {
    for (const range of createClassifier(keyPrefix).unit(root)) if (await store.holds(range)) return store;
  }
  const definition = await defaultStore.find(definitionKey(keyPrefix, typeOf(root)));
  return definition === undefined ? undefined : defaultStore;
}

/** Where the default store is asked at all, for a backup of others: what they know themselves will do where it is away. */
function leasesOf({
  topology,
  session,
  io,
}: Pick<Writing, 'topology' | 'session' | 'io'>): BackupOptions['leaseOf'] {
  let isAway = false;
  return async (id) => {
    if (isAway) return undefined;
    try {
      return await session.open(topology.default.name, 'something').lease(id);
    } catch (error) {
      session.signal.throwIfAborted();
      isAway = true;
      const reason = error instanceof Error ? errorText(error) : String(error);
      io.err(
        `The default store does not tell how long leases last, and other stores know five minutes of it at most (${reason})`,
      );
      return undefined;
    }
  };
}

interface Writing extends Selection, Where {
  readonly path: string;
  readonly io: Io;
}

async function write({ path, topology, session, io, ...selection }: Writing): Promise<readonly StoreDone[]> {
  const output = path === '-' ? streamOutput(process.stdout) : await fileOutput(path);
  try {
    const done = await writeBackup({
      ...selection,
      output,
      storeNamed: (recorded) => topology.storeNames.get(recorded),
      defaultName: topology.default.name,
      leaseOf: leasesOf({ topology, session, io }),
      progress: (store, { pairs, bytes }) =>
        session.says(`${store}: ${showCount(pairs)}, ${showBytes(bytes)}`),
    });
    session.signal.throwIfAborted();
    await output.close();
    return done;
  } catch (error) {
    await output.discard();
    throw error;
  }
}
