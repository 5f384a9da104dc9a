// Lines of a backup: what is written is read again, whatever bytes it has, and what is wrong is told.

import test from 'ava';
import fc from 'fast-check';
import { backupFormat, decodeLine, encodeLine, type Line } from './format.ts';

const bytes = (minLength: number) =>
  fc.uint8Array({ minLength, maxLength: 64 }).map((some) => Buffer.from(some));
const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 64 }).map((some) => Buffer.from(some));
const revision = fc.bigInt({ min: 1n, max: 2n ** 63n - 1n });
const lease = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const count = fc.nat({ max: Number.MAX_SAFE_INTEGER });

const lines: fc.Arbitrary<Line> = fc.oneof(
  fc
    .record({
      key: fc.oneof(bytes(1), text),
      value: fc.oneof(bytes(0), text),
      revisions: fc.tuple(revision, revision),
      version: revision,
      lease,
    })
    .map(({ revisions: [a, b], ...pair }) => ({
      type: 'pair' as const,
      pair: { ...pair, createRevision: a < b ? a : b, modRevision: a < b ? b : a },
    })),
  fc.record({
    type: fc.constant('store'),
    store: fc.string(),
    engine: fc.string(),
    revision,
  }),
  fc.record({ type: fc.constant('lease'), id: lease, grantedTtlSeconds: count, ttlSeconds: count }),
  fc.record({ type: fc.constant('storeEnd'), store: fc.string(), pairs: count }),
  fc.record({ type: fc.constant('end'), pairs: count, sha256: fc.string() }),
  fc.record({
    type: fc.constant('header'),
    format: fc.constant(backupFormat),
    id: fc.string(),
    createdAt: fc.string(),
    version: fc.string(),
    keyPrefix: fc.string(),
    scope: fc.record({ types: fc.array(fc.string()) }, { requiredKeys: [] }),
  }),
);

test('a line is read as it was written, and is one line', (t) => {
  fc.assert(
    fc.property(lines, (line) => {
      const written = encodeLine(line);
      t.is(written.indexOf('\n'), written.length - 1);
      t.deepEqual(decodeLine(written.slice(0, -1)), line);
    }),
  );
  t.pass();
});

test('text stands as text, other bytes as base64', (t) => {
  const pair = {
    key: Buffer.from('/registry/pods/a'),
    value: Buffer.from([0xff, 0x00]),
    createRevision: 2n,
    modRevision: 3n,
    version: 2n,
    lease: 0n,
  };
  t.is(
    encodeLine({ type: 'pair', pair }),
    '{"key":"/registry/pods/a","create":"2","mod":"3","version":"2","value64":"/wA="}\n',
  );
});

const wrong: readonly (readonly [line: string, says: RegExp])[] = [
  [
    '{"switchyardBackup":2,"version":"9.0.0"}',
    /Expected a backup of format 1 or older, got format 2, written by switchyard 9\.0\.0/u,
  ],
  ['{"switchyardBackup":1,"id":5}', /Expected a text in id, got number/u],
  ['nonsense', /Expected a line of JSON, got something else/u],
  ['[1]', /Expected a JSON object/u],
  ['{"other":1}', /Expected a line of a backup, got an object with none of its fields/u],
  ['{"key":"a","create":"2","mod":"1","version":"1","value":""}', /Expected 1 <= create <= mod/u],
  [
    '{"key":"a","create":"1","mod":1,"version":"1","value":""}',
    /Expected a decimal number as a text in mod, got number/u,
  ],
  [
    '{"key":"a","create":"1","mod":"9999999999999999999","version":"1","value":""}',
    /a number of 63 bits in mod/u,
  ],
  [
    '{"key":"a","create":"1","mod":"1","version":"1","value64":"/w"}',
    /Expected base64 in value64, got another text/u,
  ],
  ['{"key":"a","create":"1","mod":"1","version":"1"}', /Expected a text in value64, got none/u],
  ['{"store":"a","engine":"etcd"}', /Expected a decimal number as a text in revision, got none/u],
];

for (const [line, says] of wrong) {
  test(`a line that is wrong: ${line}`, (t) => {
    t.throws(() => decodeLine(line), { message: says });
  });
}
