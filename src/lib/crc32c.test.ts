// CRC-32C against the published values (RFC 3720, B.4) and in parts.

import test from 'ava';
import { crc32c } from './crc32c.ts';

const known: readonly [string, Buffer, number][] = [
  ['nothing', Buffer.alloc(0), 0],
  ['the digits 1 to 9', Buffer.from('123456789'), 0xe306_9283],
  ['32 zeros', Buffer.alloc(32), 0x8a91_36aa],
  ['32 ones', Buffer.alloc(32, 0xff), 0x62a8_ab43],
  ['32 bytes that rise', Buffer.from(Array.from({ length: 32 }, (_, index) => index)), 0x46dd_794e],
  ['32 bytes that fall', Buffer.from(Array.from({ length: 32 }, (_, index) => 31 - index)), 0x113f_db5c],
];

for (const [title, bytes, expected] of known) {
  test(`crc32c: ${title}`, (t) => t.is(crc32c(bytes), expected));
}

test('crc32c: the parts of a text give what the whole gives, wherever it is cut', (t) => {
  const text = Buffer.from('a value, and another one after it \u00ff');
  for (let cut = 0; cut <= text.length; cut++)
    t.is(crc32c(text.subarray(cut), crc32c(text.subarray(0, cut))), crc32c(text));
});
