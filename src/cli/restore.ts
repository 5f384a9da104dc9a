// `switchyard restore FILE`: brings the objects of a backup into the stores of the topology, whatever engines they were in.

import { BackupError } from '../backup/format.ts';
import { planRestore, type Plan } from '../backup/plan.ts';
import { restoreBackup } from '../backup/restore.ts';
import { surveyBackup, type Choice, type Survey } from '../backup/survey.ts';
import { UsageError } from '../config/config.ts';
import { systemClock } from '../lib/clock.ts';
import { shown } from '../lib/shown.ts';
import { NoteError, type BulkStore } from '../store/bulk.ts';
import type { Topology } from '../router/topology.ts';
import { bulkSession, showBytes, showCount, type BulkSession } from './bulk-session.ts';
import { exitCode, type ExitCode, type Io } from './io.ts';
import { readArguments, topologyOf, type Arguments } from './topology-flags.ts';
import { readTypeName } from './type-name.ts';
import { giveUpRestore } from './give-up.ts';

const defaultMargin = 1_000_000_000n;

const help = `Usage: switchyard restore FILE [--type PLURAL.GROUP]… [--store NAME]… [--replace] [--with-leases] [--revision-margin N] [--resume] [--dry-run]
                          [--topology FILE] [--default-endpoint URL] [--key-prefix PREFIX]
       switchyard restore --give-up [--topology FILE] [--default-endpoint URL] [--key-prefix PREFIX]

Brings the objects of a backup to where the topology wants their types. Stop all gateways and kube-apiservers first.
  --type, --store       only these types; only what was in these stores, by their names in the backup
  --replace             remove the objects that the types have now; without it such a restore is refused
  --with-leases         also objects attached to a lease (Events), with a lease of the time that was left
  --revision-margin N   lift stores this far above the backup (default ${defaultMargin}); a new etcd goes up by 1000000 at most
  --resume              do a restore that was interrupted again, with the same file and flags, once nobody is at it any more
  --give-up             forget a restore that was interrupted; what it has written stays
  --dry-run             check the file and say what would be done; creates databases and tables that are missing
Resource versions do not go back as long as stores are lifted far enough; a line says where that is not certain: deploy/backup.md.
Exit code 0: all of it is there; 1: refused, or failed, and a line says so where parts of it may be there; 2: wrong usage or topology.`;

/** Answers 0 when everything is restored. @throws UsageError, TopologyError, Error */
export async function runRestore(args: readonly string[], io: Io): Promise<ExitCode> {
  const accepted = [
    'type',
    'store',
    'replace',
    'resume',
    'give-up',
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
  if (isOn('give-up')) {
    if (positionals.length > 0)
      throw new UsageError([`Expected no file beside --give-up, got ${shown(positionals.join(' '))}`]);
    return await giveUpRestore({
      topology: topologyOf(values, io, 'checked'),
      keyPrefix: values.keyPrefix,
      io,
    });
  }
  const [path, ...more] = positionals;
  if (path === undefined || path === '-' || more.length > 0)
    throw new UsageError([
      `Expected one file, got ${shown(positionals.join(' ')) || 'none'}: it is read twice`,
    ]);
  const restoring: Restoring = {
    path,
    choice: choiceOf(given),
    margin: marginOf(given),
    topology: topologyOf(values, io, 'checked'),
    keyPrefix: values.keyPrefix,
    replace: isOn('replace'),
    resume: isOn('resume'),
    isDry: isOn('dry-run'),
    command: (topology) => commandLine(path, given, topology),
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
  readonly resume: boolean;
  readonly isDry: boolean;
  /** This command, to be run again. */
  readonly command: (topology: Topology) => string;
}

/** Without a password that is in an endpoint. */
function commandLine(path: string, { values, isOn, listOf }: Arguments, topology: Topology): string {
  const { topology: file, defaultEndpoint, keyPrefix } = values;
  const listed = (['type', 'store', 'revision-margin'] as const).flatMap((flag) =>
    listOf(flag).flatMap((value) => [`--${flag}`, value]),
  );
  const words = [
    'switchyard',
    'restore',
    path,
    ...listed,
    ...(['replace', 'with-leases'] as const).filter(isOn).map((flag) => `--${flag}`),
    '--resume',
    ...(file === undefined ? [] : ['--topology', file]),
    ...(defaultEndpoint === undefined ? [] : ['--default-endpoint', topology.default.displayUrl]),
    '--key-prefix',
    keyPrefix,
  ];
  return words.map(quoted).join(' ');
}

/** As a shell takes it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/u.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
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
  const { path, choice, isDry, topology } = restoring;
  session.says(`${path}: being checked`);
  const survey = await surveyBackup(path, choice, session.signal);
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
  let isBegun = false;
  const begun = () => {
    isBegun = true;
    session.says('stores being lifted and emptied');
  };
  try {
    const restored = await restoreBackup({
      path,
      survey,
      choice,
      plan,
      clock: systemClock,
      signal,
      begun,
      progress,
    });
    for (const { store, pairs, over, revision } of restored) {
      io.err(`${store}: ${showCount(pairs)} restored, now at revision ${revision}`);
      if (over > 0)
        io.err(
          `${store}: left out: ${showCount(over)} attached to leases that were over when the backup was made`,
        );
    }
    return exitCode.done;
  } catch (error) {
    if (!isBegun) io.err('Nothing was restored');
    else if (error instanceof NoteError)
      io.err('Another restore has taken over; this one has ended in the middle');
    else
      io.err(
        `The restore into ${namesOf(plan)} has not ended: parts of it may be there. Run it again: ${restoring.command(topology)}`,
      );
    throw error;
  }
}

function namesOf({ stores }: Plan): string {
  return stores.map(({ store }) => store.name).join(', ');
}

function checkFound({ header, types }: Survey, { roots }: Choice): void {
  const missing = [...(roots ?? [])].filter((wanted) => !types.some(({ root }) => root === wanted));
  if (missing.length > 0 || types.length === 0)
    throw new BackupError(
      `Expected objects of ${missing.join(', ') || 'some type'} in the backup of ${header.createdAt}, got none`,
    );
}

async function plannedFor(restoring: Restoring, survey: Survey, session: BulkSession): Promise<Plan> {
  const { topology, keyPrefix, choice, margin, replace, resume } = restoring;
  const prepared = new Set<BulkStore>();
  const storeNamed = async (name: string) => {
    const store = session.open(name);
    if (!prepared.has(store)) await store.prepare();
    prepared.add(store);
    return store;
  };
  return await planRestore({ topology, keyPrefix, survey, choice, storeNamed, replace, resume, margin });
}

function describe({ types, stores }: Plan, { header, leasedLeftOut }: Survey, io: Io): void {
  io.err(`Backup ${header.id} of ${header.createdAt}, by switchyard ${header.version}`);
  for (const { root, pairs, bytes, target } of types.values())
    io.err(
      `  ${root || 'keys of no type'}: ${showCount(pairs)}, ${showBytes(bytes)} → ${target.name} (${target.engine})`,
    );
  if (leasedLeftOut > 0)
    io.err(`  left out: ${showCount(leasedLeftOut)} attached to leases, such as Events (--with-leases)`);
  for (const { store, shortMargin } of stores) {
    if (shortMargin === undefined) continue;
    io.err(
      `  ${store.name}: its revision will be at least ${shortMargin} above that of the backup, which is ${ageOf(header.createdAt)} old. ` +
        'If more was written since, clients have seen higher ones and will wait: lift the etcd first (deploy/backup.md)',
    );
  }
}

/** `3 days`; `5 hours`; `2 minutes`. */
function ageOf(createdAt: string): string {
  const minutes = Math.max(0, (Date.now() - Date.parse(createdAt)) / 60_000);
  const [count, unit] =
    minutes < 120
      ? [minutes, 'minutes']
      : minutes < 2_880
        ? [minutes / 60, 'hours']
        : [minutes / 1_440, 'days'];
  return `${Math.floor(count)} ${unit}`;
}
