// Every decoder under bytes that nobody would send: it answers or says that they are malformed, at once, and makes no more of
// them than they are worth.

import test from 'ava';
import fc from 'fast-check';
import { EtcdError } from '../errors.ts';
import { MalformedMessageError } from '../wire.ts';
import * as auth from './auth.ts';
import * as keys from './keys.ts';
import * as kv from './kv.ts';
import * as lease from './lease.ts';
import * as maintenance from './maintenance.ts';
import * as txn from './txn.ts';
import * as watch from './watch.ts';

type Decoder = (bytes: Buffer) => unknown;

const modules = { auth, keys, kv, lease, maintenance, txn, watch };
/** Each exported function that takes bytes to pieces, by its name. */
const decoders = new Map<string, Decoder>(
  Object.values(modules).flatMap((module) =>
    Object.entries<unknown>({ ...module }).flatMap(([name, value]) =>
      /^decode|Of$/u.test(name) && typeof value === 'function' ? [[name, value as Decoder] as const] : [],
    ),
  ),
);

/** Seed and number of runs of a longer search: `FUZZ_RUNS=100000 npx ava src/etcd/codec/fuzz.test.ts`. */
const numRuns = Number(process.env['FUZZ_RUNS'] ?? 400);

const varint = (value: bigint) => {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
};
const field = (number: number, wire: number, body: Buffer) =>
  Buffer.concat([varint(BigInt(number) * 8n + BigInt(wire)), body]);
const withLength = (body: Buffer) => Buffer.concat([varint(BigInt(body.length)), body]);

const raw = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array));
/** Those of the API, and some that nobody knows. */
const fieldNumber = fc.oneof(
  { weight: 12, arbitrary: fc.integer({ min: 1, max: 14 }) },
  fc.constantFrom(0, 64, 15, 16, 2 ** 29 - 1, 2 ** 29),
);
const number = fc.oneof(
  fc.bigInt({ min: 0n, max: 4n }),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
);

/** Fields within fields, most of them well formed. */
const { message } = fc.letrec<{ message: Buffer; field: Buffer }>((tie) => ({
  message: fc.array(tie('field'), { maxLength: 6 }).map((fields) => Buffer.concat(fields)),
  field: fc
    .tuple(
      fieldNumber,
      fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        number.map((value) => [0, varint(value)] as const),
        raw.map((bytes) => [2, withLength(bytes)] as const),
        tie('message').map((bytes) => [2, withLength(bytes)] as const),
        fc.constantFrom([1, Buffer.alloc(8, 1)] as const, [5, Buffer.alloc(4, 1)] as const),
        // A length that is not there, and kinds of fields that are none.
        fc.constantFrom(
          [2, varint(2n ** 31n)] as const,
          [3, Buffer.alloc(0)] as const,
          [7, Buffer.alloc(1)] as const,
        ),
      ),
    )
    .map(([name, [wire, body]]) => field(name, wire, body)),
}));

/** Bytes of a message of which some have become others, or were cut off or doubled. */
const mutated = fc
  .tuple(
    message,
    fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
    fc.constantFrom('cut', 'double', 'keep'),
  )
  .map(([bytes, changes, how]) => {
    const copy = Buffer.from(bytes);
    for (const [at, value] of changes) if (copy.length > 0) copy[at % copy.length] = value;
    if (how === 'cut') return copy.subarray(0, changes[0]![0] % (copy.length + 1));
    return how === 'double' ? Buffer.concat([copy, copy]) : copy;
  });

const anyBytes = fc.oneof(raw, message, mutated);

/** How many values there are in an answer, in all. */
function weightOf(value: unknown): number {
  if (typeof value !== 'object' || value === null || Buffer.isBuffer(value)) return 1;
  return Object.values(value).reduce<number>((sum, part) => sum + weightOf(part), 1);
}

/** What a decoder makes of the bytes; undefined: it has refused them. */
function outcome(decode: Decoder, bytes: Buffer): unknown {
  try {
    return decode(bytes);
  } catch (error) {
    if (error instanceof MalformedMessageError || error instanceof EtcdError) return undefined;
    throw error;
  }
}

test('fuzz: every decoder is here', (t) => {
  t.true(decoders.size >= 25, [...decoders.keys()].join(', '));
});

for (const [name, decode] of decoders) {
  test(`fuzz: ${name} refuses or answers, whatever the bytes`, (t) => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        const before = Buffer.from(bytes);
        // An empty message is two bytes, and at most some twenty values.
        const weight = weightOf(outcome(decode, bytes));
        if (weight > 40 + bytes.length * 20) throw new Error(`${weight} values of ${bytes.length} bytes`);
        if (!before.equals(bytes)) throw new Error('Expected the bytes to be left alone');
      }),
      { numRuns },
    );
    t.pass();
  });
}

const largestBytes = 8 * 1024 * 1024;

/** The smallest of what may come many times, as many times as a request has room for. */
const crowds: readonly (readonly [what: string, decode: Decoder, bytes: Buffer])[] = [1, 2, 3].flatMap(
  (number_) => {
    const many = Buffer.alloc(largestBytes - 16, field(number_, 2, withLength(Buffer.alloc(0))));
    const nested = field(2, 2, withLength(field(4, 2, withLength(many))));
    return [txn.decodeTxnRequest, keys.txnKeysOf].flatMap((decode) => [
      [`field ${number_} of a txn, ${decode.name}`, decode, many] as const,
      [`field ${number_} of a nested txn, ${decode.name}`, decode, nested] as const,
    ]);
  },
);

for (const [what, decode, bytes] of crowds) {
  test(`fuzz: a request full of ${what}`, (t) => {
    const before = process.memoryUsage().heapUsed;
    t.throws(() => decode(bytes), { instanceOf: EtcdError, message: /too many operations/ });
    const grown = process.memoryUsage().heapUsed - before;
    t.true(grown < 100 * 1024 * 1024, `${grown} bytes`);
  });
}

test('fuzz: a request full of filters', (t) => {
  const packed = field(5, 2, withLength(Buffer.alloc(largestBytes - 16)));
  const request = watch.decodeWatchRequest(field(1, 2, withLength(packed)));
  t.like(request, { type: 'create', request: { filters: ['noput'] } });
});

test('fuzz: txns within txns, far deeper than anybody nests them', (t) => {
  let bytes: Buffer = Buffer.alloc(0);
  for (let depth = 0; depth < 5_000; depth++) bytes = field(2, 2, withLength(field(4, 2, withLength(bytes))));
  for (const decode of [txn.decodeTxnRequest, keys.txnKeysOf])
    t.throws(() => decode(bytes), { instanceOf: EtcdError, message: /too many operations/ });
});
