// Frames of HTTP/2 (RFC 9113, 4 and 6): their numbers, their heads, and finding them in the chunks of a socket. Knows nothing of
// what frames mean for each other. Used by connection.ts, stream.ts and outbox.ts.

/** RFC 9113, 6. */
export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** RFC 9113, 6; which of them a frame may have depends on its type. */
export const frameFlag = {
  endStream: 0x1,
  ack: 0x1,
  endHeaders: 0x4,
  padded: 0x8,
  priority: 0x20,
} as const;

/** RFC 9113, 7. */
export const errorCode = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  settingsTimeout: 4,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  connectError: 10,
  enhanceYourCalm: 11,
  inadequateSecurity: 12,
  http11Required: 13,
} as const;

/** Bytes before the payload: length in three, type, flags, stream in four. */
export const frameHeadBytes = 9;
/** The most that a payload has unless its receiver permits more, which we do not. */
export const payloadBytesMax = 16_384;
/** Most of a flow-control window, and of a step that widens it. */
export const windowBytesMax = 2 ** 31 - 1;
/** What a client sends first. */
export const clientPreface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** The whole connection cannot go on: it ends with a GOAWAY of this code. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
  /** One of `errorCode`. */
  readonly code: number;

  constructor(code: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Of a limit that the other side has passed. */
export type ConnectionLimit = 'greeting' | 'headers' | 'unread';

const limitCodes: Readonly<Record<ConnectionLimit, number>> = {
  greeting: errorCode.settingsTimeout,
  headers: errorCode.enhanceYourCalm,
  unread: errorCode.enhanceYourCalm,
};

/** The other side has passed a limit: codes alone do not tell which. */
export class LimitError extends ConnectionError {
  readonly limit: ConnectionLimit;

  constructor(limit: ConnectionLimit, message: string) {
    super(limitCodes[limit], message);
    this.limit = limit;
  }
}

/** `cause`, where it is one; else that something here went wrong. */
export function connectionErrorOf(cause: unknown): ConnectionError {
  if (cause instanceof ConnectionError) return cause;
  return new ConnectionError(errorCode.internalError, 'Internal error', { cause });
}

export function protocolError(message: string): ConnectionError {
  return new ConnectionError(errorCode.protocolError, message);
}

/** A window was widened to more than there can be. */
export function tooWide(): ConnectionError {
  return new ConnectionError(
    errorCode.flowControlError,
    `Expected a window of at most ${windowBytesMax} bytes`,
  );
}

export function frameSizeError(what: string, length: number): ConnectionError {
  return new ConnectionError(
    errorCode.frameSizeError,
    `Expected ${what} of its own size, got ${length} bytes`,
  );
}

/** Writes the head of a frame; gives where its payload begins. */
export function writeFrameHead(
  into: Buffer,
  at: number,
  { length, type, flags, streamId }: Omit<Frame, 'payload'> & { readonly length: number },
): number {
  into[at] = length >>> 16;
  into[at + 1] = length >>> 8;
  into[at + 2] = length;
  into[at + 3] = type;
  into[at + 4] = flags;
  into[at + 5] = streamId >>> 24;
  into[at + 6] = streamId >>> 16;
  into[at + 7] = streamId >>> 8;
  into[at + 8] = streamId;
  return at + frameHeadBytes;
}

/** A payload of one number. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}

/** One frame as it came. */
export interface Frame {
  /** Of `frameType`, or unknown. */
  readonly type: number;
  readonly flags: number;
  /** 0: the connection itself. */
  readonly streamId: number;
  /** A view of what came over the socket. */
  readonly payload: Buffer;
}

const nothing = Buffer.alloc(0);

/** How a server begins that speaks HTTP/1 only. */
const http1 = 'HTTP/1.';

/** Finds frames in chunks, which may end anywhere. */
export class FrameReader {
  /** Not yet given as frames. */
  #bytes: Buffer = nothing;
  #at = 0;
  /** What comes before all frames, as far as it has not. */
  #preface: Buffer | undefined;

  constructor(preface?: Buffer) {
    this.#preface = preface;
  }

  push(chunk: Buffer): void {
    this.#bytes =
      this.#at === this.#bytes.length ? chunk : Buffer.concat([this.#bytes.subarray(this.#at), chunk]);
    this.#at = 0;
  }

  /** The next whole frame; undefined: not yet. @throws ConnectionError for one that is too long, and another preface. */
  next(): Frame | undefined {
    if (this.#preface !== undefined && !this.#takePreface(this.#preface)) return undefined;
    const bytes = this.#bytes;
    const at = this.#at;
    if (bytes.length - at < frameHeadBytes) return undefined;
    const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
    if (length > payloadBytesMax) {
      if (bytes.toString('latin1', at, at + http1.length) === http1)
        throw protocolError('Expected HTTP/2, got HTTP/1');
      throw new ConnectionError(
        errorCode.frameSizeError,
        `Expected at most ${payloadBytesMax} bytes of a frame, got ${length}`,
      );
    }
    const begin = at + frameHeadBytes;
    const end = begin + length;
    if (bytes.length < end) return undefined;
    this.#at = end;
    return {
      type: bytes[at + 3]!,
      flags: bytes[at + 4]!,
      streamId: bytes.readUInt32BE(at + 5) & 0x7fff_ffff,
      payload: bytes.subarray(begin, end),
    };
  }

  /** False: it has not come whole. */
  #takePreface(expected: Buffer): boolean {
    const end = this.#at + expected.length;
    if (this.#bytes.length < end) return false;
    if (!this.#bytes.subarray(this.#at, end).equals(expected))
      throw protocolError('Expected the preface of HTTP/2');
    this.#at = end;
    this.#preface = undefined;
    return true;
  }
}
