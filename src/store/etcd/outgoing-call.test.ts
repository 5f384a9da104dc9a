// What the end of a call means where gRPC has not said it.

import test from 'ava';
import { grpcCode } from '../../grpc/codes.ts';
import { errorCode } from '../../http2/frame.ts';
import { statusOfEnd, statusOfHttp } from './outgoing-call.ts';

test('outgoing call: answers that are not gRPC have a status too', (t) => {
  t.is(statusOfHttp([':status', '200']), undefined);
  t.is(statusOfHttp([':status', '503'])?.code, grpcCode.unavailable);
  t.is(statusOfHttp([':status', '404'])?.code, grpcCode.unimplemented);
  t.is(statusOfHttp([':status', '302'])?.code, grpcCode.unknown);
});

test('outgoing call: so has a stream that was reset, and a connection that was lost', (t) => {
  t.is(statusOfEnd(errorCode.refusedStream).code, grpcCode.unavailable);
  t.is(statusOfEnd(errorCode.cancel).code, grpcCode.canceled);
  t.is(statusOfEnd(errorCode.internalError).code, grpcCode.internal);
  t.is(statusOfEnd(undefined).code, grpcCode.unavailable);
});
