// KV.RangeStream: a range as a stream of chunks, for lists that nobody wants to hold in memory. Used by kv.ts. An etcd gets
// the request as it is, and answers Unimplemented when it is older than 3.7; a client that gets Unimplemented asks for
// pages instead, for all its types, for some minutes.

import { decodeRangeRequest, encodeRangeStreamResponse } from '../etcd/codec/kv.ts';
import { EtcdError } from '../etcd/errors.ts';
import { keyRange } from '../etcd/range.ts';
import type { RangeChunk } from '../etcd/types.ts';
import type { MessageStream, ServerStreamHandler } from './call.ts';
import type { ReadPace } from './read-pace.ts';
import { passServerStream, type ServiceOptions } from './service.ts';
import { checkRange, checkRangeStream } from './validate.ts';

/** The handler over the stores of `router`. */
export function createRangeStream({ router }: Pick<ServiceOptions, 'router'>): ServerStreamHandler {
  return async (request, stream, context) => {
    const decoded = decodeRangeRequest(request);
    checkRange(decoded);
    const store = await router.storeFor(keyRange(decoded.key, decoded.rangeEnd), context.signal);
    context.store = store;
    if (store.passthrough !== undefined) return passServerStream(store.passthrough, request, stream, context);
    checkRangeStream(decoded);
    if (store.rangeStream === undefined) {
      const message = `switchyard: KV.RangeStream is not implemented for store ${store.name}`;
      throw new EtcdError('unimplemented', { message });
    }
    const pace = context.reading('lists', store);
    const chunks = store.rangeStream(decoded, context.signal)[Symbol.asyncIterator]();
    try {
      // The next chunk is read when the client has taken enough of those before, of all its streams.
      while (await passChunk(chunks, stream, { pace, signal: context.signal }));
    } finally {
      await chunks.return?.();
    }
  };
}

/** False: there are no more. */
async function passChunk(
  chunks: AsyncIterator<RangeChunk>,
  stream: MessageStream,
  { pace, signal }: { readonly pace: ReadPace; readonly signal: AbortSignal },
): Promise<boolean> {
  await pace.begin(signal);
  let bytes = 0;
  let taken: Promise<void>;
  try {
    const { done, value } = await chunks.next();
    if (done === true) return false;
    const message = encodeRangeStreamResponse(value);
    bytes = message.length;
    taken = stream.write(message);
  } finally {
    pace.done(bytes);
  }
  await taken;
  return true;
}
