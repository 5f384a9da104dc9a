// The head of a request (RFC 9113, 8.3): what must be in it, and what must not. Used by whoever serves streams.

import type { HeaderFields } from './hpack.ts';

export interface RequestHead {
  readonly method: string;
  readonly path: string;
  /** All fields; those of HTTP/2 itself begin with a colon and come first. */
  readonly fields: HeaderFields;
}

/** Fields of HTTP/1 connections (RFC 9113, 8.2.2). */
const connectionFields = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);
/** In values of fields (RFC 9113, 8.2.1). */
// eslint-disable-next-line no-control-regex -- these are what is looked for
const hasForbidden = /[\0\r\n]/u;
/** Names that were found to be well formed: clients send the same few in each request. */
const knownNames = new Set<string>();
const knownNamesMax = 1_000;

/** The head in `fields`; undefined: it is malformed. */
export function requestHead(fields: HeaderFields): RequestHead | undefined {
  let method: string | undefined;
  let scheme: string | undefined;
  let path: string | undefined;
  let authority: string | undefined;
  let own = true;
  for (let at = 0; at < fields.length; at += 2) {
    const name = fields[at]!;
    const value = fields[at + 1]!;
    if (name.startsWith(':')) {
      if (!own) return undefined;
      if (name === ':method' && method === undefined) method = value;
      else if (name === ':scheme' && scheme === undefined) scheme = value;
      else if (name === ':path' && path === undefined) path = value;
      else if (name === ':authority' && authority === undefined) authority = value;
      else return undefined;
    } else {
      own = false;
      if (!isPermitted(name, value)) return undefined;
    }
  }
  if (method === undefined || scheme === undefined || path === undefined || path === '') return undefined;
  return { method, path, fields };
}

/** Whether `fields` may be trailers: none of HTTP/2's own among them. */
export function areTrailers(fields: HeaderFields): boolean {
  for (let at = 0; at < fields.length; at += 2) {
    if (fields[at]!.startsWith(':') || !isPermitted(fields[at]!, fields[at + 1]!)) return false;
  }
  return true;
}

function isPermitted(name: string, value: string): boolean {
  if (hasForbidden.test(value)) return false;
  if (name === 'te') return value === 'trailers';
  if (knownNames.has(name)) return true;
  if (connectionFields.has(name) || !/^[!#$%&'*+.^_`|~0-9a-z-]+$/u.test(name)) return false;
  if (knownNames.size < knownNamesMax) knownNames.add(name);
  return true;
}
