// What stands in a store while a backup is restored into it, so that a restore that did not end can be told, and two of them cannot be at one
// store. See under-way.ts.

import type { KeyValue, Revision } from '../etcd/types.ts';
import type { Choice } from './survey.ts';

/** What all keys of switchyard itself begin with. They are in no backup. */
export const ownKeys = Buffer.from('/switchyard/');

/** Its value is a `Marker`. */
export const markerKey = Buffer.from('/switchyard/restore');

/** What is asked of a restore, in one order. */
export interface Selection {
  /** Roots; absent: all types. */
  readonly types?: readonly string[];
  /** Names, as the backup has them; absent: all stores. */
  readonly stores?: readonly string[];
  readonly withLeases: boolean;
}

export interface Marker {
  /** The id of the backup. */
  readonly backup: string;
  /** Tells this run from another one of the same restore. */
  readonly run: string;
  /** ISO 8601. */
  readonly begunAt: string;
  readonly selection: Selection;
  /** Roots of all types that it brings back, whatever their stores are. */
  readonly types: readonly string[];
  /** What stores that are lifted by writing are to be lifted to, by name. */
  readonly lifts: ReadonlyMap<string, Revision>;
}

export function selectionOf({ roots, stores, leased }: Choice): Selection {
  return {
    ...(roots === undefined ? {} : { types: [...roots].toSorted() }),
    ...(stores === undefined ? {} : { stores: [...stores].toSorted() }),
    withLeases: leased,
  };
}

export function isSameSelection(a: Selection, b: Selection): boolean {
  return showSelection(a) === showSelection(b);
}

/** For people. */
export function showSelection({ types, stores, withLeases }: Selection): string {
  const parts = [
    ...(types === undefined ? [] : [`types ${types.join(', ')}`]),
    ...(stores === undefined ? [] : [`stores ${stores.join(', ')}`]),
  ];
  return `${parts.join(' of ') || 'everything'}${withLeases ? ' with leases' : ''}`;
}

export function encodeMarker({ lifts, ...plain }: Marker): Buffer {
  const texts = [...lifts].map(([store, revision]) => [store, String(revision)] as const);
  return Buffer.from(JSON.stringify({ ...plain, lifts: Object.fromEntries(texts) }));
}

/** Undefined: it cannot be read. */
export function parseMarker({ value }: Pick<KeyValue, 'value'>): Marker | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value.toString('utf8'));
  } catch {
    return undefined;
  }
  if (!isPlain(parsed)) return undefined;
  const { backup, run, begunAt, selection, types, lifts } = parsed;
  if (typeof backup !== 'string' || typeof run !== 'string' || typeof begunAt !== 'string') return undefined;
  if (!isPlain(selection) || !isTexts(types) || !isPlain(lifts)) return undefined;
  const revisions = Object.entries(lifts).map(([store, text]) => [store, revisionOf(text)] as const);
  return {
    backup,
    run,
    begunAt,
    selection: {
      ...(isTexts(selection['types']) ? { types: selection['types'] } : {}),
      ...(isTexts(selection['stores']) ? { stores: selection['stores'] } : {}),
      withLeases: selection['withLeases'] === true,
    },
    types,
    lifts: new Map(revisions),
  };
}

const isPlain = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isTexts = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.every((each) => typeof each === 'string');

const revisionOf = (text: unknown): Revision =>
  typeof text === 'string' && /^\d{1,19}$/u.test(text) ? BigInt(text) : 0n;
