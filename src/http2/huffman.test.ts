// The Huffman code against golden strings: those of RFC 7541, appendix C, and one of all 256 bytes, put together from the
// code table of golang.org/x/net/http2/hpack.

import test from 'ava';
import { HpackError } from './hpack-error.ts';
import { decodeHuffman } from './huffman.ts';

const decode = (bytes: Buffer) => decodeHuffman(bytes, 0, bytes.length);
const fromBits = (bits: string) =>
  Buffer.from((bits.match(/.{8}/gu) ?? []).map((byte) => Number.parseInt(byte, 2)));

const known: readonly [text: string, hex: string][] = [
  ['', ''],
  ['www.example.com', 'f1e3c2e5f23a6ba0ab90f4ff'],
  ['no-cache', 'a8eb10649cbf'],
  ['custom-key', '25a849e95ba97d7f'],
  ['custom-value', '25a849e95bb8e8b4bf'],
  ['302', '6402'],
  ['private', 'aec3771a4b'],
  ['Mon, 21 Oct 2013 20:13:21 GMT', 'd07abe941054d444a8200595040b8166e082a62d1bff'],
  ['https://www.example.com', '9d29ad171863c78f0b97c8e9ae82ae43d3'],
  ['gzip', '9bd9ab'],
  [
    'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1',
    '94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007',
  ],
];

for (const [text, hex] of known) {
  test(`huffman: ${text || 'the empty string'}`, (t) => t.is(decode(Buffer.from(hex, 'hex')), text));
}

const allBytes =
  '/8f//Y///+L///4////k///+X///5v///n///+j//+r////z///6f///q////9///+v///7P///t///+7///7////w////H///8v' +
  '////v///z////T///9f///2////f///+P///5////r///+1P4/n/r/yr8f6/r+/n/f0suwAImWm3HXn7n3//IP+/8/9Q3b1/BhxY' +
  '8mXNn0adWvZt3b+HHl+c/3/3//w/+f/kX/9HGSQss05unWimo9faxCbe/jz69//7/n/7/9////z//m//9L//n//6P//T//9T//1f' +
  '//s//+t//9r//7f//3P//u///e///r//+////Z///b//6///4P//7v//w///i///H//+T//uf/+x//+X//2f//zf//n///v//9r/' +
  '/u//9P//t//+5//+j//9P//e///V//7v//vf//4f/9///3///1///s//8H//h//+D//xf//t//+H//93//7//+r//4v//j//+T//' +
  '+H//y///N///H///g///4f/+v//j//8///8v//o///2f//8X///H///yf//97///v///8v//+P//+3//l//4///+b///wf//+H//' +
  '/n///8X//+X//k//8v///R///0////7///4////J///5f/+z///P//t//83//0//+f//0f//z//+r//6///93//+////T///X///' +
  'q///p///1///+b///s///7f///P///6P///T///6v///X////3///s///9v///u///9////w///7vw==';
test('huffman: every byte', (t) => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  t.is(decode(Buffer.from(allBytes, 'base64')), bytes.toString('latin1'));
});

test('huffman: a part of a buffer', (t) => t.is(decodeHuffman(Buffer.from('ff6402ff', 'hex'), 1, 3), '302'));

test('huffman: padding of 1 to 7 ones ends a string, wherever its last code ends', (t) => {
  for (let count = 0; count < 8; count++) {
    // 'a' is 00011, so that strings of it end at every bit of a byte.
    const bits = '00011'.repeat(count);
    t.is(decode(fromBits(bits.padEnd(Math.ceil(bits.length / 8) * 8, '1'))), 'a'.repeat(count));
  }
});

const broken: readonly [title: string, bits: string, message: RegExp][] = [
  ['padding of a whole byte', '11111111', /at most 7 bits, got 8/u],
  ['padding of a byte and some bits', '0001111111111111', /at most 7 bits, got 11/u],
  ['padding with a zero in it', '00011110', /padding of ones/u],
  ['padding of zeros', '00011000', /padding of ones/u],
  ['a long code without its end', '1111111111111010', /padding of ones/u],
  ['EOS', `${'1'.repeat(30)}11`, /got EOS/u],
  ['EOS after a symbol', `00011${'1'.repeat(30)}11111`, /got EOS/u],
  ['EOS before a symbol', `${'1'.repeat(30)}0001111111`, /got EOS/u],
];

for (const [title, bits, message] of broken) {
  test(`huffman: refused: ${title}`, (t) => {
    t.throws(() => decode(fromBits(bits)), { instanceOf: HpackError, message });
  });
}
