// How a call of gRPC ends: statuses, and how they stand in trailers (PROTOCOL-HTTP2.md of grpc). Used by server/ and store/etcd/.

import { encodeStateless, type HeaderFields } from '../http2/hpack.ts';
import { grpcCode } from './codes.ts';

/** What one side said at the end. */
export interface GrpcStatus {
  /** One of `grpcCode`. */
  readonly code: number;
  readonly details: string;
}

/** A call ended, or must end, with a status other than OK. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  readonly code: number;

  constructor(code: number, details: string, options?: ErrorOptions) {
    super(details, options);
    this.code = code;
  }
}

/** The value of the first field of that name. */
export function fieldOf(fields: HeaderFields, name: string): string | undefined {
  for (let at = 0; at < fields.length; at += 2) if (fields[at] === name) return fields[at + 1];
  return undefined;
}

const okTrailers = encodeStateless(['grpc-status', '0']);
const answerFields = [':status', '200', 'content-type', 'application/grpc'];

/** The headers before the first message of an answer. */
export const answerHeaders = encodeStateless(answerFields);

/** Name and value of metadata. */
export type MetadataField = readonly [name: string, value: string];

/**
 * The header block that ends an answer, with `more`; `isWhole`: there was none before, so that it says that all is well with
 * HTTP, too.
 */
export function encodeTrailers(
  { code, details }: GrpcStatus,
  isWhole: boolean,
  more?: MetadataField,
): Buffer {
  if (code === 0 && !isWhole && more === undefined) return okTrailers;
  const fields = isWhole ? [...answerFields] : [];
  fields.push('grpc-status', String(code));
  if (details !== '') fields.push('grpc-message', percentEncoded(details));
  if (more !== undefined) fields.push(...more);
  return encodeStateless(fields);
}

/** The status in trailers, or in the headers of an answer that is nothing else; undefined: there is none. */
export function statusIn(fields: HeaderFields): GrpcStatus | undefined {
  const code = fieldOf(fields, 'grpc-status');
  if (code === undefined) return undefined;
  if (code === '0') return { code: 0, details: '' };
  const number = Number(code);
  const details = percentDecoded(fieldOf(fields, 'grpc-message') ?? '');
  return { code: Number.isInteger(number) ? number : grpcCode.unknown, details };
}

/** Everything but printable ASCII, and `%` itself, as UTF-8 in hexadecimal. */
function percentEncoded(text: string): string {
  if (!/[^ -$&-~]/u.test(text)) return text;
  let encoded = '';
  for (const byte of Buffer.from(text)) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    encoded += isPlain ? String.fromCodePoint(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
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
