// The validators themselves: a good recording breaks no guarantee, and each way of spoiling it breaks exactly those that it
// should.

import test from 'ava';
import type { WatchResponse } from '../../src/etcd/codec/watch.ts';
import type { Event, KeyValue, Revision } from '../../src/etcd/types.ts';
import { endOf, watchRequest } from '../conformance/requests.ts';
import { historyOf, type History } from './history.ts';
import { readStream, type Entry, type RecordedResponse, type RecordedWatch } from './recording.ts';
import { brokenGuarantees, type Guarantee } from './validators.ts';

const live = new Map<string, KeyValue>();
const none = Buffer.alloc(0);

function put(key: string, value: string, revision: Revision): Event {
  const prevKv = live.get(key);
  const kv: KeyValue = {
    key: Buffer.from(key),
    value: Buffer.from(value),
    createRevision: prevKv?.createRevision ?? revision,
    modRevision: revision,
    version: (prevKv?.version ?? 0n) + 1n,
    lease: 0n,
  };
  live.set(key, kv);
  return prevKv === undefined ? { type: 'put', kv } : { type: 'put', kv, prevKv };
}

function remove(key: string, modRevision: Revision): Event {
  const prevKv = live.get(key)!;
  live.delete(key);
  const kv = {
    key: Buffer.from(key),
    modRevision,
    createRevision: 0n,
    version: 0n,
    value: none,
    lease: 0n,
  };
  return { type: 'delete', kv, prevKv };
}

const events = [
  put('w/a', '1', 2n),
  // One txn, its keys not in order.
  put('w/c', '1', 3n),
  put('w/a', '2', 3n),
  put('elsewhere', 'x', 4n),
  put('w/b', '1', 5n),
  remove('w/a', 6n),
  remove('w/b', 6n),
  put('w/a', '3', 7n),
  put('w/c', '2', 8n),
];
const history = historyOf(events);
const at = (...revisions: Revision[]) =>
  events.filter(({ kv }) => revisions.includes(kv.modRevision) && kv.key.toString().startsWith('w/'));

const answer = (revision: Revision, got: readonly Event[] = []): RecordedResponse => ({
  revision,
  events: got,
});
const first = answer(2n, at(2n));
const txn = answer(3n, at(3n));
const markAt4 = answer(4n);
const both = answer(6n, at(5n, 6n));
const markAt6 = answer(6n);
const seventh = answer(7n, at(7n));
const eighth = answer(8n, at(8n));
const markAt8 = answer(8n);
const good = [first, txn, markAt4, both, markAt6, seventh, eighth, markAt8];

function watchOf(
  responses: readonly RecordedResponse[],
  options: Parameters<typeof watchRequest>[1] = {},
  revisions: { readonly created?: Revision; readonly known?: Revision } = {},
): RecordedWatch {
  const request = watchRequest('w/', { rangeEnd: endOf('w/'), startRevision: 2n, prevKv: true, ...options });
  const { created = 3n, known = 0n } = revisions;
  return { request, createdRevision: created, knownRevision: known, responses, state: 'live' };
}

/** The good recording with one event replaced by others. */
const with_ = (revision: Revision, key: string, change: (event: Event) => readonly Event[]) =>
  good.map((response) => ({
    ...response,
    events: response.events.flatMap((event) =>
      event.kv.modRevision === revision && event.kv.key.toString() === key ? change(event) : [event],
    ),
  }));
const withKv = (revision: Revision, key: string, more: Partial<KeyValue>) =>
  with_(revision, key, (event) => [{ ...event, kv: { ...event.kv, ...more } }]);
const bare = ({ type, kv }: Event): Event => ({ type, kv });
const withoutPairs = (responses: readonly RecordedResponse[]) =>
  responses.map((response) => ({ ...response, events: response.events.map(bare) }));

const undoctored: Readonly<Record<string, readonly [RecordedWatch, History?]>> = {
  'from the beginning': [watchOf(good)],
  'cut off after any answer': [watchOf(good.slice(0, 4))],
  'silent so far': [watchOf([])],
  resumed: [watchOf(good.slice(3), { startRevision: 4n })],
  'from now on': [watchOf(good.slice(2), { startRevision: 0n })],
  'from now on, with a writer in between': [
    watchOf(good.slice(1), { startRevision: 0n }, { created: 3n, known: 2n }),
  ],
  'without the pairs before': [watchOf(withoutPairs(good), { prevKv: false })],
  'without the pairs that are compacted': [
    watchOf([answer(6n, at(5n, 6n).map(bare)), seventh, eighth], { startRevision: 5n }),
    historyOf(events, 6n),
  ],
  'without a deletion at the compact revision that it starts at': [
    watchOf([seventh, eighth], { startRevision: 6n }),
    historyOf(events, 6n),
  ],
  'without deletions': [
    watchOf([first, txn, answer(5n, at(5n)), seventh, eighth, markAt8], { filters: ['nodelete'] }),
  ],
  'in another order within a revision that nobody knows the order of': [
    watchOf([first, answer(3n, at(3n).toReversed()), markAt4, both]),
    { ...history, unordered: new Set([3n]) },
  ],
  'of times that are in no history': [
    watchOf([first, seventh, eighth]),
    { ...history, after: 7n, events: events.slice(-1) },
  ],
};

for (const [title, [watch, past]] of Object.entries(undoctored)) {
  test(`a watch ${title} breaks nothing`, (t) => {
    t.deepEqual(brokenGuarantees(watch, past ?? history), []);
  });
}

const doctored: Readonly<Record<string, readonly [RecordedWatch, readonly Guarantee[]]>> = {
  'misses an event': [watchOf(good.filter((response) => response !== seventh)), ['Reliable', 'Bookmarkable']],
  'misses an event of a txn': [watchOf(with_(3n, 'w/c', () => [])), ['Reliable', 'Bookmarkable']],
  'misses the last event before a mark': [watchOf(with_(8n, 'w/c', () => [])), ['Bookmarkable']],
  'misses an event, without marks': [watchOf([first, both]), ['Reliable']],
  'gets an event twice in one answer': [watchOf(with_(5n, 'w/b', (event) => [event, event])), ['Unique']],
  'gets an answer twice': [watchOf([...good.slice(0, 7), eighth]), ['Unique', 'Atomic']],
  'gets an old event again': [
    watchOf([...good.slice(0, 7), answer(8n, at(5n))]),
    ['Ordered', 'Unique', 'Atomic', 'Bookmarkable'],
  ],
  'gets revisions in the wrong order': [watchOf([txn, first]), ['Ordered', 'Resumable']],
  'gets later answers in the wrong order': [watchOf([...good.slice(0, 5), eighth, seventh]), ['Ordered']],
  'gets the events of a txn in the wrong order': [
    watchOf([first, answer(3n, at(3n).toReversed())]),
    ['Ordered'],
  ],
  'gets a revision in two answers': [
    watchOf([first, ...at(3n).map((event) => answer(3n, [event])), ...good.slice(2)]),
    ['Atomic'],
  ],
  'gets a mark ahead of an event': [
    watchOf([...good.slice(0, 5), markAt8, seventh, eighth]),
    ['Bookmarkable'],
  ],
  'gets a mark ahead of an event that then does not come': [
    watchOf([...good.slice(0, 5), answer(7n)]),
    ['Bookmarkable'],
  ],
  'gets an event after the mark that covers it': [
    watchOf([first, txn, markAt4, answer(5n), both]),
    ['Bookmarkable'],
  ],
  'gets marks that go back': [watchOf([...good, markAt6]), ['Bookmarkable']],
  'gets a mark below its events': [watchOf([first, txn, answer(2n)]), ['Bookmarkable']],
  'gets an event later than the answer says': [
    watchOf([first, txn, answer(4n, both.events)]),
    ['Bookmarkable'],
  ],
  'gets a mark below its start': [watchOf([markAt4], { startRevision: 5n }), ['Bookmarkable']],
  'gets an event below its start': [watchOf(good, { startRevision: 3n }), ['Resumable']],
  'gets an event that it knew': [watchOf(good.slice(1), { startRevision: 0n }, { known: 3n }), ['Resumable']],
  'is resumed and misses the first event': [
    watchOf([seventh, eighth], { startRevision: 6n }),
    ['Reliable', 'Resumable'],
  ],
  'from now on misses the first event': [
    watchOf([seventh], { startRevision: 0n }),
    ['Reliable', 'Resumable'],
  ],
  'gets the wrong pair before': [
    watchOf(with_(8n, 'w/c', (event) => [{ ...event, prevKv: at(7n)[0]!.kv }])),
    ['PrevKv'],
  ],
  'gets a stale pair before': [
    watchOf(with_(6n, 'w/a', (event) => [{ ...event, prevKv: at(2n)[0]!.kv }])),
    ['PrevKv'],
  ],
  'gets a pair before of a key that was not': [
    watchOf(with_(7n, 'w/a', (event) => [{ ...event, prevKv: at(3n)[1]!.kv }])),
    ['PrevKv'],
  ],
  'misses the pair before a put': [watchOf(with_(8n, 'w/c', (event) => [bare(event)])), ['PrevKv']],
  'misses the pair before a deletion': [watchOf(with_(6n, 'w/b', (event) => [bare(event)])), ['PrevKv']],
  'gets pairs before that it did not want': [watchOf(good, { prevKv: false }), ['PrevKv']],
  'is told that an update creates': [
    watchOf(withKv(8n, 'w/c', { createRevision: 8n, version: 1n })),
    ['Reliable', 'IsCreate'],
  ],
  'is told that a creation updates': [
    watchOf(withKv(7n, 'w/a', { createRevision: 2n, version: 3n })),
    ['Reliable', 'IsCreate'],
  ],
  'is told a version that does not go with the creation': [
    watchOf(withKv(7n, 'w/a', { version: 2n })),
    ['Reliable', 'IsCreate'],
  ],
  'is told when a deleted key was created': [
    watchOf(withKv(6n, 'w/a', { createRevision: 2n })),
    ['Reliable', 'IsCreate'],
  ],
  'gets another value': [watchOf(withKv(8n, 'w/c', { value: Buffer.from('x') })), ['Reliable']],
  'gets another lease': [watchOf(withKv(8n, 'w/c', { lease: 7n })), ['Reliable']],
  'gets a put for a deletion': [
    watchOf(
      with_(6n, 'w/b', (event) => [{ ...event, type: 'put', kv: { ...event.prevKv!, modRevision: 6n } }]),
    ),
    ['Reliable', 'IsCreate'],
  ],
  'gets an event that has not happened': [
    watchOf(
      with_(7n, 'w/a', (event) => [event, { ...bare(event), kv: { ...event.kv, key: Buffer.from('w/d') } }]),
    ),
    ['Reliable'],
  ],
  'gets an event of another key': [watchOf([first, txn, answer(4n, [events[3]!])]), ['Filtered']],
  'gets what is filtered out': [watchOf(good, { filters: ['nodelete'] }), ['Filtered']],
};

for (const [title, [watch, expected]] of Object.entries(doctored)) {
  test(`a watch that ${title} breaks ${expected.join(' and ')}`, (t) => {
    const broken = brokenGuarantees(watch, history);
    const names = new Set<string>(broken.map((text) => text.split(':')[0]!));
    t.deepEqual(names, new Set<string>(expected), broken.join('\n'));
  });
}

const asked = (request: Extract<Entry, { type: 'asked' }>['request']): Entry => ({
  type: 'asked',
  request,
  knownRevision: 0n,
});
const create = (options: Parameters<typeof watchRequest>[1] = {}) =>
  asked({ type: 'create', request: watchRequest('w/', { rangeEnd: endOf('w/'), ...options }) });
function answered(watchId: bigint, more: Partial<WatchResponse> = {}, revision: Revision = 8n): Entry {
  const response: WatchResponse = {
    header: { clusterId: 1n, memberId: 1n, raftTerm: 1n, revision },
    watchId,
    created: false,
    canceled: false,
    compactRevision: 0n,
    cancelReason: '',
    fragment: false,
    events: [],
    ...more,
  };
  return { type: 'answered', response };
}
const created = (watchId: bigint) => answered(watchId, { created: true });
const canceled = (watchId: bigint, compactRevision = 0n) =>
  answered(watchId, { canceled: true, compactRevision });
const some = (watchId: bigint) => answered(watchId, { events: at(2n) });
const piece = (watchId: bigint) => answered(watchId, { events: at(3n), fragment: true });
const progress = asked({ type: 'progress' });
const cancel = (watchId: bigint) => asked({ type: 'cancel', watchId });
const refused = answered(-1n, { created: true, canceled: true, cancelReason: 'refused' });

const goodStream: readonly Entry[] = [
  create({ fragment: true }),
  create({ watchId: 7n }),
  create(),
  created(0n),
  created(7n),
  some(7n),
  refused,
  progress,
  piece(0n),
  some(0n),
  answered(-1n),
  cancel(7n),
  some(7n),
  canceled(7n),
  create({ watchId: 7n }),
  created(7n),
  canceled(7n, 6n),
  canceled(7n),
];

test('the watches of a stream: answers by id, fragments together, marks for all', (t) => {
  const { watches, broken } = readStream(goodStream);
  t.deepEqual(broken, []);
  const shown = watches.map(({ state, responses }) => [
    state,
    ...responses.map((response) => response.events.length),
  ]);
  t.deepEqual(shown, [['live', 3, 0], ['canceled', 1, 0, 1], ['canceled']]);
});

const badStreams: Readonly<Record<string, readonly Entry[]>> = {
  'an answer to a watch that was never created': [create(), some(0n)],
  'an answer to a watch that was canceled': [create(), created(0n), cancel(0n), canceled(0n), some(0n)],
  'events after the end by compaction': [create(), created(0n), canceled(0n, 6n), some(0n)],
  'a watch that nobody asked for': [created(0n)],
  'a watch that is there already': [create(), create(), created(0n), created(0n)],
  'another id than the one chosen': [create({ watchId: 7n }), created(0n)],
  'events in the answer to a create': [create(), answered(0n, { created: true, events: at(2n) })],
  'a mark for all that nobody asked for': [create(), created(0n), answered(-1n)],
  'a mark for one that nobody asked for': [create(), created(0n), answered(0n)],
  'fragments that nobody asked for': [create(), created(0n), piece(0n), some(0n)],
  'an answer among the fragments of another': [
    create({ fragment: true }),
    create(),
    created(0n),
    created(1n),
    piece(0n),
    some(1n),
  ],
  'a mark among fragments': [progress, create({ fragment: true }), created(0n), piece(0n), answered(-1n)],
};

for (const [title, entries] of Object.entries(badStreams)) {
  test(`a stream with ${title} is told of`, (t) => {
    t.is(readStream(entries).broken.length, 1);
  });
}
