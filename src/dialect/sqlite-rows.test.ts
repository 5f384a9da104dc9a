// Rows that are packed come out as they were.

import test from 'ava';
import fc from 'fast-check';
import { packRows, unpackRows } from './sqlite-rows.ts';

const valueArbitrary = fc.oneof(
  fc.constant(null),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.double({ noNaN: true }),
  fc.string({ unit: 'grapheme' }),
  fc.uint8Array({ maxLength: 300 }),
);

test('rows come out as they went in, bytes as buffers', (t) => {
  const rowsArbitrary = fc.array(fc.tuple(valueArbitrary, valueArbitrary, valueArbitrary), { maxLength: 20 });
  fc.assert(
    fc.property(rowsArbitrary, (rows) => {
      const unpacked = unpackRows(['a', 'b', 'c'], packRows(rows));
      const asRow = (value: (typeof rows)[number][number]) =>
        value instanceof Uint8Array ? Buffer.from(value) : value;
      t.deepEqual(
        unpacked,
        rows.map(([a, b, c]) => ({ a: asRow(a), b: asRow(b), c: asRow(c) })),
      );
    }),
  );
});

test('the block is all of its memory, and a row keeps no other alive', (t) => {
  const large = Buffer.alloc(100_000, 'x');
  const block = packRows([[large], [Buffer.from('small')]]);
  t.is(block.byteLength, block.buffer.byteLength);
  const small = unpackRows(['value'], block)[1]?.['value'];
  t.true(Buffer.isBuffer(small) && small.buffer.byteLength < large.length);
});
