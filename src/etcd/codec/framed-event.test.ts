// Kept events are the same events, in memory of their own.

import test from 'ava';
import type { Event, KeyValue } from '../types.ts';
import { frameEvents, frameOf } from './framed-event.ts';
import { encodeEvent } from './watch.ts';

const kv = (value: string, more: Partial<KeyValue> = {}): KeyValue => ({
  key: Buffer.from('/a'),
  createRevision: 3n,
  modRevision: 2n ** 40n,
  version: 2n,
  value: Buffer.from(value),
  lease: 2n ** 62n + 1n,
  ...more,
});
const events: Event[] = [
  { type: 'put', kv: kv('one') },
  { type: 'put', kv: kv('two'.repeat(100)), prevKv: kv('one') },
  { type: 'put', kv: kv(''), prevKv: kv('') },
  { type: 'delete', kv: { ...kv(''), createRevision: 0n, version: 0n, lease: 0n }, prevKv: kv('one') },
];

test('framed events are equal to those they are made of, and so are their bytes', (t) => {
  const framed = frameEvents(events);
  t.deepEqual(framed, events);
  t.deepEqual(framed.map(frameOf), events.map(encodeEvent));
  t.deepEqual(events.map(frameOf), events.map(encodeEvent));
});

test('they hold one allocation of just their size', (t) => {
  const framed = frameEvents(events);
  const { buffer } = framed[0]!.kv.value;
  t.is(
    buffer.byteLength,
    events.reduce((sum, event) => sum + encodeEvent(event).length, 0),
  );
  for (const event of framed)
    for (const part of [event.kv.key, event.kv.value, event.prevKv?.value, frameOf(event)])
      t.true(part === undefined || part.length === 0 || part.buffer === buffer);
});

test('an event stripped of its previous value has bytes of its own', (t) => {
  const [, changed] = frameEvents(events);
  const { type, kv: pair } = changed!;
  t.deepEqual(frameOf({ type, kv: pair }), encodeEvent({ type, kv: pair }));
});
