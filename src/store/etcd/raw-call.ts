// One request and its answer. Used by connection.ts.

import { constants, type ClientHttp2Stream } from 'node:http2';
import { grpcCode } from '../../etcd/errors.ts';
import { RawStatusError } from '../store.ts';
import { Deframer, framed, statusIn, statusOfHttp, statusOfReset, type GrpcStatus } from './grpc-message.ts';

/** What a call without a status ended with. `session`: as it was before; a stream that is over does not tell it. */
export function brokenStatus(stream: ClientHttp2Stream, session: ClientHttp2Stream['session']): GrpcStatus {
  if (session === undefined || session.destroyed || session.closed)
    return { code: grpcCode.unavailable, details: 'switchyard: the connection to etcd was lost' };
  return statusOfReset(stream.rstCode ?? constants.NGHTTP2_NO_ERROR);
}

/**
 * Sends `request` over a stream just opened; undefined: etcd has refused it before it did anything, so that it may be sent again.
 * @throws RawStatusError as etcd answered; the signal's reason when aborted.
 */
export function rawCall(
  stream: ClientHttp2Stream,
  request: Buffer,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const { session } = stream;
    const answer = new Deframer();
    let status: GrpcStatus | undefined;
    let answering = false;
    let settled = false;
    // A connection that breaks gives its own reason to all calls, those that have run too.
    const isRefused = () =>
      !answering && session?.destroyed === false && stream.rstCode === constants.NGHTTP2_REFUSED_STREAM;
    const abort = () => {
      reject(signal.reason as Error);
      stream.close(constants.NGHTTP2_CANCEL);
    };
    const settle = () => {
      if (settled) return;
      settled = true;
      signal.removeEventListener('abort', abort);
      if (isRefused()) return resolve(undefined);
      const { code, details } = status ?? brokenStatus(stream, session);
      if (code !== 0) return reject(new RawStatusError(code, details));
      try {
        const message = answer.next();
        if (message !== undefined && !answer.isWithin) resolve(message);
        else reject(new RawStatusError(grpcCode.internal, 'switchyard: etcd did not send one whole message'));
      } catch (error) {
        reject(error as Error);
      }
    };
    stream.on('response', (headers) => {
      answering = true;
      status = statusIn(headers) ?? statusOfHttp(headers);
    });
    stream.on('trailers', (headers) => (status ??= statusIn(headers)));
    stream.on('data', (chunk: Buffer) => answer.push(chunk));
    stream.on('end', () => {
      if (status !== undefined) settle();
    });
    // The end that follows tells the same; without a listener the event would end the process.
    stream.on('error', () => undefined);
    stream.on('close', settle);
    signal.addEventListener('abort', abort, { once: true });
    stream.end(framed(request));
  });
}
