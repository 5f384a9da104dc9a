// What is wrong with a history, each check a function to sentences. Every acknowledged answer names a revision, and with it
// its place among all others; so it is enough to see that the answers are those of that place (linearizable with a
// witness), and that no place contradicts the clock.

import type { Event, KeyValue, Revision } from '../../src/etcd/types.ts';
import { historyOf } from '../guarantees/history.ts';
import { arePairsEqual, brokenGuarantees } from '../guarantees/validators.ts';
import type { Change, FaultHistory, Operation } from './record.ts';
import { nameOf, Timeline } from './timeline.ts';

interface Evidence {
  readonly history: FaultHistory;
  readonly timeline: Timeline;
  /** The revision of each write that happened, whatever its client was told. */
  readonly writes: ReadonlyMap<Operation, Revision>;
}

type Check = (evidence: Evidence) => string[];

const said = ({ client, gateway }: Operation) => `client ${client} at gateway ${gateway}`;
const change = ({ key, value }: Change) => `${value === undefined ? 'delete' : 'put'} ${key}`;
const eventName = ({ type, kv }: Event) => `${type} ${nameOf(kv.key)}@${kv.modRevision}`;

/** The first bytes are the name of the value; the rest is padding. */
const shortOf = (value: Buffer | string) => value.toString('latin1').slice(0, 24);

function isPairOf(a: KeyValue | undefined, b: KeyValue | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return arePairsEqual(a, b);
}

const pairText = (kv: KeyValue | undefined) =>
  kv === undefined
    ? 'nothing'
    : `${shortOf(kv.value)} c${kv.createRevision} m${kv.modRevision} v${kv.version}`;

/** True where the events of a revision are these changes. */
function isWriteOf(changes: readonly Change[], events: readonly Event[]): boolean {
  return (
    changes.length === events.length &&
    changes.every(({ key, value, lease = 0n }, index) => {
      const { type, kv } = events[index]!;
      if (nameOf(kv.key) !== key) return false;
      return value === undefined
        ? type === 'delete'
        : type === 'put' && kv.value.toString('latin1') === value && kv.lease === lease;
    })
  );
}

/** Every acknowledged write is there, at its revision, as it was asked for, and is nobody else's: two deletions look alike. */
const lost: Check = ({ history, timeline }) => {
  const owners = new Map<Revision, Operation>();
  return history.operations.flatMap((operation) => {
    const { ask, answer } = operation;
    if (ask.do !== 'write' || answer.type !== 'wrote') return [];
    const text = `${said(operation)} wrote ${ask.changes.map(change).join(', ')} at ${answer.revision}`;
    const owner = owners.get(answer.revision);
    if (owner !== undefined) return [`${text}, as ${said(owner)} did`];
    owners.set(answer.revision, operation);
    const events = timeline.changes(answer.revision);
    if (isWriteOf(ask.changes, events)) return [];
    return [`${text}: ${events.map(eventName).join(', ') || 'nothing'}`];
  });
};

/** Nothing happened but what was asked for, and that once; what was refused did not happen. */
const phantom: Check = ({ timeline, writes }) => {
  const owned = new Set(writes.values());
  const revisions = new Set(timeline.events.map(({ kv }) => kv.modRevision));
  return [...revisions]
    .filter((revision) => !owned.has(revision))
    .map((revision) => `${timeline.changes(revision).map(eventName).join(', ')} was nobody's`);
};

/** No answer is from before one that was given before it was asked for; a write comes after all of those. */
const realTime: Check = ({ history, writes }) => {
  const revisionOf = (operation: Operation): Revision | undefined => {
    const { ask, answer } = operation;
    if (ask.do === 'write')
      return writes.get(operation) ?? ('revision' in answer ? answer.revision : undefined);
    return answer.type === 'read' ? answer.revision : undefined;
  };
  const ends = history.operations
    .filter(({ answer }) => 'revision' in answer)
    .toSorted((a, b) => a.ended - b.ended);
  const broken: string[] = [];
  let next = 0;
  let highest: { readonly revision: Revision; readonly by: Operation } | undefined;
  for (const operation of history.operations.toSorted((a, b) => a.began - b.began)) {
    for (; next < ends.length && ends[next]!.ended < operation.began; next++) {
      const revision = revisionOf(ends[next]!)!;
      if (highest === undefined || revision > highest.revision) highest = { revision, by: ends[next]! };
    }
    const revision = revisionOf(operation);
    if (highest === undefined || revision === undefined) continue;
    const isAfter = writes.has(operation) ? revision > highest.revision : revision >= highest.revision;
    if (isAfter) continue;
    const ms = (operation.began - highest.by.ended).toFixed(1);
    broken.push(
      `${said(operation)} ${operation.ask.do === 'write' ? 'wrote' : 'read'} at ${revision}, ` +
        `${ms} ms after ${said(highest.by)} had been told of ${highest.revision}`,
    );
  }
  return broken;
};

/** A compare succeeded where it holds, and failed where it does not, at the revision of its answer. */
const compare: Check = ({ history, timeline, writes }) =>
  history.operations.flatMap((operation) => {
    const { ask, answer } = operation;
    if (ask.do !== 'write' || ask.expected === undefined) return [];
    const [{ key }] = ask.changes as [Change];
    const revision = writes.get(operation);
    if (revision !== undefined) {
      const was = timeline.modRevision(key, revision);
      return was === ask.expected
        ? []
        : [`${said(operation)} changed ${key} at ${revision} from ${was}, expecting ${ask.expected}`];
    }
    if (answer.type !== 'refused') return [];
    const there = timeline.pair(key, answer.revision);
    if (there !== undefined ? there.modRevision === ask.expected : ask.expected === 0n)
      return [`${said(operation)} was refused ${key} at ${answer.revision} though it was as expected`];
    if (isPairOf(there, answer.found)) return [];
    return [`${said(operation)} was shown ${pairText(answer.found)} of ${key}, not ${pairText(there)}`];
  });

/** What was read is what was there, at the latest and at past revisions; nobody compacts. */
const reads: Check = ({ history, timeline }) =>
  history.operations.flatMap((operation) => {
    const { ask, answer } = operation;
    if (ask.do !== 'read') return [];
    if (answer.type === 'compacted') return [`${said(operation)} was told that ${ask.revision} is compacted`];
    if (answer.type !== 'read') return [];
    const revision = ask.revision === 0n ? answer.revision : ask.revision;
    const pair = ask.key === undefined ? undefined : timeline.pair(ask.key, revision);
    const all = ask.key === undefined ? timeline.pairs(revision) : pair === undefined ? [] : [pair];
    if (all.length !== answer.count)
      return [
        `${said(operation)} read at ${revision} that there are ${answer.count}; there were ${all.length}`,
      ];
    const there = all.slice(0, ask.limit);
    if (there.length === answer.pairs.length && there.every((kv, index) => isPairOf(kv, answer.pairs[index])))
      return [];
    const text = (pairs: readonly KeyValue[]) =>
      pairs.map((kv) => `${nameOf(kv.key)} ${pairText(kv)}`).join(', ') || 'nothing';
    return [`${said(operation)} read at ${revision}: ${text(answer.pairs)}; there was ${text(there)}`];
  });

/** What an event tells of its key follows from the event of that key before it: counters, and the pair that was there. */
const follows: Check = ({ timeline }) =>
  timeline.events.flatMap((event) => {
    const { type, kv, prevKv } = event;
    const before = timeline.pair(nameOf(kv.key), kv.modRevision - 1n);
    if (!isPairOf(before, prevKv))
      return [`${eventName(event)} was ${pairText(before)}, not ${pairText(prevKv)}`];
    if (type === 'delete') return before === undefined ? [`${eventName(event)} of nothing`] : [];
    const created = before?.createRevision ?? kv.modRevision;
    const version = (before?.version ?? 0n) + 1n;
    if (kv.createRevision === created && kv.version === version) return [];
    return [`${eventName(event)} is ${pairText(kv)}, after ${pairText(before)}`];
  });

/** No revision without an event. */
const dense: Check = ({ history, timeline }) => {
  const broken: string[] = [];
  let last = history.after;
  for (const { kv } of timeline.events) {
    if (kv.modRevision > last + 1n)
      broken.push(`nothing happened from ${last + 1n} to ${kv.modRevision - 1n}`);
    last = kv.modRevision;
  }
  return broken;
};

/** Whoever watched everything was told the same. */
const sameForAll: Check = ({ history, timeline }) =>
  history.tellings.flatMap(({ by, events }) => {
    const differs = (index: number) => {
      const [here, there] = [events[index], timeline.events[index]];
      if (here === undefined || there === undefined) return here !== there;
      return here.type !== there.type || !isPairOf(here.kv, there.kv);
    };
    const length = Math.max(events.length, timeline.events.length);
    const first = Array.from({ length }, (_, index) => index).find(differs);
    if (first === undefined) return [];
    const text = (event: Event | undefined) => (event === undefined ? 'the end' : eventName(event));
    return [`${by} was told ${text(events[first])}, others ${text(timeline.events[first])}`];
  });

/** Every watch kept etcd's guarantees. */
const watches: Check = ({ history, timeline }) => {
  const truth = { ...historyOf(timeline.events), after: history.after };
  return [...history.brokenStreams, ...history.watches.flatMap((watch) => brokenGuarantees(watch, truth))];
};

/** By the names in which violations are told. */
export const checks = {
  Lost: lost,
  Phantom: phantom,
  RealTime: realTime,
  Compare: compare,
  Reads: reads,
  Follows: follows,
  Dense: dense,
  SameForAll: sameForAll,
  Watches: watches,
} as const satisfies Record<string, Check>;

export type CheckName = keyof typeof checks;

/** Everything that is wrong, `Check: what`; empty = nothing. */
export function violations(history: FaultHistory): string[] {
  const timeline = new Timeline(history.tellings[0]!.events);
  const evidence = { history, timeline, writes: writesOf(history, timeline) };
  return Object.entries(checks).flatMap(([name, check]) => check(evidence).map((text) => `${name}: ${text}`));
}

/** Finds the revision of each write: told by its answer, or that of an event that nobody else has claimed. */
function writesOf(history: FaultHistory, timeline: Timeline): Map<Operation, Revision> {
  const writes = new Map<Operation, Revision>();
  const free = new Map<string, Revision[]>();
  const claimed = new Set<Revision>();
  for (const operation of history.operations) {
    const { ask, answer } = operation;
    if (ask.do !== 'write' || answer.type !== 'wrote') continue;
    writes.set(operation, answer.revision);
    claimed.add(answer.revision);
  }
  for (const { type, kv } of timeline.events) {
    if (claimed.has(kv.modRevision)) continue;
    const name = changeName(nameOf(kv.key), type === 'put' ? kv.value.toString('latin1') : undefined);
    free.set(name, [...(free.get(name) ?? []), kv.modRevision]);
  }
  // Two clients may have asked for one deletion: if one of them can have done it, so can the one who asked first.
  for (const operation of history.operations.toSorted((a, b) => a.began - b.began)) {
    const { ask, answer } = operation;
    if (ask.do !== 'write' || answer.type !== 'unknown') continue;
    const [{ key, value }] = ask.changes as [Change];
    const candidates = free.get(changeName(key, value)) ?? [];
    const index = candidates.findIndex(
      (revision) =>
        isWriteOf(ask.changes, timeline.changes(revision)) &&
        (ask.expected === undefined || timeline.modRevision(key, revision) === ask.expected),
    );
    if (index < 0) continue;
    writes.set(operation, candidates[index]!);
    candidates.splice(index, 1);
  }
  return writes;
}

const changeName = (key: string, value: string | undefined) => `${key} ${value ?? 'deleted'}`;
