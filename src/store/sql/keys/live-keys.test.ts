// The ordered keys against a sorted list of them: the same answers after any changes.

import test from 'ava';
import fc from 'fast-check';
import { contains, type KeyRange } from '../../../etcd/range.ts';
import { safeNumber, type KeyCounters } from './block.ts';
import { LiveKeys } from './live-keys.ts';

/** Few distinct bytes and some long runs, so that keys share much and little. */
const key = fc
  .array(fc.constantFrom('\0', '/', 'a', 'ab', 'b', 'x'.repeat(40), '\u00ff'), { maxLength: 6 })
  .map((parts) => Buffer.from(parts.join(''), 'latin1'));

const counters: fc.Arbitrary<KeyCounters> = fc
  .tuple(
    fc.oneof(
      fc.integer({ min: 1, max: 300 }),
      fc.maxSafeNat().map((n) => n + 1),
    ),
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.oneof(fc.integer({ min: 1, max: 3 }), fc.maxSafeNat()),
    fc.oneof(fc.constant(0n), fc.bigInt(1n, 2n ** 63n - 1n)),
  )
  .map(([modRevision, part, version, lease]) => {
    const createRevision = Math.max(1, Math.floor(modRevision * part));
    return { createRevision, modRevision, version, lease };
  });

const range: fc.Arbitrary<KeyRange> = fc
  .tuple(key, fc.option(key, { nil: undefined }))
  .map(([start, end]) => ({ start, end }));

/** A plain map of what must be there. */
class Model {
  readonly #pairs = new Map<string, KeyCounters>();

  get(at: Buffer): KeyCounters | undefined {
    return this.#pairs.get(at.toString('latin1'));
  }

  put(at: Buffer, to: KeyCounters): number {
    const before = this.get(at)?.modRevision ?? 0;
    this.#pairs.set(at.toString('latin1'), to);
    return before;
  }

  delete(at: Buffer): number {
    const before = this.get(at)?.modRevision ?? 0;
    this.#pairs.delete(at.toString('latin1'));
    return before;
  }

  entries(): (readonly [Buffer, KeyCounters])[] {
    return [...this.#pairs]
      .map(([name, of]) => [Buffer.from(name, 'latin1'), of] as const)
      .toSorted(([a], [b]) => Buffer.compare(a, b));
  }

  count(of: KeyRange): number {
    return this.entries().filter(([at]) => contains(of, at)).length;
  }
}

test('the same as a sorted list after any puts and deletions', (t) => {
  const step = fc.record({ key, counters, isDelete: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 120 }),
      fc.array(key, { maxLength: 10 }),
      fc.array(range, { maxLength: 10 }),
      (steps, keys, ranges) => {
        const live = new LiveKeys();
        const model = new Model();
        for (const next of steps) {
          if (next.isDelete) t.is(live.delete(next.key), model.delete(next.key));
          else t.is(live.put(next.key, next.counters), model.put(next.key, next.counters));
        }
        t.deepEqual([...live.entries()], model.entries());
        for (const one of [...keys, ...steps.map((taken) => taken.key)])
          t.deepEqual(live.get(one), model.get(one));
        for (const one of ranges) t.is(live.count(one), model.count(one));
      },
    ),
    { seed: 11, numRuns: 150 },
  );
});

/** A sequence of numbers that is the same in every run. */
function* numbers(seed: number): Generator<number> {
  for (let state = seed; ;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield state;
  }
}

const some = { createRevision: 5, modRevision: 7, version: 2, lease: 0n };

test('many keys in any order: blocks and groups are split and joined, and counts stay exact', (t) => {
  const random = numbers(3);
  const next = () => random.next().value as number;
  const name = (n: number) => Buffer.from(`/registry/things/ns-${n % 7}/thing-${n % 80_021}`);
  const live = new LiveKeys();
  const present = new Set<string>();
  const checkCounts = () => {
    const sorted = [...present].map((one) => Buffer.from(one)).toSorted((a, b) => a.compare(b));
    t.is(live.size, sorted.length);
    t.deepEqual(
      [...live.entries()].map(([at]) => at.toString()),
      sorted.map(String),
    );
    for (let i = 0; i < 60; i++) {
      const start = name(next());
      const end = name(next());
      const expected = sorted.filter((one) => contains({ start, end }, one)).length;
      t.is(live.count({ start, end }), expected);
    }
  };
  for (let i = 0; i < 60_000; i++) {
    const at = name(next());
    live.put(at, some);
    present.add(at.toString());
  }
  checkCounts();
  for (const one of present) {
    if (next() % 50 === 0) continue;
    live.delete(Buffer.from(one));
    present.delete(one);
  }
  checkCounts();
  // What is gone gives back its room.
  t.true(live.bytes < present.size * 100, `${live.bytes} bytes for ${present.size} keys`);
  for (const one of present) live.delete(Buffer.from(one));
  t.is(live.size, 0);
  t.is(live.bytes, 0);
});

test('keys appended in order are there as if they had been put', (t) => {
  const live = new LiveKeys();
  let last: Buffer | undefined;
  const keys: Buffer[] = [];
  for (let n = 0; n < 100_000; n++) {
    const digits = String(n).padStart(8, '0');
    const next = Buffer.from(`/registry/group/things/ns-${digits.slice(0, 5)}/thing-${digits}`);
    live.append(next, { ...some, modRevision: n + 7 }, last);
    keys.push(next);
    last = next;
  }
  t.true(live.bytes < 30 * live.size, `${live.bytes} bytes`);
  t.deepEqual(live.entries().next().value, [keys[0], { ...some, modRevision: 7 }]);
  for (let n = 0; n < keys.length; n += 97) {
    t.is(live.rank(keys[n]!), n);
    t.is(live.get(keys[n]!)?.modRevision, n + 7);
  }
  for (const [n, one] of keys.entries()) if (n % 3 === 0) live.delete(one);
  for (const [n, one] of keys.entries()) if (n % 3 === 1) live.put(one, some);
  for (let n = 1; n < keys.length; n += 97 * 3) t.is(live.rank(keys[n]!), ((n - 1) / 3) * 2);
});

test('the longest keys', (t) => {
  const live = new LiveKeys();
  const keys = Array.from({ length: 40 }, (_, n) =>
    Buffer.alloc(8192, 'k').fill(`${n}`, 8192 - (n % 8192) - 2),
  );
  for (const one of keys) live.put(one, some);
  for (const one of keys) t.deepEqual(live.get(one), some);
  t.is(live.size, new Set(keys.map(String)).size);
  for (const one of keys) live.delete(one);
  t.is(live.size, 0);
});

test('numbers that are not exact are refused', (t) => {
  t.is(safeNumber(2n ** 53n - 1n), 2 ** 53 - 1);
  t.throws(() => safeNumber(2n ** 53n), { instanceOf: RangeError });
  t.throws(() => new LiveKeys().put(Buffer.alloc(20_000), some), { instanceOf: RangeError });
});
