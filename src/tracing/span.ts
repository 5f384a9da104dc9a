// What is recorded of a piece of work: a span, in the terms of OpenTelemetry. Used by everything in tracing/.

import type { TraceContext } from '../lib/trace-context.ts';

/** As OTLP numbers them. */
export const spanKind = { internal: 1, server: 2, client: 3 } as const;

export type Attribute = string | number | readonly string[];

/** A span that is over. */
export interface Span {
  readonly trace: TraceContext;
  /** Of few. */
  readonly name: string;
  readonly kind: (typeof spanKind)[keyof typeof spanKind];
  /** By performance.now(). */
  readonly startedAt: number;
  readonly endedAt: number;
  /** Never keys, values or credentials. Numbers are whole. */
  readonly attributes: Readonly<Record<string, Attribute | undefined>>;
  /** Why it went wrong; undefined: it did not. */
  readonly failure: string | undefined;
}
