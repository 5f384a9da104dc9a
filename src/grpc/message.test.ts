// Messages, statuses and deadlines of gRPC as they stand in HTTP/2.

import test from 'ava';
import fc from 'fast-check';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { grpcCode } from './codes.ts';
import { Deframer, messagePrefix } from './message.ts';
import { encodeTrailers, StatusError, statusIn } from './status.ts';
import { timeoutMs } from './timeout.ts';
import { HeaderDecoder } from '../http2/hpack.ts';

const framed = (message: Buffer) => Buffer.concat([messagePrefix(message.length), message]);

test('grpc message: messages come out as they went in, wherever the stream is cut', (t) => {
  const messages = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 });
  const cuts = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(messages, cuts, (sent, lengths) => {
      const bytes = Buffer.concat(sent.map((message) => framed(Buffer.from(message))));
      const deframer = new Deframer();
      const got: string[] = [];
      for (let at = 0, cut = 0; at < bytes.length; cut++) {
        const end = at + lengths[cut % lengths.length]!;
        deframer.push(bytes.subarray(at, end));
        at = end;
        for (let next = deframer.next(); next !== undefined; next = deframer.next())
          got.push(next.toString('hex'));
      }
      t.deepEqual(
        got,
        sent.map((message) => Buffer.from(message).toString('hex')),
      );
      t.false(deframer.isWithin);
    }),
  );
});

test('grpc message: one that comes byte by byte takes little more than its bytes', (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const length = 500_000;
  const message = Buffer.from(Array.from({ length }, (_, index) => index));
  const deframer = new Deframer();
  deframer.push(messagePrefix(length));
  collect();
  const before = process.memoryUsage();
  for (let at = 0; at < length; at++) deframer.push(Buffer.from([message[at]!]));
  collect();
  const after = process.memoryUsage();
  const grown = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers;
  t.true(grown < 5_000_000, `${grown} bytes`);
  t.true(deframer.next()?.equals(message));
});

test('grpc message: half a message is seen as such, a compressed one is refused', (t) => {
  const deframer = new Deframer();
  deframer.push(framed(Buffer.from('abc')).subarray(0, 6));
  t.is(deframer.next(), undefined);
  t.true(deframer.isWithin);
  const compressed = framed(Buffer.from('abc'));
  compressed[0] = 1;
  const other = new Deframer();
  other.push(compressed);
  t.throws(() => other.next(), { instanceOf: StatusError });
});

test('grpc message: one that is too large is refused before it has come', (t) => {
  const deframer = new Deframer(10);
  deframer.push(framed(Buffer.alloc(10)));
  t.is(deframer.next()?.length, 10);
  deframer.push(messagePrefix(11));
  const error = t.throws(() => deframer.next(), { instanceOf: StatusError });
  t.deepEqual(
    [error?.code, error?.message],
    [grpcCode.resourceExhausted, 'grpc: received message larger than max (11 vs. 10)'],
  );
});

test('grpc message: statuses are read from headers, and texts are decoded', (t) => {
  t.deepEqual(statusIn(['grpc-status', '0']), { code: 0, details: '' });
  t.deepEqual(statusIn(['grpc-status', '5', 'grpc-message', 'caf%C3%A9 100%25']), {
    code: grpcCode.notFound,
    details: 'café 100%',
  });
  t.deepEqual(statusIn(['grpc-status', '5', 'grpc-message', '100% %ff']), {
    code: grpcCode.notFound,
    details: '100% %ff',
  });
  t.deepEqual(statusIn(['grpc-status', 'x']), { code: grpcCode.unknown, details: '' });
  t.is(statusIn(['content-type', 'application/grpc']), undefined);
});

test('grpc message: what is written as a status is read as the same', (t) => {
  for (const details of ['', 'etcdserver: key not found', '100 % café\n\u{1f600}', 'a%20b']) {
    for (const isWhole of [true, false]) {
      const decoder = new HeaderDecoder({ tableBytesMax: 4096, listBytesMax: 65_536 });
      const fields = decoder.decode(encodeTrailers({ code: grpcCode.notFound, details }, isWhole))!;
      t.deepEqual(statusIn(fields), { code: grpcCode.notFound, details });
      t.is(fields[0] === ':status', isWhole);
      t.true(fields.every((field) => /^[ -~]*$/u.test(field)));
    }
  }
});

test('grpc message: deadlines are in any of six units, with at most eight digits', (t) => {
  t.is(timeoutMs('2H'), 7_200_000);
  t.is(timeoutMs('3M'), 180_000);
  t.is(timeoutMs('4S'), 4_000);
  t.is(timeoutMs('5m'), 5);
  t.is(timeoutMs('6000u'), 6);
  t.is(timeoutMs('7000000n'), 7);
  for (const bad of ['', 'S', '1', '1s', '-1S', '1.5S', '123456789m', '1 S'])
    t.is(timeoutMs(bad), undefined, bad);
});
