// What a frame must be like whatever goes on (RFC 9113, 6): of a stream or of the connection, and as long as its type has it. Used
// by connection.ts, which is left with what frames mean.

import { frameFlag, frameSizeError, frameType, protocolError, type Frame } from './frame.ts';

/** Bytes of RST_STREAM and WINDOW_UPDATE: one number. */
const numberBytes = 4;
const pingBytes = 8;
const goawayBytesMin = 8;

/** Looks at a frame of a type that is in `frameType`, HEADERS and PRIORITY aside. @throws ConnectionError */
export function checkFrame({ type, flags, streamId, payload: { length } }: Frame): void {
  switch (type) {
    case frameType.rstStream:
      if (length !== numberBytes) throw frameSizeError('RST_STREAM', length);
      return;
    case frameType.windowUpdate:
      if (length !== numberBytes) throw frameSizeError('WINDOW_UPDATE', length);
      return;
    case frameType.settings:
      ofConnection(streamId, 'SETTINGS');
      if ((flags & frameFlag.ack) !== 0 && length > 0)
        throw frameSizeError('an acknowledgement of SETTINGS', length);
      return;
    case frameType.ping:
      ofConnection(streamId, 'PING');
      if (length !== pingBytes) throw frameSizeError('PING', length);
      return;
    case frameType.goaway:
      ofConnection(streamId, 'GOAWAY');
      if (length < goawayBytesMin) throw frameSizeError('GOAWAY', length);
      return;
    case frameType.pushPromise:
      throw protocolError('Expected no PUSH_PROMISE, got one');
    default:
  }
}

function ofConnection(streamId: number, what: string): void {
  if (streamId !== 0) throw protocolError(`Expected ${what} of the connection, got stream ${streamId}`);
}
