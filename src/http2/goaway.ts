// GOAWAY (RFC 9113, 6.8): how a connection is told to end.

import { errorCode, uint32, windowBytesMax } from './frame.ts';

export interface Goaway {
  /** Streams of the receiver above were not looked at, and never will be. */
  readonly lastId: number;
  /** One of `errorCode`, or unknown. */
  readonly code: number;
  /** For people. */
  readonly text: string;
}

/** The payload of a frame. */
export function encodeGoaway({ lastId, code, text }: Goaway): Buffer {
  return Buffer.concat([uint32(lastId), uint32(code), Buffer.from(text)]);
}

/** `payload`: at least eight bytes. */
export function decodeGoaway(payload: Buffer): Goaway {
  return {
    lastId: payload.readUInt32BE(0) & windowBytesMax,
    code: payload.readUInt32BE(4),
    text: payload.toString('latin1', 8),
  };
}

/** What went wrong at the other side; undefined: nothing. */
export function goawayError({ code, text }: Goaway): Error | undefined {
  return code === errorCode.noError ? undefined : new Error(`GOAWAY with code ${code}: ${text}`);
}
