// What the cache of values keeps, and what goes when it is full.

import test from 'ava';
import { ValueCache } from './value-cache.ts';

const written = (name: string, modRevision: bigint, length = 1_000) => ({
  key: Buffer.from(name),
  modRevision,
  value: Buffer.alloc(length, name),
});

test('value cache: a value is that of its revision, and of no other memory', (t) => {
  const cache = new ValueCache({ bytesMax: 100_000 });
  const given = written('a', 5n);
  cache.add([given, written('b', 6n)]);
  given.value.fill('x');
  t.deepEqual(cache.get(Buffer.from('a'), 5n), Buffer.alloc(1_000, 'a'));
  t.is(cache.get(Buffer.from('a'), 4n), undefined);
  cache.delete(Buffer.from('b'));
  t.is(cache.get(Buffer.from('b'), 6n), undefined);
  cache.add([written('a', 7n, 0)]);
  t.is(cache.get(Buffer.from('a'), 7n)?.length, 0);
  cache.clear();
  t.is(cache.get(Buffer.from('a'), 7n), undefined);
});

test('value cache: the oldest batch goes whole, but for keys that were written since', (t) => {
  const cache = new ValueCache({ bytesMax: 6_000 });
  cache.add([written('a', 1n), written('b', 2n)]);
  cache.add([written('b', 3n), written('c', 4n)]);
  t.truthy(cache.get(Buffer.from('a'), 1n));
  cache.add([written('d', 5n)]);
  t.truthy(cache.get(Buffer.from('a'), 1n));
  cache.add([written('e', 6n)]);
  t.is(cache.get(Buffer.from('a'), 1n), undefined);
  t.truthy(cache.get(Buffer.from('b'), 3n));
  for (let revision = 10n; revision < 1_000n; revision++) cache.add([written('hot', revision)]);
  t.is(cache.get(Buffer.from('e'), 6n), undefined);
  t.truthy(cache.get(Buffer.from('hot'), 999n));
});

test('value cache: a batch above the bound is not kept', (t) => {
  const cache = new ValueCache({ bytesMax: 6_000 });
  cache.add([written('large', 1n, 10_000)]);
  t.is(cache.get(Buffer.from('large'), 1n), undefined);
  cache.add([written('a', 2n)]);
  t.truthy(cache.get(Buffer.from('a'), 2n));
});
