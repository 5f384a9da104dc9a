// One request and its answer. Used by connection.ts.

import { grpcCode } from '../../grpc/codes.ts';
import { StatusError } from '../../grpc/status.ts';
import { OutgoingCall, type OpenStream } from './outgoing-call.ts';

/**
 * Sends `request` over a stream; undefined: etcd has refused it before it did anything, so that it may be sent again.
 * @throws StatusError as etcd answered; the signal's reason when aborted.
 */
export function rawCall(open: OpenStream, request: Buffer, signal: AbortSignal): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      reject(signal.reason as Error);
      call.cancel();
    };
    const settle = () => {
      const { status } = call;
      if (status === undefined) return;
      signal.removeEventListener('abort', abort);
      if (call.isRefused) return resolve(undefined);
      if (status.code !== grpcCode.ok) return reject(new StatusError(status.code, status.details));
      try {
        const message = call.read();
        if (message !== undefined && !call.isWithin) resolve(message);
        else reject(new StatusError(grpcCode.internal, 'switchyard: etcd did not send one whole message'));
      } catch (error) {
        reject(error as Error);
      }
    };
    const call = new OutgoingCall(open, settle);
    signal.addEventListener('abort', abort, { once: true });
    call.write(request, true);
  });
}
