// Events that are kept for a while: each with its bytes as they stand in a WatchResponse, its keys and values being parts of
// them. So an event takes its size in memory and no more, wherever it came from: a request or a row of a driver may be a small
// part of a large allocation, which would be held as a whole.

import type { Event } from '../types.ts';
import { WireReader } from '../wire.ts';
import { readEvent } from './message.ts';
import { encodeEvent, type EncodedEvent } from './watch.ts';

/** By events that `frameEvents` has made. */
const frames = new WeakMap<Event, EncodedEvent>();

/** The same events in one allocation of their own. */
export function frameEvents(events: readonly Event[]): Event[] {
  const encoded = events.map(encodeEvent);
  const length = encoded.reduce((sum, bytes) => sum + bytes.length, 0);
  const all = Buffer.allocUnsafeSlow(length);
  let at = 0;
  return encoded.map((bytes) => {
    bytes.copy(all, at);
    const frame = all.subarray(at, (at += bytes.length));
    const event = decodeFrame(frame);
    frames.set(event, frame);
    return event;
  });
}

/** The event as it stands in an answer. */
export function frameOf(event: Event): EncodedEvent {
  return frames.get(event) ?? encodeEvent(event);
}

function decodeFrame(frame: EncodedEvent): Event {
  const reader = new WireReader(frame);
  reader.next();
  return reader.message(readEvent);
}
