// What is in a backup, found by reading it once from end to end: also the proof that it is whole, before a restore writes anything.

import { keyRange } from '../etcd/range.ts';
import type { LeaseId, Revision } from '../etcd/types.ts';
import { createClassifier } from '../router/classify.ts';
import { definitionsPrefix, parseDefinition } from '../router/kinds.ts';
import type { KindNames } from '../router/rules.ts';
import { BackupError, type Header } from './format.ts';
import { readBackup } from './read.ts';

/** Which pairs of a backup are meant; absent: all. */
export interface Choice {
  /** Roots of types. */
  readonly roots?: ReadonlySet<string>;
  /** Names of stores, as the backup has them. */
  readonly stores?: ReadonlySet<string>;
  /** Pairs that are attached to a lease too. */
  readonly leased: boolean;
}

/** A type in a backup; the root is empty for keys of no type. */
export interface TypeFound {
  readonly root: string;
  /** Those that are meant. */
  readonly pairs: number;
  readonly bytes: number;
  readonly longestKey: number;
  /** Bytes of the largest pair. */
  readonly largest: number;
  /** Highest revision of a store that has pairs of it. */
  readonly revision: Revision;
  /** Names of the stores that have pairs of it. */
  readonly stores: ReadonlySet<string>;
}

export interface Survey {
  readonly header: Header;
  /** Of every type with pairs that are meant, in the order of the file. */
  readonly types: readonly TypeFound[];
  /** Custom resources by root; null: the definition cannot be read. Those that are meant. */
  readonly definitions: ReadonlyMap<string, KindNames | null>;
  /** Pairs left out because they are attached to a lease. */
  readonly leasedLeftOut: number;
  /** What was left of each lease, in seconds: where several stores tell of it, the most. */
  readonly leases: ReadonlyMap<LeaseId, number>;
}

/** The root that a key belongs to under `keyPrefix`; empty: none. */
export function rootsUnder(keyPrefix: string): (key: Buffer) => string {
  const classifier = createClassifier(keyPrefix);
  return (key) => {
    const location = classifier.locate(keyRange(key, Buffer.alloc(0)));
    return location.type === 'root' ? location.root : '';
  };
}

/** Reads the backup at `path`, until `signal` ends it. @throws BackupError when it is not whole. */
export async function surveyBackup(path: string, choice: Choice, signal?: AbortSignal): Promise<Survey> {
  const types = new Map<string, TypeFound>();
  const definitions = new Map<string, KindNames | null>();
  const leases = new Map<LeaseId, number>();
  let header: Header | undefined;
  let leasedLeftOut = 0;
  let store = { store: '', revision: 0n };
  let rootOf: ReturnType<typeof rootsUnder> = () => '';
  for await (const line of readBackup(path, signal)) {
    if (line.type === 'header') {
      header = line;
      rootOf = rootsUnder(line.keyPrefix);
    } else if (line.type === 'store') store = line;
    else if (line.type === 'lease') leases.set(line.id, Math.max(line.ttlSeconds, leases.get(line.id) ?? 0));
    if (line.type !== 'pair') continue;
    const { key, value, lease } = line.pair;
    const root = rootOf(key);
    if (!isChosen(choice, root, store.store)) continue;
    if (lease !== 0n && !choice.leased) {
      leasedLeftOut++;
      continue;
    }
    types.set(root, added(types.get(root), { root, key, value, ...store }));
    const named = header && definedBy(header.keyPrefix, key);
    if (named !== undefined) definitions.set(named, parseDefinition(value));
  }
  if (header === undefined)
    throw new BackupError(`${path}: Expected a backup of switchyard, got an empty file`);
  return { header, types: [...types.values()], definitions, leasedLeftOut, leases };
}

/** Whether pairs of this type and store are meant. */
export function isChosen({ roots, stores }: Choice, root: string, store: string): boolean {
  return (roots?.has(root) ?? true) && (stores?.has(store) ?? true);
}

interface Found {
  readonly root: string;
  readonly key: Buffer;
  readonly value: Buffer;
  readonly store: string;
  readonly revision: Revision;
}

function added(before: TypeFound | undefined, { root, key, value, store, revision }: Found): TypeFound {
  const {
    pairs,
    bytes,
    longestKey,
    largest,
    revision: known,
    stores = new Set([store]),
  } = before ?? { pairs: 0, bytes: 0, longestKey: 0, largest: 0, revision };
  return {
    root,
    pairs: pairs + 1,
    bytes: bytes + key.length + value.length,
    longestKey: Math.max(longestKey, key.length),
    largest: Math.max(largest, key.length + value.length),
    revision: revision > known ? revision : known,
    stores: stores.has(store) ? stores : new Set([...stores, store]),
  };
}

/** The root that the definition at `key` is of. */
function definedBy(keyPrefix: string, key: Buffer): string | undefined {
  const prefix = definitionsPrefix(keyPrefix);
  const text = key.toString('utf8');
  if (!text.startsWith(prefix)) return undefined;
  const [plural = '', ...group] = text.slice(prefix.length).split('.');
  return `${group.join('.')}/${plural}`;
}
