// One call to an etcd that the test plays, frame by frame.

import test from 'ava';
import { grpcCode } from '../../grpc/codes.ts';
import { messagePrefix } from '../../grpc/message.ts';
import { StatusError } from '../../grpc/status.ts';
import { errorCode, frameFlag, frameType } from '../../http2/frame.ts';
import { clientWithRawServer, request as head, turns, until } from '../../http2/http2-fakes.ts';
import { rawCall } from './raw-call.ts';

const answerHead = [':status', '200', 'content-type', 'application/grpc'];
const framed = (text: string) => Buffer.concat([messagePrefix(text.length), Buffer.from(text)]);

async function setUp(windowBytes?: number) {
  const { connection, peer } = clientWithRawServer();
  peer.settings(...(windowBytes === undefined ? [] : [[4, windowBytes] as const]));
  await until(() => connection.isOpen, 'a greeting');
  const abort = new AbortController();
  const call = (text: string) =>
    rawCall((listener) => connection.open(head, [], listener), Buffer.from(text), abort.signal);
  return { connection, peer, abort, call };
}

test('raw call: one that was answered needs no reset', async (t) => {
  const { connection, peer, call } = await setUp();
  const answer = call('question');
  await until(() => peer.dataOf(1).length > 0, 'the request');
  peer.headers(1, answerHead);
  peer.send(frameType.data, 0, 1, framed('answer'));
  peer.headers(1, ['grpc-status', '0'], true);
  t.is((await answer)?.toString(), 'answer');
  await turns();
  t.deepEqual(peer.resetsOf(1), []);
  t.is(connection.streamCount, 0);
});

test('raw call: one that is answered before etcd has taken the request is reset', async (t) => {
  const { connection, peer, call } = await setUp(10);
  const answer = t.throwsAsync(call('longer than the window'), { instanceOf: StatusError });
  await until(() => peer.dataOf(1).length === 10, 'what the window takes');
  peer.headers(1, [...answerHead, 'grpc-status', '8', 'grpc-message', 'too much'], true);
  t.deepEqual([(await answer)?.code, (await answer)?.message], [grpcCode.resourceExhausted, 'too much']);
  await until(() => peer.resetsOf(1).length > 0, 'a reset');
  t.deepEqual(peer.resetsOf(1), [errorCode.cancel]);
  t.is(connection.streamCount, 0);
});

test('raw call: one that is aborted is reset, once', async (t) => {
  const { peer, abort, call } = await setUp();
  const answer = t.throwsAsync(call('question'), { name: 'AbortError' });
  await until(
    () => peer.of(frameType.data, 1).some(({ flags }) => (flags & frameFlag.endStream) > 0),
    'an end',
  );
  abort.abort();
  await answer;
  await until(() => peer.resetsOf(1).length > 0, 'a reset');
  await turns();
  t.deepEqual(peer.resetsOf(1), [errorCode.cancel]);
});

test('raw call: one that etcd has not looked at may be sent again, and only such a one', async (t) => {
  const { peer, call } = await setUp();
  const [unseen, seen] = [call('first'), call('second')];
  await until(() => peer.dataOf(3).length > 0, 'both requests');
  peer.reset(1, errorCode.refusedStream);
  t.is(await unseen, undefined);
  peer.headers(3, answerHead);
  peer.reset(3, errorCode.refusedStream);
  const error = await t.throwsAsync(seen, { instanceOf: StatusError });
  t.is(error?.code, grpcCode.unavailable);
});
