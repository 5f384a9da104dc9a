// Where a span is in its trace, and how that travels: the `traceparent` of W3C Trace Context, level 1. Used by server/ and tracing/.

import { randomBytes } from 'node:crypto';

/** A span that is recorded. Ids are in lower-case hexadecimal. */
export interface TraceContext {
  /** 32 digits. */
  readonly traceId: string;
  /** 16 digits. */
  readonly spanId: string;
  /** Undefined: the trace begins here. */
  readonly parentId?: string;
}

/** What a caller says of its span. */
export interface TraceParent {
  readonly traceId: string;
  readonly spanId: string;
  /** The caller records the trace. */
  readonly isSampled: boolean;
}

const pattern = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/u;
const zeros = /^0+$/u;
const sampledFlag = 1;

/** Undefined where there is none, or none that can be used. */
export function parseTraceParent(text: string | undefined): TraceParent | undefined {
  if (text === undefined) return undefined;
  const [, version, traceId, spanId, flags, more] = pattern.exec(text) ?? [];
  if (version === undefined || traceId === undefined || spanId === undefined) return undefined;
  // Later versions may have more at the end, this one may not.
  if (version === 'ff' || (version === '00' && more !== undefined)) return undefined;
  if (zeros.test(traceId) || zeros.test(spanId)) return undefined;
  return { traceId, spanId, isSampled: (Number.parseInt(flags!, 16) & sampledFlag) !== 0 };
}

/** For whoever is asked next. */
export function traceParentOf({ traceId, spanId }: TraceContext): string {
  return `00-${traceId}-${spanId}-01`;
}

/** A span of the same trace, below `parent`. */
export function childOf({ traceId, spanId }: TraceContext | TraceParent): TraceContext {
  return { traceId, spanId: randomBytes(8).toString('hex'), parentId: spanId };
}

/** The first span of a trace. */
export function newTrace(): TraceContext {
  return { traceId: randomBytes(16).toString('hex'), spanId: randomBytes(8).toString('hex') };
}
