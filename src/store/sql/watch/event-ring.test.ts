// The ring against a plain list: what it answers is complete, whole revisions, and it says so when it does not reach back.

import test from 'ava';
import fc from 'fast-check';
import { contains, prefixRange } from '../../../etcd/range.ts';
import { eventBytes, EventRing } from './event-ring.ts';
import { FakeLog } from './watch-fakes.ts';

const everything = { start: Buffer.alloc(0), end: undefined };

test('answers are complete, whole and bounded, or refused', (t) => {
  const history = fc.array(
    fc.record({
      keys: fc.uniqueArray(fc.constantFrom('a', 'b', 'b1', 'c'), { minLength: 1, maxLength: 4 }),
      /** Revisions without events, as a lift of the counter leaves them. */
      gap: fc.nat(2),
      valueBytes: fc.nat(400),
    }),
    { maxLength: 60 },
  );
  const bounds = fc.record({
    eventsMax: fc.integer({ min: 1, max: 12 }),
    bytesMax: fc.integer({ min: 1, max: 5000 }),
  });
  fc.assert(
    fc.property(history, bounds, fc.integer({ min: 1, max: 9 }), (commits, options, eventsMax) => {
      const log = new FakeLog();
      const ring = new EventRing(options);
      ring.reset(log.revision);
      for (const { keys, gap, valueBytes } of commits) {
        log.revision += BigInt(gap);
        const before = log.events.length;
        log.commit(...keys.map((key) => ({ key, value: 'v'.repeat(valueBytes) })));
        ring.append(log.events.slice(before), log.revision);
        const held = log.events.filter(({ kv }) => kv.modRevision > ring.floor);
        if (ring.size !== held.length || held.length > options.eventsMax) return false;
        if (held.reduce((sum, event) => sum + eventBytes(event), 0) > options.bytesMax) return false;
      }
      for (let after = 0n; after <= log.revision; after++) {
        for (const range of [everything, prefixRange(Buffer.from('b'))]) {
          const answer = ring.read({ range, after, eventsMax, bytesMax: 1024 * 1024 });
          if (after < ring.floor) {
            if (answer !== undefined) return false;
            continue;
          }
          if (answer === undefined || answer.through < after) return false;
          const due = log.events.filter(
            ({ kv }) => kv.modRevision > after && kv.modRevision <= answer.through && contains(range, kv.key),
          );
          if (
            due.length !== answer.events.length ||
            due.some((event, index) => event !== answer.events[index])
          )
            return false;
          if (answer.events.length < eventsMax && answer.through !== ring.through) return false;
          // Not more than one revision beyond what was asked for.
          const last = answer.events.at(-1)?.kv.modRevision;
          if (answer.events.filter(({ kv }) => kv.modRevision !== last).length >= eventsMax) return false;
        }
      }
      return true;
    }),
    { seed: 42, numRuns: 300 },
  );
  t.pass();
});

test('slots of dropped events are reclaimed', (t) => {
  const log = new FakeLog();
  const ring = new EventRing({ eventsMax: 100, bytesMax: 1024 * 1024 });
  ring.reset(1n);
  for (let n = 0; n < 5000; n++) {
    log.commit('a');
    ring.append(log.events.slice(-1), log.revision);
  }
  t.is(ring.size, 100);
  t.is(ring.through, 5001n);
  t.is(ring.floor, 4901n);
  t.is(
    ring.read({ range: everything, after: 4901n, eventsMax: 1000, bytesMax: 1024 * 1024 })!.events.length,
    100,
  );
  ring.reset(6000n);
  t.is(ring.size, 0);
  t.deepEqual(ring.read({ range: everything, after: 6000n, eventsMax: 10, bytesMax: 1 }), {
    events: [],
    through: 6000n,
  });
  t.is(ring.read({ range: everything, after: 5999n, eventsMax: 10, bytesMax: 1 }), undefined);
});
