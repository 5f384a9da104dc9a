// A restore that is under way, as its markers tell: found, judged, set and removed. Used by plan.ts, restore.ts and the command `restore`.
// Invariants: the default store has a marker from before the first change of any store until after the last one, whatever else has one; a
// marker is set and removed by comparing, so of two runs one succeeds; what a run changes in a store, it changes while its own marker is there.

import type { KeyValue } from '../etcd/types.ts';
import { NoteError, type BulkStore, type Note } from '../store/bulk.ts';
import { BackupError } from './format.ts';
import {
  isSameSelection,
  markerKey,
  parseMarker,
  showSelection,
  type Marker,
  type Selection,
} from './marker.ts';
import type { Again } from './again.ts';

/** The marker of a run that has not ended. */
export interface Mark {
  readonly store: BulkStore;
  readonly value: Buffer;
  /** Undefined: it cannot be read. */
  readonly marker: Marker | undefined;
}

/** What the next run is to do. */
export interface Intent {
  /** Id of the backup. */
  readonly backup: string;
  readonly selection: Selection;
  /** Types that are brought back, by root. */
  readonly types: ReadonlySet<string>;
  /** The operator says that nobody is at it any more. */
  readonly resume: boolean;
  readonly replace: boolean;
}

export async function findMarks(stores: readonly BulkStore[]): Promise<readonly Mark[]> {
  const marks: Mark[] = [];
  for (const store of stores) {
    const found = await store.find(markerKey);
    if (found !== undefined) marks.push({ store, value: found.value, marker: parseMarker(found) });
  }
  return marks;
}

/** Whether the run of this marker was begun with the same file and the same flags. */
export function isResumed({ marker }: Mark, { backup, selection }: Intent): boolean {
  return marker?.backup === backup && isSameSelection(marker.selection, selection);
}

/** What stands against `intent`, for people; undefined: nothing. */
export function problemOf(mark: Mark, intent: Intent): string | undefined {
  const under = `under way in store ${mark.store.name}`;
  if (!intent.resume)
    return (
      `Expected no other restore ${under}, got ${showMark(mark)}, which has not ended: when nobody is at it any more, ` +
      'give --resume to take it over, or end it with switchyard restore --give-up'
    );
  if (isResumed(mark, intent)) return undefined;
  if (!intent.replace)
    return (
      `Expected the restore ${under} to be resumed as it was begun, ${showMark(mark)}, ` +
      `got backup ${intent.backup}, ${showSelection(intent.selection)}: give the same, or --replace as well`
    );
  const left = mark.marker?.types.filter((root) => root !== '' && !intent.types.has(root)) ?? [];
  if (left.length === 0) return undefined;
  return (
    `Expected all types of the restore ${under} (${showMark(mark)}), parts of which may be there, ` +
    `got none of ${left.join(', ')}: restore these as well, or end it with switchyard restore --give-up`
  );
}

export function showMark({ marker }: Pick<Mark, 'marker'>): string {
  if (marker === undefined) return 'one that cannot be read';
  return `that of backup ${marker.backup}, ${showSelection(marker.selection)}, begun at ${marker.begunAt}`;
}

export interface Holding {
  /** The default store first. */
  readonly stores: readonly BulkStore[];
  readonly note: Note;
  readonly again: Again;
}

/**
 * Notes a run in all stores, in place of `marks`. @throws BackupError when another run was faster, and what stores throw; then the stores
 * are as they were, unless the message says otherwise.
 */
export async function hold({ stores, note, again }: Holding, marks: readonly Mark[]): Promise<void> {
  const before = new Map(marks.map(({ store, value }) => [store, value]));
  const held: BulkStore[] = [];
  try {
    for (const store of stores) {
      held.push(store);
      if (await swapped(store, before.get(store), { note, again })) continue;
      held.pop();
      throw new BackupError(
        `Expected no other restore to begin in store ${store.name} meanwhile, got one: nothing was written`,
      );
    }
  } catch (error) {
    const undone = held.map((store) => store.swap(markerKey, note.value, before.get(store)));
    const left = (await Promise.allSettled(undone)).flatMap((outcome, index) =>
      outcome.status === 'rejected' ? [held[index]!.name] : [],
    );
    if (left.length === 0) throw error;
    const names = left.join(', ');
    throw new BackupError(
      `The next restore into ${names} needs --resume, for a note of this one may be there`,
      {
        cause: error,
      },
    );
  }
}

/** The default store's last. @throws NoteError when another run has taken over; what stores throw. */
export async function release({ stores, note, again }: Holding): Promise<void> {
  for (const store of stores.toReversed()) {
    if (await again(() => store.swap(markerKey, note.value, undefined))) continue;
    const found = await again(() => store.find(markerKey));
    // An attempt of which no answer came may have done it.
    if (found !== undefined) throw new NoteError(store.name);
  }
}

/** Removes what is left of a restore that nobody will resume; its objects stay as they are. False: it has changed meanwhile. */
export async function giveUp({ store, value }: Mark): Promise<boolean> {
  return await store.swap(markerKey, value, undefined);
}

async function swapped(
  store: BulkStore,
  before: Buffer | undefined,
  { note, again }: Pick<Holding, 'note' | 'again'>,
): Promise<boolean> {
  if (await again(() => store.swap(note.key, before, note.value))) return true;
  // An attempt of which no answer came may have done it.
  const found: KeyValue | undefined = await again(() => store.find(note.key));
  return found?.value.equals(note.value) ?? false;
}
