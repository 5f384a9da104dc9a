// Header blocks against the examples of RFC 7541, appendix C, against blocks that golang.org/x/net (grpc-go) and nghttp2
// (grpc-js) have made, and at random.

import test from 'ava';
import fc from 'fast-check';
import {
  encodeStateless,
  HeaderDecoder,
  HeaderEncoder,
  HpackError,
  noTable,
  type HeaderFields,
} from './hpack.ts';
import { staticTable } from './static-table.ts';

const hex = (text: string) => Buffer.from(text, 'hex');
const decoderOf = ({ tableBytesMax = 4096, listBytesMax = 65_536 } = {}) =>
  new HeaderDecoder({ tableBytesMax, listBytesMax });

/** The entries of the dynamic table, the last one first, asked for one by one. */
function tableOf(decoder: HeaderDecoder): HeaderFields[] {
  const entries: HeaderFields[] = [];
  try {
    for (let index = 62; ; index++) entries.push(decoder.decode(Buffer.of(0x80 | index))!);
  } catch {
    // The index behind the last.
    return entries;
  }
}

const bytesOf = (entries: readonly HeaderFields[]) =>
  entries.reduce((sum, [name, value]) => sum + name!.length + value!.length + 32, 0);

interface Example {
  readonly hex: string;
  readonly fields: HeaderFields;
  readonly table: readonly HeaderFields[];
  readonly tableBytes: number;
}

const get = [':method', 'GET'];
const http = [':scheme', 'http'];
const root = [':path', '/'];
const authority = [':authority', 'www.example.com'];
const noCache = ['cache-control', 'no-cache'];
const custom = ['custom-key', 'custom-value'];
const requests: readonly Omit<Example, 'hex'>[] = [
  { fields: [get, http, root, authority].flat(), table: [authority], tableBytes: 57 },
  {
    fields: [get, http, root, authority, noCache].flat(),
    table: [noCache, authority],
    tableBytes: 110,
  },
  {
    fields: [get, [':scheme', 'https'], [':path', '/index.html'], authority, custom].flat(),
    table: [custom, noCache, authority],
    tableBytes: 164,
  },
];

const found = [':status', '302'];
const redirected = [':status', '307'];
const forUs = ['cache-control', 'private'];
const date = ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'];
const later = ['date', 'Mon, 21 Oct 2013 20:13:22 GMT'];
const location = ['location', 'https://www.example.com'];
const gzip = ['content-encoding', 'gzip'];
const cookie = ['set-cookie', 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'];
const responses: readonly Omit<Example, 'hex'>[] = [
  { fields: [found, forUs, date, location].flat(), table: [location, date, forUs, found], tableBytes: 222 },
  {
    fields: [redirected, forUs, date, location].flat(),
    table: [redirected, location, date, forUs],
    tableBytes: 222,
  },
  {
    fields: [[':status', '200'], forUs, later, location, gzip, cookie].flat(),
    table: [cookie, gzip, later],
    tableBytes: 215,
  },
];

const withBlocks = (examples: readonly Omit<Example, 'hex'>[], blocks: readonly string[]): Example[] =>
  examples.map((example, index) => ({ ...example, hex: blocks[index]! }));

const sections: readonly [title: string, tableBytesMax: number, examples: readonly Example[]][] = [
  [
    'C.2.1',
    4096,
    [
      {
        hex: '400a637573746f6d2d6b65790d637573746f6d2d686561646572',
        fields: ['custom-key', 'custom-header'],
        table: [['custom-key', 'custom-header']],
        tableBytes: 55,
      },
    ],
  ],
  [
    'C.2.2',
    4096,
    [{ hex: '040c2f73616d706c652f70617468', fields: [':path', '/sample/path'], table: [], tableBytes: 0 }],
  ],
  [
    'C.2.3',
    4096,
    [
      {
        hex: '100870617373776f726406736563726574',
        fields: ['password', 'secret'],
        table: [],
        tableBytes: 0,
      },
    ],
  ],
  ['C.2.4', 4096, [{ hex: '82', fields: get, table: [], tableBytes: 0 }]],
  [
    'C.3',
    4096,
    withBlocks(requests, [
      '828684410f7777772e6578616d706c652e636f6d',
      '828684be58086e6f2d6361636865',
      '828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565',
    ]),
  ],
  [
    'C.4',
    4096,
    withBlocks(requests, [
      '828684418cf1e3c2e5f23a6ba0ab90f4ff',
      '828684be5886a8eb10649cbf',
      '828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf',
    ]),
  ],
  [
    'C.5',
    256,
    withBlocks(responses, [
      '4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d',
      '4803333037c1c0bf',
      '88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31',
    ]),
  ],
  [
    'C.6',
    256,
    withBlocks(responses, [
      '488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3',
      '4883640effc1c0bf',
      '88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007',
    ]),
  ],
];

for (const [title, tableBytesMax, examples] of sections) {
  test(`hpack: RFC 7541, ${title}`, (t) => {
    const decoder = decoderOf({ tableBytesMax });
    for (const { hex: block, fields, table, tableBytes } of examples) {
      t.deepEqual(decoder.decode(hex(block)), fields);
      t.deepEqual(tableOf(decoder), table);
      t.is(bytesOf(tableOf(decoder)), tableBytes);
    }
  });
}

/** A call without its timeout. */
function call(agent: string): HeaderFields {
  const request = [':method', 'POST', ':scheme', 'http', ':path', '/etcdserverpb.KV/Range'];
  const rest = [':authority', '127.0.0.1:2379', 'content-type', 'application/grpc', 'user-agent', agent];
  return [...request, ...rest, 'te', 'trailers'];
}

const goCall = [...call('grpc-go/1.71.0'), 'grpc-accept-encoding', 'gzip'];
const nodeCall = call('grpc-node-js/1.14.7');
const goFirst =
  '8386459060a924882d9dcb6571af9b8b1b4754c5418a089d5c0b8170dc132ebf5f8b1d75d0620d263d4c4d65647a' +
  '8a9acac8b4c7602bba15c140027465864d833505b11f408e9acac8b0c842d6958b510f21aa9b839bd9ab';
const timeout = (value: string) => ['grpc-timeout', value];

const peers: readonly [title: string, blocks: readonly (readonly [hex: string, fields: HeaderFields])[]][] = [
  [
    'golang.org/x/net 0.61.0',
    [
      [goFirst, goCall],
      ['8386c3c2c1c0bfbe', goCall],
      ['8386c3c2c1c0bfbe40899acac8b24d494f6a7f8669f7df79d0db', [...goCall, ...timeout('4999871u')]],
      ['8386c4c3c2c1c0bf7e8669f7df79d05b', [...goCall, ...timeout('4999870u')]],
      // The size shrinks to 128 and grows to 1024 before this block, and to 0 before the last.
      [`3f613fe107${goFirst}c5`, [...goCall, ...timeout('4999871u')]],
      ['201f08861a88292c2a7f', ['authorization', 'a secret']],
    ],
  ],
  [
    'nghttp2 of Node 24',
    [
      [
        '8386049060a924882d9dcb6571af9b8b1b4754c5418a089d5c0b8170dc132ebf5f8b1d75d0620d263d4c4d65647a' +
          '8e9acac8b54790ab7443015c2d2eef40027465864d833505b11f40899acac8b24d494f6a7f023553',
        [...nodeCall, ...timeout('5S')],
      ],
      [
        '8386049060a924882d9dcb6571af9b8b1b4754c5c2c1c0bf7e8669f7df79d0db',
        [...nodeCall, ...timeout('4999871u')],
      ],
      ['8386049060a924882d9dcb6571af9b8b1b4754c5c3c2c1c0be', [...nodeCall, ...timeout('4999871u')]],
    ],
  ],
];

for (const [title, blocks] of peers) {
  test(`hpack: decode: what ${title} sends`, (t) => {
    const decoder = decoderOf();
    for (const [block, fields] of blocks) t.deepEqual(decoder.decode(hex(block)), fields);
  });
}

const broken: readonly [title: string, block: string, message: RegExp][] = [
  ['index 0', '80', /index from 1 to 61, got 0/u],
  ['an index beyond an empty table', 'be', /index from 1 to 61, got 62/u],
  ['an index beyond the table', '4001610162bf', /index from 1 to 62, got 63/u],
  ['a large index', 'ff80808008', /index from 1 to 61, got \d+/u],
  ['the name of no entry', '7e0161', /index from 1 to 61, got 62/u],
  ['the name of no entry, not kept', '0f2f0161', /index from 1 to 61, got 62/u],
  ['an index that is cut off', 'ff', /got the end of the header block/u],
  ['an index with too many bytes', 'ff808080808000', /at most 5 further bytes/u],
  ['a name without a value', '400161', /got the end of the header block/u],
  ['a name that is cut off', '40036161', /a string of 3 bytes, got 2/u],
  ['a value that is cut off', '0001610261', /a string of 2 bytes, got 1/u],
  ['a name in a broken code', '4081ff00', /Huffman padding/u],
  ['a size above the limit', '3fe21f', /size up to 4096, got 4097/u],
  ['a size after a field', '823fe11f', /size updates before all fields/u],
];

for (const [title, block, message] of broken) {
  test(`hpack: decode: refused: ${title}`, (t) => {
    t.throws(() => decoderOf().decode(hex(block)), { instanceOf: HpackError, message });
  });
}

test('hpack: decode: an empty block, and one of size updates only', (t) => {
  t.deepEqual(decoderOf().decode(hex('')), []);
  t.deepEqual(decoderOf().decode(hex('203fe11f')), []);
});

test('hpack: decode: the table begins with 4096 bytes and grows when the other side says so', (t) => {
  const decoder = decoderOf({ tableBytesMax: 8192 });
  const kept = `4001617f813e${'62'.repeat(8064)}`;
  t.is(decoder.decode(hex(kept))!.length, 2);
  t.deepEqual(tableOf(decoder), []);
  t.is(decoder.decode(hex(`3fe13f${kept}`))!.length, 2);
  t.is(bytesOf(tableOf(decoder)), 1 + 8064 + 32);
  t.throws(() => decoder.decode(hex('3fe23f')), { instanceOf: HpackError });
});

test('hpack: decode: an entry larger than the table empties it', (t) => {
  const decoder = decoderOf({ tableBytesMax: 64 });
  t.deepEqual(decoder.decode(hex('4001610162')), ['a', 'b']);
  t.deepEqual(tableOf(decoder), [['a', 'b']]);
  t.deepEqual(decoder.decode(hex(`7e20${'63'.repeat(32)}`)), ['a', 'c'.repeat(32)]);
  t.deepEqual(tableOf(decoder), []);
});

test('hpack: decode: a table without room', (t) => {
  const decoder = decoderOf({ tableBytesMax: 0 });
  t.deepEqual(decoder.decode(hex('400161016282')), ['a', 'b', ':method', 'GET']);
  t.deepEqual(tableOf(decoder), []);
});

test('hpack: decode: a name may come from the entry that its own makes go', (t) => {
  const decoder = decoderOf({ tableBytesMax: 40 });
  decoder.decode(hex('4001610162'));
  t.deepEqual(decoder.decode(hex('7e0163')), ['a', 'c']);
  t.deepEqual(tableOf(decoder), [['a', 'c']]);
});

test('hpack: decode: a list above the limit is not given, and the table is right all the same', (t) => {
  const decoder = decoderOf({ listBytesMax: 2 * 34 });
  t.deepEqual(decoder.decode(hex('40016101624001630164')), ['a', 'b', 'c', 'd']);
  t.is(decoder.decode(hex('bebe400165026666')), undefined);
  t.deepEqual(tableOf(decoder), [
    ['e', 'ff'],
    ['c', 'd'],
    ['a', 'b'],
  ]);
});

test('hpack: decode: bytes above 0x7f are latin1, also empty names are read', (t) => {
  t.deepEqual(decoderOf().decode(hex('0001ff02e980000000')), ['ÿ', 'é\u0080', '', '']);
});

test('hpack: decode: nothing that was read lies in the bytes of the block', (t) => {
  const decoder = decoderOf();
  const block = hex('400a637573746f6d2d6b65790d637573746f6d2d686561646572');
  const fields = decoder.decode(block);
  block.fill(0);
  t.deepEqual(fields, ['custom-key', 'custom-header']);
  t.deepEqual(decoder.decode(hex('be')), ['custom-key', 'custom-header']);
});

test('hpack: decode: any bytes give fields, nothing or HpackError', (t) => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.constantFrom(goFirst, '8386c3c2c1c0bfbe', '3f613fe107', '4001610162', '20', 'be').map(hex),
  );
  const block = fc.array(piece, { maxLength: 4 }).map((pieces) => Buffer.concat(pieces));
  fc.assert(
    fc.property(fc.array(block, { maxLength: 4 }), (blocks) => {
      const decoder = decoderOf({ listBytesMax: 500 });
      try {
        for (const bytes of blocks) {
          const fields = decoder.decode(bytes);
          if (fields === undefined) continue;
          t.is(fields.length % 2, 0);
          t.true(fields.every((text) => typeof text === 'string'));
        }
      } catch (error) {
        t.true(error instanceof HpackError, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

test('hpack: encode: constant fields become indexes, varying ones stay literals', (t) => {
  const encoder = new HeaderEncoder();
  const constant = [':method', 'POST', ':path', '/p', 'te', 'trailers'];
  // These bytes were read by golang.org/x/net too.
  t.is(encoder.encode(constant).toString('hex'), '8344022f704002746508747261696c657273');
  t.is(encoder.encode(constant).toString('hex'), '83bfbe');
  t.is(
    encoder.encode(constant, ['te', 'x', ':path', '/', 'n', '1S']).toString('hex'),
    '83bfbe0f2f017804012f00016e023153',
  );
  t.is(encoder.encode(constant).toString('hex'), '83bfbe');
});

test('hpack: encode: the block of the same array is made once, until the table changes', (t) => {
  const encoder = new HeaderEncoder();
  const constant = ['te', 'trailers'];
  encoder.encode(constant);
  const block = encoder.encode(constant);
  t.is(encoder.encode(constant), block);
  t.deepEqual(encoder.encode([...constant]), block);
  t.is(block.toString('hex'), 'be');
  encoder.encode(['a', 'b']);
  t.is(encoder.encode(constant).toString('hex'), 'bf');
  encoder.setTableSize(0);
  t.is(encoder.encode(constant).toString('hex'), '200002746508747261696c657273');
  t.is(encoder.encode(constant).toString('hex'), '0002746508747261696c657273');
});

test('hpack: encode: what is larger than the table is not put in', (t) => {
  const encoder = new HeaderEncoder();
  const small = ['a', 'b'];
  encoder.encode(small);
  t.is(encoder.encode(['large', 'x'.repeat(4096)])[0], 0);
  t.is(encoder.encode(small).toString('hex'), 'be');
});

const sizes: readonly [title: string, sizes: readonly number[], hex: string][] = [
  ['the size as it is', [4096], ''],
  ['more than is used', [65_536], ''],
  ['less', [100], '3f45'],
  ['less and less', [200, 100], '3f45'],
  ['less, then more', [100, 200], '203fa901'],
  ['nothing, then all', [0, 4096], '203fe11f'],
  ['less, then more than is used', [100, 65_536], '203fe11f'],
];

for (const [title, all, expected] of sizes) {
  test(`hpack: encode: size updates: ${title}`, (t) => {
    const encoder = new HeaderEncoder();
    for (const size of all) encoder.setTableSize(size);
    t.is(encoder.encode([]).toString('hex'), expected);
    t.is(encoder.encode([]).toString('hex'), '');
  });
}

test('hpack: encode: size updates: a table that was smaller in between begins anew', (t) => {
  const encoder = new HeaderEncoder();
  encoder.encode(['a', 'b']);
  encoder.setTableSize(1000);
  encoder.setTableSize(4096);
  t.is(encoder.encode(['a', 'b']).toString('hex'), '203fe11f4001610162');
});

test('hpack: encode: size updates: each block tells what has changed since the last', (t) => {
  const encoder = new HeaderEncoder();
  const updateOf = (size: number) => {
    encoder.setTableSize(size);
    return encoder.encode([]).toString('hex');
  };
  t.deepEqual([100, 30, 30, 4096].map(updateOf), ['3f45', '3e', '', '3fe11f']);
});

test('hpack: encode: what was encoded is decoded, through any changes of the size', (t) => {
  const unit = fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code));
  const text = fc.oneof(
    fc.constantFrom(':path', ':status', '200', 'a', 'b', 'te', 'x'.repeat(150), 'y'.repeat(4090)),
    fc.string({ unit, maxLength: 60 }),
  );
  const fields = fc.array(fc.tuple(text, text), { maxLength: 6 }).map((pairs) => pairs.flat());
  const step = fc.record({
    sizes: fc.array(fc.oneof(fc.nat(400), fc.nat(9000)), { maxLength: 2 }),
    constant: fc.nat(3),
    varying: fc.option(fields, { nil: undefined }),
  });
  fc.assert(
    fc.property(
      fc.array(fields, { minLength: 4, maxLength: 4 }),
      fc.array(step, { maxLength: 20 }),
      (constants, steps) => {
        const encoder = new HeaderEncoder();
        const decoder = decoderOf();
        for (const { sizes: sizesBefore, constant, varying } of steps) {
          for (const size of sizesBefore) encoder.setTableSize(size);
          const sent = constants[constant]!;
          t.deepEqual(decoder.decode(encoder.encode(sent, varying)), [...sent, ...(varying ?? [])]);
          t.true(bytesOf(tableOf(decoder)) <= Math.min(sizesBefore.at(-1) ?? 4096, 4096));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('hpack: stateless: the static table is referred to, and nothing is put in', (t) => {
  t.is(
    encodeStateless([':status', '200', 'content-type', 'application/grpc']).toString('hex'),
    `880f10106170706c69636174696f6e2f67727063`,
  );
  t.is(encodeStateless(['grpc-status', '0']).toString('hex'), '000b677270632d7374617475730130');
  t.is(encodeStateless([':status', '201']).toString('hex'), '0803323031');
});

test('hpack: stateless: a table of no bytes may be announced before', (t) => {
  const decoder = decoderOf();
  decoder.decode(hex('4001610162'));
  t.deepEqual(decoder.decode(Buffer.concat([noTable, encodeStateless(['a', 'b'])])), ['a', 'b']);
  t.deepEqual(tableOf(decoder), []);
});

test('hpack: stateless: every entry of the static table is one byte', (t) => {
  t.is(staticTable.length, 61);
  for (const [position, entry] of staticTable.entries()) {
    const block = encodeStateless(entry);
    t.deepEqual(block, Buffer.of(0x80 | (position + 1)));
    t.deepEqual(decoderOf().decode(block), [...entry]);
  }
});
