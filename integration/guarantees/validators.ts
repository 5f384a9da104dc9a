// etcd's guarantees about watches, each as a function from what a watch was sent and what has happened to what is wrong, in
// words. Ordered, Unique, Reliable, Atomic, Resumable and Bookmarkable are named as in etcd's documentation.

import { contains, keyRange } from '../../src/etcd/range.ts';
import type { Event, KeyValue, Revision } from '../../src/etcd/types.ts';
import type { History } from './history.ts';
import type { RecordedWatch } from './recording.ts';

type Validator = (watch: RecordedWatch, history: History) => string[];

/** `put a@7`; a key is changed at most once in a revision, so it names an event. */
const nameOf = ({ type, kv }: Event) => `${type} ${kv.key.toString('latin1')}@${kv.modRevision}`;
const placeOf = ({ kv }: Event) => `${kv.key.toString('latin1')}@${kv.modRevision}`;
const revisionOf = ({ kv }: Event) => kv.modRevision;
const eventsOf = ({ responses }: RecordedWatch) => responses.flatMap(({ events }) => events);
const pair = (kv: KeyValue | undefined) =>
  kv === undefined
    ? 'nothing'
    : `${kv.value.toString('latin1').slice(0, 40)} c${kv.createRevision} m${kv.modRevision} v${kv.version} l${kv.lease}`;

/** True where every field is the same. */
export function arePairsEqual(a: KeyValue, b: KeyValue): boolean {
  return (
    a.key.equals(b.key) &&
    a.value.equals(b.value) &&
    a.createRevision === b.createRevision &&
    a.modRevision === b.modRevision &&
    a.version === b.version &&
    a.lease === b.lease
  );
}

/**
 * The first revision a watch is for. Without one in its request that is the one after its creation, but writers may come
 * between the creation and the revision that the answer to it names: then the watch has their events.
 */
function startOf({ request, createdRevision, knownRevision, responses }: RecordedWatch): Revision {
  if (request.startRevision !== 0n) return request.startRevision;
  const first = responses.find(({ events }) => events.length > 0)?.events[0];
  if (first === undefined || revisionOf(first) > createdRevision) return createdRevision + 1n;
  return revisionOf(first) > knownRevision ? revisionOf(first) : knownRevision + 1n;
}

function isWanted({ request }: RecordedWatch, { type, kv }: Event): boolean {
  if (request.filters.includes(type === 'put' ? 'noput' : 'nodelete')) return false;
  return contains(keyRange(request.key, request.rangeEnd), kv.key);
}

/** What has happened from the watch's start on in its range, in order. */
function happenedTo(watch: RecordedWatch, history: History): readonly Event[] {
  const start = startOf(watch);
  return history.events.filter((event) => revisionOf(event) >= start && isWanted(watch, event));
}

/** What the watch must be sent: all that has happened, but of a deletion at the compact revision etcd may keep nothing. */
function dueTo(watch: RecordedWatch, history: History): readonly Event[] {
  const open = startOf(watch) <= history.compactRevision ? startOf(watch) : 0n;
  return happenedTo(watch, history).filter(({ type, kv }) => type === 'put' || kv.modRevision !== open);
}

const isKnown = (history: History, revision: Revision) => revision > history.after;

/** Only keys of the range, and no event that the request filters out. */
const filtered: Validator = (watch) =>
  eventsOf(watch)
    .filter((event) => !isWanted(watch, event))
    .map((event) => `${nameOf(event)} was not asked for`);

/** No event after a later one; those of one revision in the order of the operations. */
const ordered: Validator = (watch, history) => {
  const broken: string[] = [];
  const positions = new Map(happenedTo(watch, history).map((event, index) => [placeOf(event), index]));
  let before: Event | undefined;
  for (const event of eventsOf(watch)) {
    const last = before;
    before = event;
    if (last === undefined || revisionOf(last) < revisionOf(event)) continue;
    const [from, to] = [positions.get(placeOf(last)), positions.get(placeOf(event))];
    const isInOrder = from === undefined || to === undefined || from <= to;
    if (revisionOf(last) === revisionOf(event) && (isInOrder || history.unordered.has(revisionOf(event)))) {
      continue;
    }
    broken.push(`${nameOf(event)} after ${nameOf(last)}`);
  }
  return broken;
};

/** No event twice. */
const unique: Validator = (watch) => {
  const seen = new Set<string>();
  return eventsOf(watch).flatMap((event) => {
    const isFirst = !seen.has(placeOf(event));
    seen.add(placeOf(event));
    return isFirst ? [] : [`${nameOf(event)} came again`];
  });
};

/** No revision in two lists of events. */
const atomic: Validator = ({ responses }) => {
  const seen = new Set<Revision>();
  return responses.flatMap(({ events }) => {
    const here = new Set(events.map(revisionOf));
    const split = [...here].filter((revision) => seen.has(revision));
    for (const revision of here) seen.add(revision);
    return split.map((revision) => `revision ${revision} is in several answers`);
  });
};

/** Everything that has happened up to the last event, as it has happened, and nothing else. */
const reliable: Validator = (watch, history) => {
  const broken: string[] = [];
  const truth = new Map(happenedTo(watch, history).map((event) => [placeOf(event), event]));
  let last = 0n;
  const got = new Set<string>();
  for (const event of eventsOf(watch)) {
    got.add(placeOf(event));
    if (revisionOf(event) > last) last = revisionOf(event);
    if (!isKnown(history, revisionOf(event)) || !isWanted(watch, event)) continue;
    const happened = truth.get(placeOf(event));
    if (happened === undefined || happened.type !== event.type) {
      if (revisionOf(event) >= startOf(watch)) broken.push(`${nameOf(event)} has not happened`);
    } else if (!arePairsEqual(event.kv, happened.kv)) {
      broken.push(`${nameOf(event)} has ${pair(event.kv)} for ${pair(happened.kv)}`);
    }
  }
  for (const event of dueTo(watch, history)) {
    if (revisionOf(event) <= last && !got.has(placeOf(event)))
      broken.push(`${nameOf(event)} is missing before ${last}`);
  }
  return broken;
};

/** The first event is the first one from the start revision on; nothing before it. */
const resumable: Validator = (watch, history) => {
  const start = startOf(watch);
  const broken = eventsOf(watch)
    .filter((event) => revisionOf(event) < start)
    .map((event) => `${nameOf(event)} on a watch from ${start}`);
  const first = eventsOf(watch).find((event) => revisionOf(event) >= start);
  const [due] = dueTo(watch, history);
  if (first === undefined || due === undefined || !isKnown(history, start)) return broken;
  if (revisionOf(due) < revisionOf(first))
    broken.push(`a watch from ${start} begins with ${nameOf(first)}, not with ${nameOf(due)}`);
  return broken;
};

/** A mark comes after everything up to it and before everything else; marks do not go back, nor before the start. */
const bookmarkable: Validator = (watch, history) => {
  const broken: string[] = [];
  const due = dueTo(watch, history);
  const got = new Set<string>();
  let next = 0;
  let last = 0n;
  let mark = 0n;
  for (const { revision, events } of watch.responses) {
    for (const event of events) {
      got.add(placeOf(event));
      if (revisionOf(event) <= mark) broken.push(`${nameOf(event)} after a mark at ${mark}`);
      if (revisionOf(event) > revision) broken.push(`${nameOf(event)} in an answer of ${revision}`);
      if (revisionOf(event) > last) last = revisionOf(event);
    }
    if (events.length > 0) continue;
    if (revision < mark) broken.push(`a mark at ${revision} after one at ${mark}`);
    if (revision < last) broken.push(`a mark at ${revision} after the events of ${last}`);
    if (revision < watch.request.startRevision)
      broken.push(`a mark at ${revision} on a watch from ${watch.request.startRevision}`);
    for (; next < due.length && revisionOf(due[next]!) <= revision; next++) {
      if (!got.has(placeOf(due[next]!))) broken.push(`a mark at ${revision} before ${nameOf(due[next]!)}`);
    }
    if (revision > mark) mark = revision;
  }
  return broken;
};

/** The pair before, where asked for: what was there, and absent only if nothing was or if it was compacted. */
const prevKv: Validator = (watch, history) => {
  const { request } = watch;
  const happened = new Map(happenedTo(watch, history).map((event) => [placeOf(event), event]));
  return eventsOf(watch).flatMap((event) => {
    if (!request.prevKv)
      return event.prevKv === undefined ? [] : [`${nameOf(event)} has a pair nobody asked for`];
    const due = happened.get(placeOf(event));
    if (due === undefined) return [];
    const wrong = `${nameOf(event)} was ${pair(due.prevKv)}, not ${pair(event.prevKv)}`;
    if (event.prevKv !== undefined) {
      return due.prevKv !== undefined && arePairsEqual(event.prevKv, due.prevKv) ? [] : [wrong];
    }
    const mayBeGone = revisionOf(event) <= history.compactRevision;
    return due.prevKv === undefined || mayBeGone ? [] : [wrong];
  });
};

/** A put says that it creates (its create revision is its own, its version 1) exactly where there was no key before. */
const isCreate: Validator = (watch, history) => {
  const happened = new Map(happenedTo(watch, history).map((event) => [placeOf(event), event]));
  return eventsOf(watch).flatMap((event) => {
    const { type, kv } = event;
    if (type === 'delete') {
      return kv.createRevision === 0n && kv.version === 0n
        ? []
        : [`${nameOf(event)} says when it was created`];
    }
    const says = kv.createRevision === kv.modRevision;
    const due = happened.get(placeOf(event));
    if (says !== (kv.version === 1n)) return [`${nameOf(event)} has version ${kv.version}, ${pair(kv)}`];
    if (due === undefined || says === (due.prevKv === undefined)) return [];
    return [
      `${nameOf(event)} ${says ? 'creates a key that was there' : 'does not create a key that was not'}`,
    ];
  });
};

/** By the names in which violations are told. */
export const validators = {
  Filtered: filtered,
  Ordered: ordered,
  Unique: unique,
  Atomic: atomic,
  Reliable: reliable,
  Resumable: resumable,
  Bookmarkable: bookmarkable,
  PrevKv: prevKv,
  IsCreate: isCreate,
} as const satisfies Record<string, Validator>;

export type Guarantee = keyof typeof validators;

/** What a watch has broken, `Guarantee: what is wrong`; empty = nothing. */
export function brokenGuarantees(watch: RecordedWatch, history: History): string[] {
  return Object.entries(validators).flatMap(([guarantee, validate]) =>
    validate(watch, history).map((text) => `${guarantee}: ${text}`),
  );
}
