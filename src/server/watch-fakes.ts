// What the tests of watch streams share: the requests as bytes, the answers decoded, and an etcd that is only its watch
// protocol.

import {
  decodeWatchRequest,
  decodeWatchResponse,
  encodeWatchRequest,
  encodeWatchResponse,
  type WatchResponse,
} from '../etcd/codec/watch.ts';
import { EtcdError } from '../etcd/errors.ts';
import { watchRequest } from '../etcd/requests.ts';
import type { WatchCreateRequest } from '../etcd/types.ts';
import type { Passthrough, RawStream } from '../store/store.ts';
import type { TestStream } from './server-fakes.ts';

/** A create request for one key, `more` aside. */
export function create(key: string, more: Partial<WatchCreateRequest> = {}): Buffer {
  return encodeWatchRequest({ type: 'create', request: watchRequest(Buffer.from(key), more) });
}
export const cancel = (watchId: bigint) => encodeWatchRequest({ type: 'cancel', watchId });
export const progress = encodeWatchRequest({ type: 'progress' });
/** The stream's next answer. */
export const next = async (stream: TestStream): Promise<WatchResponse> =>
  decodeWatchResponse(await stream.next());

/** An etcd that assigns ids from 0, confirms creates and cancels, and answers progress for all; one that has half-closed too. */
export class FakeEtcd implements Passthrough {
  revision = 100n;
  /** Ends every stream. */
  readonly failure = Promise.withResolvers<never>();
  unary(): Promise<Buffer> {
    return Promise.reject(new EtcdError('unimplemented'));
  }
  stream(): RawStream {
    const { failure } = this;
    const queue: Buffer[] = [];
    let wake = Promise.withResolvers<void>();
    let over = false;
    let isEnded = false;
    let nextId = 0n;
    const say = (parts: Partial<Parameters<typeof encodeWatchResponse>[0]> & { watchId: bigint }) => {
      const header = { clusterId: 1n, memberId: 2n, revision: this.revision, raftTerm: 3n };
      queue.push(encodeWatchResponse({ header, ...parts }));
      wake.resolve();
    };
    const cancelStream = () => {
      over = true;
      wake.resolve();
    };
    return {
      write: (message) => {
        if (isEnded) return Promise.reject(new Error('write after end'));
        const request = decodeWatchRequest(message);
        if (request?.type === 'create')
          say({
            created: true,
            watchId: request.request.watchId === 0n ? nextId++ : request.request.watchId,
          });
        else if (request?.type === 'cancel') say({ canceled: true, watchId: request.watchId });
        else say({ watchId: -1n });
        return Promise.resolve();
      },
      end: () => void (isEnded = true),
      cancel: cancelStream,
      async *[Symbol.asyncIterator]() {
        while (!over) {
          const message = queue.shift();
          if (message !== undefined) yield message;
          else {
            await Promise.race([wake.promise, failure.promise]);
            wake = Promise.withResolvers();
          }
        }
      },
    };
  }
}
