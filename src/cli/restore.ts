// `switchyard restore FILE`: brings the objects of a backup into the stores of the topology, whatever engines they were in.

import { BackupError } from '../backup/format.ts';
import { planRestore, type Plan } from '../backup/plan.ts';
import { restoreBackup } from '../backup/restore.ts';
import { surveyBackup, type Choice, type Survey } from '../backup/survey.ts';
import { UsageError } from '../config.ts';
import { systemClock } from '../lib/clock.ts';
import type { BulkStore } from '../store/bulk.ts';
import type { Topology } from '../router/topology.ts';
import { bulkSession, showBytes, showCount, type BulkSession } from './bulk-session.ts';
import { exitCode, type ExitCode, type Io } from './io.ts';
import { readArguments, topologyOf, type Arguments } from './topology-flags.ts';
import { readTypeName } from './type-name.ts';

const defaultMargin = 1_000_000_000n;

const help = `Usage: switchyard restore FILE [--type PLURAL.GROUP]… [--store NAME]… [--replace] [--with-leases] [--revision-margin N] [--dry-run]
                          [--topology FILE] [--default-endpoint URL] [--key-prefix PREFIX]

Brings the objects of a backup to where the topology wants their types. Stop all gateways and kube-apiservers first.
  --type, --store       only these types; only what was in these stores, by their names in the backup
  --replace             remove the objects that the types have now; without it such a restore is refused
  --with-leases         also objects attached to a lease (Events), with a lease of the time that was left
  --revision-margin N   lift databases this far above the backup (default ${defaultMargin})
  --dry-run             check the file and say what would be done; creates databases and tables that are missing
A restore that was interrupted is run again with the same file. Resource versions never go back, and how: deploy/backup.md.
Exit code 0: all of it is there; 1: refused or failed, and the last line says whether anything was written; 2: wrong usage or topology.`;

/** Answers 0 when everything is restored. @throws UsageError, TopologyError, Error */
export async function runRestore(args: readonly string[], io: Io): Promise<ExitCode> {
  const accepted = [
    'type',
    'store',
    'replace',
    'with-leases',
    'revision-margin',
    'dry-run',
    'topology',
    'default-endpoint',
    'key-prefix',
  ] as const;
  const given = readArguments(args, io.env, accepted);
  const { values, positionals, isOn } = given;
  if (values.help) {
    io.out(help);
    return exitCode.done;
  }
  const [path, ...more] = positionals;
  if (path === undefined || path === '-' || more.length > 0)
    throw new UsageError([`Expected one file, got ${positionals.join(' ') || 'none'}: it is read twice`]);
  const restoring: Restoring = {
    path,
    choice: choiceOf(given),
    margin: marginOf(given),
    topology: topologyOf(values, io, 'checked'),
    keyPrefix: values.keyPrefix,
    replace: isOn('replace'),
    isDry: isOn('dry-run'),
  };
  return await bulkSession({ ...restoring, io }, (session) => restore(restoring, session, io));
}

interface Restoring {
  readonly path: string;
  readonly choice: Choice;
  readonly margin: bigint;
  readonly topology: Topology;
  readonly keyPrefix: string;
  readonly replace: boolean;
  readonly isDry: boolean;
}

function choiceOf({ isOn, listOf }: Arguments): Choice {
  const types = listOf('type');
  const stores = listOf('store');
  return {
    leased: isOn('with-leases'),
    ...(types.length === 0 ? {} : { roots: new Set(types.map((type) => readTypeName(type).root)) }),
    ...(stores.length === 0 ? {} : { stores: new Set(stores) }),
  };
}

function marginOf({ listOf }: Arguments): bigint {
  const [text = String(defaultMargin), ...more] = listOf('revision-margin');
  if (!/^\d{1,15}$/u.test(text) || more.length > 0)
    throw new UsageError([
      `Expected one number of at most 15 digits for --revision-margin, got ${listOf('revision-margin').join(' ')}`,
    ]);
  return BigInt(text);
}

async function restore(restoring: Restoring, session: BulkSession, io: Io): Promise<ExitCode> {
  const { path, choice, margin, isDry } = restoring;
  session.says(`${path}: being checked`);
  const survey = await surveyBackup(path, choice);
  checkFound(survey, choice);
  const plan = await plannedFor(restoring, survey, session);
  describe(plan, survey, io);
  if (isDry) {
    io.err('Nothing was written: --dry-run');
    return exitCode.done;
  }
  const total = survey.types.reduce((sum, { pairs }) => sum + pairs, 0);
  const { signal } = session;
  const progress = (pairs: number) => session.says(`${pairs} of ${showCount(total)} restored`);
  try {
    const restored = await restoreBackup({
      path,
      survey,
      choice,
      plan,
      margin,
      clock: systemClock,
      signal,
      progress,
    });
    for (const { store, pairs, revision } of restored)
      io.err(`${store}: ${showCount(pairs)} restored, now at revision ${revision}`);
    return exitCode.done;
  } catch (error) {
    const names = plan.stores.map(({ store }) => store.name).join(', ');
    io.err(
      `The restore into ${names} has not ended: parts of it may be there. Run it again with the same file.`,
    );
    throw error;
  }
}

function checkFound({ header, types }: Survey, { roots }: Choice): void {
  const missing = [...(roots ?? [])].filter((wanted) => !types.some(({ root }) => root === wanted));
  if (missing.length > 0 || types.length === 0)
    throw new BackupError(
      `Expected objects of ${missing.join(', ') || 'some type'} in the backup of ${header.createdAt}, got none`,
    );
}

async function plannedFor(restoring: Restoring, survey: Survey, session: BulkSession): Promise<Plan> {
  const { topology, keyPrefix, replace } = restoring;
  const prepared = new Set<BulkStore>();
  const storeNamed = async (name: string) => {
    const store = session.open(name);
    if (!prepared.has(store)) await store.prepare();
    prepared.add(store);
    return store;
  };
  return await planRestore({ topology, keyPrefix, survey, storeNamed, replace });
}

function describe({ types }: Plan, { header, leasedLeftOut }: Survey, io: Io): void {
  io.err(`Backup ${header.id} of ${header.createdAt}, by switchyard ${header.version}`);
  for (const { root, pairs, bytes, target } of types.values())
    io.err(
      `  ${root || 'keys of no type'}: ${showCount(pairs)}, ${showBytes(bytes)} → ${target.name} (${target.engine})`,
    );
  if (leasedLeftOut > 0)
    io.err(`  left out: ${showCount(leasedLeftOut)} attached to leases, such as Events (--with-leases)`);
}
