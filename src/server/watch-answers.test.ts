// Answers put together once are those that each watch would have got by itself.

import test from 'ava';
import { encodeEvent, encodeWatchResponse } from '../etcd/codec/watch.ts';
import type { KeyValue } from '../etcd/types.ts';
import { sharedAnswer } from './watch-answers.ts';

const kv = (version: bigint): KeyValue => ({
  key: Buffer.from('/a'),
  createRevision: 2n,
  modRevision: 2n ** 40n + version,
  version,
  value: Buffer.alloc(300, String(version)),
  lease: 0n,
});
const header = { clusterId: 2n ** 63n + 1n, memberId: 7n, revision: 5n, raftTerm: 3n };

test('every watch gets its own ids around the same events', (t) => {
  const event = { type: 'put', kv: kv(2n), prevKv: kv(1n) } as const;
  const batch = { events: [event, event], revision: event.kv.modRevision };
  const alone = (template: typeof header, watchId: bigint) =>
    encodeWatchResponse({
      header: { ...template, revision: batch.revision },
      watchId,
      events: batch.events.map(encodeEvent),
    });
  const other = { ...header, memberId: 8n };
  for (const watchId of [0n, 0n, 1n, 2n ** 32n, 0n])
    t.deepEqual(sharedAnswer(batch, header, watchId), alone(header, watchId));
  t.deepEqual(sharedAnswer(batch, other, 0n), alone(other, 0n));
  t.is(sharedAnswer(batch, other, 0n), sharedAnswer(batch, other, 0n));
});

test('an answer without previous values has none of those of another watch', (t) => {
  const whole = { events: [{ type: 'put', kv: kv(2n), prevKv: kv(1n) } as const], revision: 9n };
  const plain = { events: [{ type: 'put', kv: kv(2n) } as const], revision: 9n };
  t.true(sharedAnswer(whole, header, 0n).includes(kv(1n).value));
  t.false(sharedAnswer(plain, header, 0n).includes(kv(1n).value));
});
