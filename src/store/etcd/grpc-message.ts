// gRPC as it stands in HTTP/2 (PROTOCOL-HTTP2.md of grpc): messages with a prefix of five bytes, statuses in headers and trailers.
// Used by raw-call.ts and raw-stream.ts; knows nothing of connections.

import { constants, type IncomingHttpHeaders } from 'node:http2';
import { grpcCode } from '../../etcd/errors.ts';
import { RawStatusError } from '../store.ts';

/** A flag byte (1: compressed) and the length in four. */
const prefixBytes = 5;

/** The message as it is sent. */
export function framed(message: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(prefixBytes + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  message.copy(frame, prefixBytes);
  return frame;
}

/** Finds the messages in the chunks of a stream. Messages may be views of chunks. */
export class Deframer {
  /** Not yet read; what belongs together is joined only once it is whole. */
  #chunks: Buffer[] = [];
  #bytes = 0;

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
  }

  /** True when bytes are left that make no whole message. */
  get isWithin(): boolean {
    return this.#bytes > 0;
  }

  /** The next whole message. @throws RawStatusError for one that is compressed: nobody asked for that. */
  next(): Buffer | undefined {
    if (this.#bytes < prefixBytes) return undefined;
    if (this.#chunks[0]!.length < prefixBytes) this.#join();
    const first = this.#chunks[0]!;
    if (first[0] !== 0)
      throw new RawStatusError(grpcCode.internal, 'switchyard: etcd sent a compressed message');
    const end = prefixBytes + first.readUInt32BE(1);
    if (this.#bytes < end) return undefined;
    if (first.length < end) this.#join();
    const whole = this.#chunks[0]!;
    if (whole.length === end) this.#chunks.shift();
    else this.#chunks[0] = whole.subarray(end);
    this.#bytes -= end;
    return whole.subarray(prefixBytes, end);
  }

  #join(): void {
    this.#chunks = [Buffer.concat(this.#chunks)];
  }
}

/** What the other side said at the end. */
export interface GrpcStatus {
  readonly code: number;
  readonly details: string;
}

/** The status in trailers, or in the headers of an answer that is nothing else; undefined: there is none. */
export function statusIn(headers: IncomingHttpHeaders): GrpcStatus | undefined {
  const code = headers['grpc-status'];
  if (typeof code !== 'string') return undefined;
  if (code === '0') return { code: 0, details: '' };
  const message = headers['grpc-message'];
  const number = Number(code);
  return {
    code: Number.isInteger(number) ? number : grpcCode.unknown,
    details: typeof message === 'string' ? percentDecoded(message) : '',
  };
}

/** What an answer without a gRPC status means (http-grpc-status-mapping.md of grpc); undefined: HTTP says that all is well. */
export function statusOfHttp(headers: IncomingHttpHeaders): GrpcStatus | undefined {
  const http = Number(headers[':status']);
  if (http === 200) return undefined;
  return { code: httpCodes.get(http) ?? grpcCode.unknown, details: `etcd answered with HTTP status ${http}` };
}

const httpCodes = new Map<number, number>([
  [400, grpcCode.internal],
  [401, grpcCode.unauthenticated],
  [403, grpcCode.permissionDenied],
  [404, grpcCode.unimplemented],
  [429, grpcCode.unavailable],
  [502, grpcCode.unavailable],
  [503, grpcCode.unavailable],
  [504, grpcCode.unavailable],
]);

/** What the end of a stream without a status means, by the code it was reset with. */
export function statusOfReset(code: number): GrpcStatus {
  const details = `etcd ended the call without a status (HTTP/2 code ${code})`;
  switch (code) {
    case constants.NGHTTP2_REFUSED_STREAM:
      return { code: grpcCode.unavailable, details };
    case constants.NGHTTP2_CANCEL:
      return { code: grpcCode.canceled, details };
    case constants.NGHTTP2_ENHANCE_YOUR_CALM:
      return { code: grpcCode.resourceExhausted, details };
    case constants.NGHTTP2_INADEQUATE_SECURITY:
      return { code: grpcCode.permissionDenied, details };
    default:
      return { code: grpcCode.internal, details };
  }
}

/** Bytes that are no escapes, or no UTF-8, stay as they are. */
function percentDecoded(text: string): string {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    // The text is for people: as it came is better than nothing.
    return text;
  }
}
