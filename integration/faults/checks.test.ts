// The checks themselves: a good history passes, and each way of spoiling it fails exactly the checks that it should.

import test from 'ava';
import type { Event, KeyValue, Revision } from '../../src/etcd/types.ts';
import { watchRequest } from '../conformance/requests.ts';
import type { RecordedResponse } from '../guarantees/recording.ts';
import { violations, type CheckName } from './checks.ts';
import type { Answer, Ask, FaultHistory, Operation } from './record.ts';

const none = Buffer.alloc(0);

function put(key: string, value: string, revision: Revision, before?: KeyValue): Event {
  const kv: KeyValue = {
    key: Buffer.from(key),
    value: Buffer.from(value),
    createRevision: before?.createRevision ?? revision,
    modRevision: revision,
    version: (before?.version ?? 0n) + 1n,
    lease: 0n,
  };
  return before === undefined ? { type: 'put', kv } : { type: 'put', kv, prevKv: before };
}

function remove(prevKv: KeyValue, modRevision: Revision): Event {
  const kv = { key: prevKv.key, modRevision, createRevision: 0n, version: 0n, value: none, lease: 0n };
  return { type: 'delete', kv, prevKv };
}

const a2 = put('k/a', '1.1', 2n);
const b3 = put('k/b', '2.1', 3n);
const c3 = put('k/c', '2.2', 3n);
const a4 = put('k/a', '1.2', 4n, a2.kv);
/** Its client was never told. */
const b5 = put('k/b', '2.3', 5n, b3.kv);
const a6 = remove(a4.kv, 6n);
const events = [a2, b3, c3, a4, b5, a6];

const write = (expected: Revision | undefined, ...changes: readonly [string, string?][]): Ask => ({
  do: 'write',
  changes: changes.map(([key, value]) => ({ key, value })),
  ...(expected === undefined ? {} : { expected }),
});
const read = (key?: string, revision: Revision = 0n): Ask => ({
  do: 'read',
  revision,
  ...(key === undefined ? {} : { key }),
});
const wrote = (revision: Revision): Answer => ({ type: 'wrote', revision });
const saw = (revision: Revision, ...pairs: readonly Event[]): Answer => ({
  type: 'read',
  revision,
  pairs: pairs.map(({ kv }) => kv),
  count: pairs.length,
});

const pageOf = (revision: Revision, { kv }: Event, count: number): Answer => ({
  type: 'read',
  revision,
  pairs: [kv],
  count,
});

const changeA4 = { key: 'k/a', value: '1.2' };

let clock = 0;
/** One call after the other, of clients in turn. */
const then = (ask: Ask, answer: Answer): Operation => {
  clock += 10;
  return { client: clock % 3, gateway: clock % 2, began: clock, ended: clock + 5, ask, answer };
};

const steps = {
  createA: then(write(0n, ['k/a', '1.1']), wrote(2n)),
  readA: then(read('k/a'), saw(2n, a2)),
  putBC: then(write(undefined, ['k/b', '2.1'], ['k/c', '2.2']), wrote(3n)),
  refusedA: then(write(0n, ['k/a', '3.1']), { type: 'refused', revision: 3n, found: a2.kv }),
  updateA: then({ do: 'write', changes: [changeA4], expected: 2n }, wrote(4n)),
  rejectedA: then(write(4n, ['k/a', '3.2']), { type: 'rejected', error: 'too many requests' }),
  unknownB: then(write(3n, ['k/b', '2.3']), { type: 'unknown', error: 'unavailable' }),
  unknownC: then(write(3n, ['k/c', '2.4']), { type: 'unknown', error: 'unavailable' }),
  deleteA: then(write(4n, ['k/a']), wrote(6n)),
  list: then(read(), saw(6n, b5, c3)),
  past: then(read(undefined, 4n), saw(6n, a4, b3, c3)),
  page: then({ do: 'read', revision: 4n, limit: 1 }, pageOf(6n, a4, 3)),
  refusedDeleted: then(write(4n, ['k/a', '3.3']), { type: 'refused', revision: 6n, found: undefined }),
};
type Steps = { [Name in keyof typeof steps]: Operation };

const told = (revision: Revision, got: readonly Event[] = []): RecordedResponse => ({
  revision,
  events: got,
});
const watched: readonly RecordedResponse[] = [
  told(2n, [a2]),
  told(3n, [b3, c3]),
  told(4n, [a4]),
  told(6n, [b5, a6]),
  told(6n),
];

function historyWith(options: {
  readonly operations?: Partial<Steps>;
  readonly truth?: readonly Event[];
  readonly other?: readonly Event[];
  readonly responses?: readonly RecordedResponse[];
  readonly brokenStreams?: readonly string[];
}): FaultHistory {
  return {
    after: 1n,
    operations: Object.values({ ...steps, ...options.operations }),
    tellings: [
      { by: 'a new watch', events: options.truth ?? events },
      { by: 'the watch of gateway 1', events: options.other ?? options.truth ?? events },
    ],
    watches: [
      {
        request: watchRequest('k/', { rangeEnd: 'k0', startRevision: 2n, prevKv: true }),
        createdRevision: 1n,
        knownRevision: 1n,
        responses: options.responses ?? watched,
        state: 'live',
      },
    ],
    brokenStreams: options.brokenStreams ?? [],
  };
}

const answered = (operation: Operation, answer: Answer): Operation => ({ ...operation, answer });
const at = (operation: Operation, began: number, ended: number): Operation => ({
  ...operation,
  began,
  ended,
});
/** The list of events with some of them replaced or (by undefined) left out. */
const replaced = (changes: ReadonlyMap<Event, Event | undefined>) =>
  events.flatMap((event) => {
    const now = changes.has(event) ? changes.get(event) : event;
    return now === undefined ? [] : [now];
  });

const doctored: Readonly<Record<string, { history: FaultHistory; fails: readonly CheckName[] }>> = {
  'an acknowledged write that is not there': {
    history: historyWith({
      operations: { updateA: answered(steps.updateA, wrote(7n)) },
    }),
    fails: ['Lost', 'Phantom', 'RealTime', 'Compare'],
  },
  'an acknowledged write with another value': {
    history: historyWith({ operations: { createA: { ...steps.createA, ask: write(0n, ['k/a', '1.9']) } } }),
    fails: ['Lost'],
  },
  'a deletion that is acknowledged to two': {
    history: historyWith({ operations: { refusedDeleted: at(then(write(4n, ['k/a']), wrote(6n)), 91, 99) } }),
    fails: ['Lost'],
  },
  'an acknowledged write without its lease': {
    history: historyWith({
      operations: {
        updateA: {
          ...steps.updateA,
          ask: { do: 'write', changes: [{ ...changeA4, lease: 7n }], expected: 2n },
        },
      },
    }),
    fails: ['Lost'],
  },
  'one of two keys of an acknowledged write': {
    history: historyWith({
      truth: replaced(new Map([[c3, undefined]])),
      responses: [],
      operations: {
        list: answered(steps.list, saw(6n, b5)),
        past: answered(steps.past, saw(6n, a4, b3)),
        page: answered(steps.page, pageOf(6n, a4, 2)),
      },
    }),
    fails: ['Lost'],
  },
  'a write that nobody asked for': {
    history: historyWith({ operations: { unknownB: steps.unknownC } }),
    fails: ['Phantom'],
  },
  'a refused write that happened': {
    history: historyWith({
      operations: {
        unknownB: { ...steps.unknownB, answer: { type: 'refused', revision: 4n, found: b3.kv } },
      },
    }),
    fails: ['Phantom', 'Compare'],
  },
  'a rejected write that happened': {
    history: historyWith({
      operations: { unknownB: answered(steps.unknownB, { type: 'rejected', error: 'too many requests' }) },
    }),
    fails: ['Phantom'],
  },
  'a write that happened twice': {
    history: historyWith({
      truth: [...events, put('k/c', '2.2', 7n, c3.kv)],
      responses: [],
    }),
    fails: ['Phantom'],
  },
  'a read that shows what was before an acknowledged write': {
    history: historyWith({ operations: { list: answered(steps.list, saw(5n, a4, b5, c3)) } }),
    fails: ['RealTime'],
  },
  'a refusal of an older state than was acknowledged': {
    history: historyWith({
      operations: {
        refusedDeleted: answered(steps.refusedDeleted, { type: 'refused', revision: 5n, found: a4.kv }),
      },
    }),
    fails: ['RealTime', 'Compare'],
  },
  'a write in the past of a write before it': {
    history: historyWith({
      operations: { createA: at(steps.createA, 34, 35), readA: at(steps.readA, 36, 37) },
    }),
    fails: ['RealTime'],
  },
  'a write without an answer that happened before it was asked for': {
    history: historyWith({ operations: { unknownB: at(steps.unknownB, 97, 98) } }),
    fails: ['RealTime'],
  },
  'a compare that succeeded where it does not hold': {
    history: historyWith({ operations: { updateA: { ...steps.updateA, ask: write(3n, ['k/a', '1.2']) } } }),
    fails: ['Compare'],
  },
  'a compare that failed where it holds': {
    history: historyWith({
      operations: { refusedA: { ...steps.refusedA, ask: write(2n, ['k/a', '3.1']) } },
    }),
    fails: ['Compare'],
  },
  'a compare that failed and shows another pair': {
    history: historyWith({
      operations: { refusedA: answered(steps.refusedA, { type: 'refused', revision: 3n, found: undefined }) },
    }),
    fails: ['Compare'],
  },
  'a get with a value that is not the one of its revision': {
    history: historyWith({
      operations: { readA: answered(steps.readA, saw(2n, put('k/a', '1.2', 2n))) },
    }),
    fails: ['Reads'],
  },
  'a list without a key': {
    history: historyWith({ operations: { list: answered(steps.list, saw(6n, b5)) } }),
    fails: ['Reads'],
  },
  'a list of the past with a key from later': {
    history: historyWith({ operations: { past: answered(steps.past, saw(6n, a4, b5, c3)) } }),
    fails: ['Reads'],
  },
  'a page that is counted wrong': {
    history: historyWith({ operations: { page: answered(steps.page, pageOf(6n, a4, 2)) } }),
    fails: ['Reads'],
  },
  'a page that begins with the second pair': {
    history: historyWith({ operations: { page: answered(steps.page, pageOf(6n, b3, 3)) } }),
    fails: ['Reads'],
  },
  'a read that is refused as compacted': {
    history: historyWith({ operations: { past: answered(steps.past, { type: 'compacted' }) } }),
    fails: ['Reads'],
  },
  'an event with another version than the one after that before it': {
    history: historyWith({
      truth: replaced(new Map([[b5, { ...b5, kv: { ...b5.kv, version: 3n } }]])),
      responses: [],
      operations: { list: answered(steps.list, saw(6n, { ...b5, kv: { ...b5.kv, version: 3n } }, c3)) },
    }),
    fails: ['Follows'],
  },
  'an event with another pair before it than there was': {
    history: historyWith({
      truth: replaced(new Map([[a6, { ...a6, prevKv: a2.kv }]])),
      responses: [],
    }),
    fails: ['Follows'],
  },
  'a deletion of a key that was not there': {
    history: historyWith({
      truth: [...events, { type: 'delete', kv: { ...a6.kv, modRevision: 7n } }],
      responses: [],
      operations: { unknownC: { ...steps.unknownC, ask: write(undefined, ['k/a']) } },
    }),
    fails: ['Follows'],
  },
  'a revision at which nothing happened': {
    history: historyWith({
      truth: replaced(new Map([[b5, undefined]])),
      responses: [],
      operations: {
        list: answered(steps.list, saw(6n, b3, c3)),
      },
    }),
    fails: ['Dense'],
  },
  'a watch that was told less than another': {
    history: historyWith({ other: events.slice(0, -1) }),
    fails: ['SameForAll'],
  },
  'a watch that was told something else': {
    history: historyWith({ other: replaced(new Map([[a4, put('k/a', '1.3', 4n, a2.kv)]])) }),
    fails: ['SameForAll'],
  },
  'a watch with a gap': {
    history: historyWith({ responses: watched.filter(({ revision }) => revision !== 4n) }),
    fails: ['Watches'],
  },
  'a mark before the events up to it': {
    history: historyWith({ responses: [told(3n), ...watched] }),
    fails: ['Watches'],
  },
  'a stream that broke the protocol': {
    history: historyWith({ brokenStreams: ['an answer to 4, which is no watch'] }),
    fails: ['Watches'],
  },
};

test('a good history violates nothing', (t) => {
  t.deepEqual(violations(historyWith({})), []);
});

for (const [title, { history, fails }] of Object.entries(doctored)) {
  test(`a doctored history: ${title}`, (t) => {
    const found = violations(history);
    const names = new Set(found.map((text) => text.split(':')[0]));
    t.deepEqual(names, new Set<string | undefined>(fails), found.join('\n'));
  });
}

test('of two who may have deleted a key, neither was told, the one who asked first has', (t) => {
  const unknown: Answer = { type: 'unknown', error: 'unavailable' };
  const asked = write(4n, ['k/a']);
  const early = { ...steps.deleteA, ended: 400, answer: unknown };
  const late = at({ ...steps.deleteA, ask: asked, answer: unknown }, 200, 210);
  const history = historyWith({ operations: { deleteA: late, refusedDeleted: early } });
  t.deepEqual(violations(history), []);
});
