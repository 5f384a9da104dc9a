// When an answer with many events is cut, and where: as etcd 3.6 does it (`api/v3rpc/watch.go`), so that a client gets the
// same pieces.

import { encodeWatchResponse, type EncodedEvent, type WatchResponseParts } from '../etcd/codec/watch.ts';
import { requestBytesMax } from './validate.ts';

/** A message of this size is cut; etcd: `--max-request-bytes` and what it allows gRPC on top. */
export const answerBytesMax = requestBytesMax + 512 * 1024;

/** The messages of one answer: one, or several below `answerBytesMax` each, single events aside. */
export function fragments(
  answer: Omit<WatchResponseParts, 'events' | 'fragment'>,
  events: readonly EncodedEvent[],
): Buffer[] {
  const whole = encodeWatchResponse(answer).length + sizeOf(events);
  if (whole < answerBytesMax || events.length < 2) return [encodeWatchResponse({ ...answer, events })];
  const frameBytes = encodeWatchResponse({ ...answer, fragment: true }).length;
  const pieces: (readonly EncodedEvent[])[] = [];
  let start = 0;
  let bytes = frameBytes;
  for (const [index, event] of events.entries()) {
    if (index > start && bytes + event.length >= answerBytesMax) {
      pieces.push(events.slice(start, index));
      start = index;
      bytes = frameBytes;
    }
    bytes += event.length;
  }
  pieces.push(events.slice(start));
  return pieces.map((piece, index) =>
    encodeWatchResponse({ ...answer, events: piece, fragment: index < pieces.length - 1 }),
  );
}

function sizeOf(events: readonly EncodedEvent[]): number {
  return events.reduce((sum, event) => sum + event.length, 0);
}
