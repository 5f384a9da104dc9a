// Spans as OTLP has them (opentelemetry-proto 1.x, trace/v1/trace.proto and collector/trace/v1/trace_service.proto). Used by exporter.ts.

import { WireReader, encode, type WireWriter } from '../etcd/wire.ts';
import type { Attribute, Span } from './span.ts';

/** Who sends the spans: attributes of the service, and the version of switchyard. */
export interface Resource {
  readonly attributes: Readonly<Record<string, Attribute | undefined>>;
  readonly version: string;
}

const scopeName = 'switchyard';
/** Status.StatusCode. */
const statusError = 2;
/** The lowest byte of SpanFlags are those of the W3C trace context: sampled. */
const sampledFlag = 1;

/** ExportTraceServiceRequest. `originMs`: what performance.now() counts from, since the epoch. */
export function encodeExport(spans: readonly Span[], resource: Resource, originMs: number): Buffer {
  const originNs = BigInt(Math.round(originMs * 1_000)) * 1_000n;
  const batch = { spans, resource, originNs };
  return encode(batch, (writer, all) => writer.message(1, all, writeResourceSpans), spans.length * 512);
}

/** Spans that the collector did not take, and why, of an ExportTraceServiceResponse. @throws MalformedMessageError */
export function decodeRejected(response: Buffer): { readonly count: number; readonly reason: string } {
  const reader = new WireReader(response);
  let count = 0;
  let reason = '';
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field !== 1) reader.skip();
    else
      reader.message((inner) => {
        for (let part = inner.next(); part !== 0; part = inner.next()) {
          if (part === 1) count = inner.count();
          else if (part === 2) reason = inner.string();
          else inner.skip();
        }
      });
  }
  return { count, reason };
}

interface Batch {
  readonly spans: readonly Span[];
  readonly resource: Resource;
  readonly originNs: bigint;
}

function writeResourceSpans(writer: WireWriter, batch: Batch): void {
  writer.message(1, batch.resource.attributes, writeAttributes(1));
  writer.message(2, batch, writeScopeSpans);
}

function writeScopeSpans(writer: WireWriter, { spans, resource, originNs }: Batch): void {
  writer.message(1, resource.version, (scope, version) => {
    scope.string(1, scopeName);
    scope.string(2, version);
  });
  for (const span of spans) writer.message(2, span, (one, value) => writeSpan(one, value, originNs));
}

function writeSpan(writer: WireWriter, span: Span, originNs: bigint): void {
  const { traceId, spanId, parentId } = span.trace;
  const nanoseconds = (at: number) => originNs + BigInt(Math.round(at * 1_000_000));
  writer.bytes(1, Buffer.from(traceId, 'hex'));
  writer.bytes(2, Buffer.from(spanId, 'hex'));
  if (parentId !== undefined) writer.bytes(4, Buffer.from(parentId, 'hex'));
  writer.string(5, span.name);
  writer.count(6, span.kind);
  writer.fixed64(7, nanoseconds(span.startedAt));
  writer.fixed64(8, nanoseconds(span.endedAt));
  writeAttributes(9)(writer, span.attributes);
  if (span.failure !== undefined)
    writer.message(15, span.failure, (status, message) => {
      status.string(2, message);
      status.count(3, statusError);
    });
  writer.fixed32(16, sampledFlag);
}

/** KeyValues as the repeated field `field`. */
function writeAttributes(field: number) {
  return (writer: WireWriter, attributes: Span['attributes']): void => {
    for (const [key, value] of Object.entries(attributes)) {
      if (value === undefined) continue;
      writer.message(field, value, (pair, some) => {
        pair.string(1, key);
        pair.message(2, some, writeValue);
      });
    }
  };
}

/** AnyValue. */
function writeValue(writer: WireWriter, value: Attribute): void {
  if (typeof value === 'string') writer.element(1, Buffer.from(value));
  else if (typeof value === 'number') writer.presentInt64(3, BigInt(value));
  else
    writer.message(5, value, (list, parts) => {
      for (const part of parts) list.message(1, part, writeValue);
    });
}
