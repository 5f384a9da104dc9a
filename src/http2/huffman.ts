// Reading of strings in the Huffman code of HPACK (RFC 7541, 5.2 and appendix B). Nothing is written in it here: what is
// saved on the wire is less than what it costs.
//
// The code is canonical: codes of one length follow each other in the order of their symbols, and begin where the shorter
// ones end. So the lengths say everything, and the table that reads four bits a step is made of them at start.

import { HpackError } from './hpack-error.ts';

/** Bits of the code of each symbol: the bytes 0 to 255, and EOS, which no string may have. */
const codeBits: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const eos = 256;
/** Codes of 5 bits and more: in this many bits ends no more than one. */
const stepBits = 4;
const paddingBitsMax = 7;

/** The inner nodes of the tree of codes, numbered from the root, 0: two per node, another node or `~symbol`. */
type Tree = readonly (readonly [number, number])[];

function makeTree(): Tree {
  const symbols = codeBits.map((_, symbol) => symbol);
  const tree: [number, number][] = [[0, 0]];
  let code = 0;
  let bits = 0;
  for (const symbol of symbols.toSorted((one, other) => codeBits[one]! - codeBits[other]! || one - other)) {
    code <<= codeBits[symbol]! - bits;
    bits = codeBits[symbol]!;
    let node = 0;
    for (let bit = bits - 1; bit > 0; bit--) {
      const side = (code >>> bit) & 1;
      // The root is below no node, so 0 is a place that is free.
      if (tree[node]![side] === 0) tree[node]![side] = tree.push([0, 0]) - 1;
      node = tree[node]![side]!;
    }
    tree[node]![code & 1] = ~symbol;
    code++;
  }
  return tree;
}

const tree = makeTree();

/** A step ends a code: its symbol is in the lowest eight bits. */
const emits = 1 << 8;
/** A step reads EOS. */
const fails = 1 << 9;
const nodeShift = 10;

/** `steps[node << stepBits | bits]`: what reading `bits` at `node` gives; the next node stands from `nodeShift` on. */
const steps = makeSteps();

function makeSteps(): Int32Array {
  const all = new Int32Array(tree.length << stepBits);
  for (let step = 0; step < all.length; step++) {
    let node = step >>> stepBits;
    let result = 0;
    for (let bit = stepBits - 1; bit >= 0; bit--) {
      const next = tree[node]![(step >>> bit) & 1]!;
      node = Math.max(next, 0);
      if (~next === eos) result |= fails;
      else if (next < 0) result |= emits | ~next;
    }
    all[step] = result | (node << nodeShift);
  }
  return all;
}

/** Bits read since the last whole code, by node, where all of them are ones, as those of EOS; absent where not. */
const onesRead = countOnes();

function countOnes(): ReadonlyMap<number, number> {
  const read = new Map<number, number>();
  for (let node = 0, bits = 0; node >= 0; node = tree[node]![1], bits++) read.set(node, bits);
  return read;
}

/**
 * The string whose code is `bytes` from `start` to `end` (exclusive), one character (U+0000 to U+00FF) per byte.
 * @throws HpackError for EOS in the string, and for padding of more than 7 bits or not all ones (RFC 7541, 5.2)
 */
export function decodeHuffman(bytes: Buffer, start: number, end: number): string {
  // The shortest code has 5 bits.
  const text = Buffer.allocUnsafe(Math.floor(((end - start) * 8) / 5));
  let length = 0;
  let node = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!;
    const high = steps[(node << stepBits) | (byte >>> stepBits)]!;
    if ((high & emits) !== 0) text[length++] = high;
    const low = steps[((high >>> nodeShift) << stepBits) | (byte & 0xf)]!;
    if ((low & emits) !== 0) text[length++] = low;
    if (((high | low) & fails) !== 0) throw new HpackError('Expected a Huffman-coded string, got EOS in it');
    node = low >>> nodeShift;
  }
  const padding = onesRead.get(node);
  if (padding === undefined) throw new HpackError('Expected Huffman padding of ones, got another');
  if (padding > paddingBitsMax)
    throw new HpackError(`Expected Huffman padding of at most ${paddingBitsMax} bits, got ${padding}`);
  return text.toString('latin1', 0, length);
}
