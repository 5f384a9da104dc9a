// CRC-32C (Castagnoli), as etcd's HashKV uses it. node:zlib has CRC-32 only, which is another polynomial.

/** The polynomial, its bits reversed. */
const castagnoli = 0x82f6_3b78;

/** `tables[n][byte]`: what `byte` adds when `n` more bytes follow in the same step. */
const tables = makeTables();

function makeTables(): readonly Int32Array[] {
  const first = new Int32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let rest = byte;
    for (let bit = 0; bit < 8; bit++) rest = rest % 2 === 0 ? rest >>> 1 : (rest >>> 1) ^ castagnoli;
    first[byte] = rest;
  }
  const all = [first];
  for (let step = 1; step < 4; step++) {
    const before = all[step - 1]!;
    all.push(before.map((value) => (value >>> 8) ^ first[value & 0xff]!));
  }
  return all;
}

/** The checksum of `bytes`, or of what `before` is the checksum of and then `bytes`; from 0 to 2^32 - 1. */
export function crc32c(bytes: Buffer, before = 0): number {
  const [one, two, three, four] = tables as [Int32Array, Int32Array, Int32Array, Int32Array];
  let crc = ~before;
  let at = 0;
  // Four bytes a step is several times as fast as one.
  for (const end = bytes.length - 3; at < end; at += 4) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      four[crc & 0xff]! ^ three[(crc >>> 8) & 0xff]! ^ two[(crc >>> 16) & 0xff]! ^ one[(crc >>> 24) & 0xff]!;
  }
  for (; at < bytes.length; at++) crc = (crc >>> 8) ^ one[(crc ^ bytes[at]!) & 0xff]!;
  return ~crc >>> 0;
}
