// The bytes of answers with events, put together once for all watches that get the same: the store hands the same batch to
// every watch that wants the same of it.

import { frameOf } from '../etcd/codec/framed-event.ts';
import { encodeWatchHead, joinWatchEvents, type EncodedEvent } from '../etcd/codec/watch.ts';
import type { ResponseHeader, WatchId } from '../etcd/types.ts';
import type { WatchBatch } from '../store/store.ts';

/** The latest answer made of a batch: the next watch mostly has the same ids, and always the same events. */
interface Answer {
  readonly template: ResponseHeader;
  readonly watchId: WatchId;
  readonly head: Buffer;
  readonly events: readonly EncodedEvent[];
  readonly message: Buffer;
}

const answers = new WeakMap<WatchBatch, Answer>();

/** The answer with the events of `batch`; not to be changed, since others get the same bytes. */
export function sharedAnswer(batch: WatchBatch, template: ResponseHeader, watchId: WatchId): Buffer {
  const before = answers.get(batch);
  const isSameHead = before?.template === template;
  if (before !== undefined && isSameHead && before.watchId === watchId) return before.message;
  const head =
    before !== undefined && isSameHead
      ? before.head
      : encodeWatchHead({ ...template, revision: batch.revision });
  const events = before?.events ?? batch.events.map(frameOf);
  const message = joinWatchEvents(head, watchId, events);
  answers.set(batch, { template, watchId, head, events, message });
  return message;
}
