// Messages and statuses of gRPC as they come over HTTP/2, however they are cut.

import test from 'ava';
import fc from 'fast-check';
import { constants, type IncomingHttpHeaders } from 'node:http2';
import { grpcCode } from '../../etcd/errors.ts';
import { RawStatusError } from '../store.ts';
import { Deframer, framed, statusIn, statusOfHttp, statusOfReset } from './grpc-message.ts';

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

test('grpc message: half a message is seen as such, a compressed one is refused', (t) => {
  const deframer = new Deframer();
  deframer.push(framed(Buffer.from('abc')).subarray(0, 6));
  t.is(deframer.next(), undefined);
  t.true(deframer.isWithin);
  const compressed = framed(Buffer.from('abc'));
  compressed[0] = 1;
  const other = new Deframer();
  other.push(compressed);
  t.throws(() => other.next(), { instanceOf: RawStatusError });
});

test('grpc message: statuses are read from headers, and texts are decoded', (t) => {
  t.deepEqual(statusIn({ 'grpc-status': '0' }), { code: 0, details: '' });
  t.deepEqual(statusIn({ 'grpc-status': '5', 'grpc-message': 'caf%C3%A9 100%25' }), {
    code: grpcCode.notFound,
    details: 'café 100%',
  });
  t.deepEqual(statusIn({ 'grpc-status': '5', 'grpc-message': '100% %ff' }), {
    code: grpcCode.notFound,
    details: '100% %ff',
  });
  t.deepEqual(statusIn({ 'grpc-status': 'x' }), { code: grpcCode.unknown, details: '' });
  t.is(statusIn({}), undefined);
});

const http = (status: number) => ({ ':status': status }) as unknown as IncomingHttpHeaders;

test('grpc message: answers that are not gRPC have a status too', (t) => {
  t.is(statusOfHttp(http(200)), undefined);
  t.is(statusOfHttp(http(503))?.code, grpcCode.unavailable);
  t.is(statusOfHttp(http(404))?.code, grpcCode.unimplemented);
  t.is(statusOfHttp(http(302))?.code, grpcCode.unknown);
  t.is(statusOfReset(constants.NGHTTP2_REFUSED_STREAM).code, grpcCode.unavailable);
  t.is(statusOfReset(constants.NGHTTP2_CANCEL).code, grpcCode.canceled);
  t.is(statusOfReset(constants.NGHTTP2_INTERNAL_ERROR).code, grpcCode.internal);
});
