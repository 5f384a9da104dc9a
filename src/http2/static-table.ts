// The static table of HPACK (RFC 7541, appendix A), and where names and pairs stand in it.

/** A header field: name and value, each one character (U+0000 to U+00FF) per byte. */
export type Entry = readonly [name: string, value: string];

/** Index 1 is the first. */
export const staticTable: readonly Entry[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  [':status', '200'],
  [':status', '204'],
  [':status', '206'],
  [':status', '304'],
  [':status', '400'],
  [':status', '404'],
  [':status', '500'],
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ['accept-language', ''],
  ['accept-ranges', ''],
  ['accept', ''],
  ['access-control-allow-origin', ''],
  ['age', ''],
  ['allow', ''],
  ['authorization', ''],
  ['cache-control', ''],
  ['content-disposition', ''],
  ['content-encoding', ''],
  ['content-language', ''],
  ['content-length', ''],
  ['content-location', ''],
  ['content-range', ''],
  ['content-type', ''],
  ['cookie', ''],
  ['date', ''],
  ['etag', ''],
  ['expect', ''],
  ['expires', ''],
  ['from', ''],
  ['host', ''],
  ['if-match', ''],
  ['if-modified-since', ''],
  ['if-none-match', ''],
  ['if-range', ''],
  ['if-unmodified-since', ''],
  ['last-modified', ''],
  ['link', ''],
  ['location', ''],
  ['max-forwards', ''],
  ['proxy-authenticate', ''],
  ['proxy-authorization', ''],
  ['range', ''],
  ['referer', ''],
  ['refresh', ''],
  ['retry-after', ''],
  ['server', ''],
  ['set-cookie', ''],
  ['strict-transport-security', ''],
  ['transfer-encoding', ''],
  ['user-agent', ''],
  ['vary', ''],
  ['via', ''],
  ['www-authenticate', ''],
];

/** The index of a name's first entry. */
const firstOfName = new Map(
  staticTable.map(([name], position) => [name, position + 1] as const).toReversed(),
);

/** The first index with this name; 0 where there is none. */
export function staticNameIndex(name: string): number {
  return firstOfName.get(name) ?? 0;
}

/** The index of this pair; 0 where there is none. */
export function staticPairIndex([name, value]: Entry): number {
  const first = firstOfName.get(name);
  if (first === undefined) return 0;
  // Entries of one name stand together.
  for (let index = first; staticTable[index - 1]?.[0] === name; index++)
    if (staticTable[index - 1]![1] === value) return index;
  return 0;
}
