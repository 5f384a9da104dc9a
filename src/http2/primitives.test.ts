// Integers and strings of header blocks: RFC 7541, C.1, there and back again, and the bounds.

import test from 'ava';
import fc from 'fast-check';
import { HpackError } from './hpack-error.ts';
import { BlockReader, BlockWriter } from './primitives.ts';

const readerOf = (hex: string) => new BlockReader(Buffer.from(hex, 'hex'));

const integers: readonly [title: string, value: number, prefixBits: number, hex: string][] = [
  ['C.1.1', 10, 5, '0a'],
  ['C.1.2', 1337, 5, '1f9a0a'],
  ['C.1.3', 42, 8, '2a'],
  ['the prefix is full', 31, 5, '1f00'],
  ['the largest', 2 ** 31, 7, '7f81ffffff07'],
];

for (const [title, value, prefixBits, hex] of integers) {
  test(`primitives: integer: ${title}`, (t) => {
    t.is(readerOf(hex).integer(prefixBits), value);
    const writer = new BlockWriter(10);
    writer.integer({ pattern: 0, prefixBits }, value);
    t.is(writer.end().toString('hex'), hex);
  });
}

test('primitives: integer: zeros at the end are read up to five further bytes', (t) => {
  t.is(readerOf('1f8080808000').integer(5), 31);
  const tooLong = { instanceOf: HpackError, message: /at most 5 further bytes/u };
  t.throws(() => readerOf('1f808080808000').integer(5), tooLong);
  t.throws(() => readerOf(`1f${'80'.repeat(1000)}`).integer(5), tooLong);
});

test('primitives: integer: refused above 2^31', (t) => {
  const tooLarge = { instanceOf: HpackError, message: /^Expected an integer up to 2147483648, got \d+$/u };
  t.throws(() => readerOf('7f82ffffff07').integer(7), tooLarge);
  t.throws(() => readerOf('7fffffffff7f').integer(7), tooLarge);
});

test('primitives: integer: refused when cut off', (t) => {
  const cutOff = { instanceOf: HpackError, message: /got the end of the header block/u };
  for (const hex of ['', '7f', '7f80', '7f8080808080']) {
    const expected = hex.length > 10 ? { instanceOf: HpackError } : cutOff;
    t.throws(() => readerOf(hex).integer(7), expected, hex);
  }
});

test('primitives: string: refused when longer than what is left', (t) => {
  t.is(readerOf('03616263').string(), 'abc');
  const cutOff = { instanceOf: HpackError, message: 'Expected a string of 4 bytes, got 3' };
  t.throws(() => readerOf('04616263').string(), cutOff);
  t.throws(() => readerOf('84616263').string(), cutOff);
  t.throws(() => readerOf('7f81ffffff07616263').string(), { instanceOf: HpackError });
  t.throws(() => readerOf('').string(), { instanceOf: HpackError });
});

test('primitives: what was written is read', (t) => {
  const text = fc.string({
    unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
    maxLength: 400,
  });
  const items = fc.array(
    fc.oneof(
      text,
      fc.record({
        prefixBits: fc.integer({ min: 1, max: 8 }),
        value: fc.oneof(fc.nat(600), fc.integer({ min: 0, max: 2 ** 31 - 1 })),
      }),
    ),
  );
  fc.assert(
    fc.property(items, (all) => {
      const writer = new BlockWriter(500 * all.length);
      for (const item of all) {
        if (typeof item === 'string') writer.string(item);
        else writer.integer({ pattern: 0, prefixBits: item.prefixBits }, item.value);
      }
      const reader = new BlockReader(writer.end());
      for (const item of all) {
        if (typeof item === 'string') t.is(reader.string(), item);
        else t.is(reader.integer(item.prefixBits), item.value);
      }
      t.is(reader.peek(), undefined);
    }),
  );
});
