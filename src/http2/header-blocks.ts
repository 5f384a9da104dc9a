// Header blocks as they come: in a HEADERS frame and the CONTINUATION frames after it (RFC 9113, 4.3 and 6.10).

import {
  ConnectionError,
  errorCode,
  frameFlag,
  frameSizeError,
  LimitError,
  protocolError,
  type Frame,
} from './frame.ts';
import { HeaderDecoder, HpackError, type HeaderFields } from './hpack.ts';

/** What an encoder of the other side may keep here: the size of RFC 9113, so that nothing has to be told. */
const tableBytes = 4_096;
/** Most bytes of a header list; Go's and Node's own limits are of this order. */
export const headerListBytesMax = 65_536;
/** A block comes in at most so many frames. */
const framesMax = 32;
const priorityBytes = 5;

/** Headers that have come whole. */
export interface Headers {
  readonly streamId: number;
  /** Undefined: more than `headerListBytesMax`. */
  readonly fields: HeaderFields | undefined;
  /** The other side has said all on this stream. */
  readonly isEnd: boolean;
}

interface Begun {
  readonly streamId: number;
  readonly isEnd: boolean;
  readonly parts: Buffer[];
  bytes: number;
}

/** The header blocks of a connection: each is decoded, wanted or not, since the next ones depend on it. */
export class HeaderBlocks {
  readonly #decoder = new HeaderDecoder({ tableBytesMax: tableBytes, listBytesMax: headerListBytesMax });
  #begun: Begun | undefined;

  /** The stream whose headers have not come whole: nothing else may come before they have. */
  get within(): number | undefined {
    return this.#begun?.streamId;
  }

  /** Takes HEADERS; undefined: CONTINUATION follows. @throws ConnectionError */
  begin({ streamId, flags, payload }: Frame): Headers | undefined {
    if (streamId === 0) throw protocolError('Expected HEADERS of a stream, got stream 0');
    let block = unpadded(payload, flags);
    if ((flags & frameFlag.priority) !== 0) {
      if (block.length < priorityBytes) throw frameSizeError('HEADERS with a priority', block.length);
      dependsOnOther(streamId, block);
      block = block.subarray(priorityBytes);
    }
    const isEnd = (flags & frameFlag.endStream) !== 0;
    if ((flags & frameFlag.endHeaders) !== 0) return { streamId, fields: this.#decode(block), isEnd };
    this.#begun = { streamId, isEnd, parts: [block], bytes: block.length };
    return undefined;
  }

  /** Takes CONTINUATION; undefined: more follows. @throws ConnectionError */
  goOn({ flags, payload }: Frame): Headers | undefined {
    const begun = this.#begun;
    if (begun === undefined) throw protocolError('Expected no CONTINUATION, got one');
    begun.parts.push(payload);
    begun.bytes += payload.length;
    if (begun.bytes > headerListBytesMax || begun.parts.length > framesMax)
      throw new LimitError('headers', 'Expected smaller headers');
    if ((flags & frameFlag.endHeaders) === 0) return undefined;
    this.#begun = undefined;
    const { streamId, isEnd } = begun;
    return { streamId, fields: this.#decode(Buffer.concat(begun.parts)), isEnd };
  }

  #decode(block: Buffer): HeaderFields | undefined {
    try {
      return this.#decoder.decode(block);
    } catch (error) {
      if (error instanceof HpackError) throw new ConnectionError(errorCode.compressionError, error.message);
      throw error;
    }
  }
}

/** The payload without its padding. @throws ConnectionError for more padding than there is payload. */
export function unpadded(payload: Buffer, flags: number): Buffer {
  if ((flags & frameFlag.padded) === 0) return payload;
  const padding = payload.length === 0 ? 0 : payload[0]!;
  if (padding >= payload.length) throw protocolError('Expected less padding than payload');
  return payload.subarray(1, payload.length - padding);
}

/** Looks at a PRIORITY frame, of which no use is made. @throws ConnectionError */
export function checkPriority({ streamId, payload }: Frame): void {
  if (streamId === 0) throw protocolError('Expected PRIORITY of a stream, got stream 0');
  if (payload.length !== priorityBytes) throw frameSizeError('PRIORITY', payload.length);
  dependsOnOther(streamId, payload);
}

/** `priority`: five bytes. @throws ConnectionError for a stream that depends on itself (RFC 7540, 5.3.1). */
function dependsOnOther(streamId: number, priority: Buffer): void {
  if ((priority.readUInt32BE(0) & 0x7fff_ffff) === streamId)
    throw protocolError(`Expected stream ${streamId} to depend on another one`);
}
