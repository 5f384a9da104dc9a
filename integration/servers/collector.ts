// A collector of OpenTelemetry for the tests: takes spans over gRPC and keeps them.

import { loadPackageDefinition, Server, ServerCredentials, type ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { fileURLToPath } from 'node:url';

/** As it came, with ids in hexadecimal and attributes by name. */
export interface ReceivedSpan {
  readonly service: string;
  readonly instance: string;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty: the first of its trace. */
  readonly parentId: string;
  readonly name: string;
  /** 1: internal, 2: server, 3: client. */
  readonly kind: number;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** 2: failed. */
  readonly status: { readonly code: number; readonly message: string };
}

export interface TestCollector {
  /** `127.0.0.1:PORT`. */
  readonly address: string;
  readonly spans: readonly ReceivedSpan[];
  dispose(): void;
}

interface KeyValue {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>> & { readonly value: string };
}

interface Exported {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly KeyValue[] };
    readonly scopeSpans: readonly { readonly spans: readonly ExportedSpan[] }[];
  }[];
}

interface ExportedSpan {
  readonly traceId: Buffer;
  readonly spanId: Buffer;
  readonly parentSpanId: Buffer;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly KeyValue[];
  readonly status: { readonly code: number; readonly message: string } | null;
}

const file = fileURLToPath(new URL('otlp.proto', import.meta.url));

function attributesOf(pairs: readonly KeyValue[]): Record<string, unknown> {
  return Object.fromEntries(pairs.map(({ key, value }) => [key, value[value.value]]));
}

const textOf = (attribute: unknown) => (typeof attribute === 'string' ? attribute : '');

/** Starts one on a free port, or on `port`. */
export async function startCollector(port = 0): Promise<TestCollector> {
  const definition = loadSync(file, { longs: String, oneofs: true, defaults: true });
  const loaded = loadPackageDefinition(definition) as unknown as {
    opentelemetry: {
      proto: { collector: { trace: { v1: { TraceService: { service: ServiceDefinition } } } } };
    };
  };
  const spans: ReceivedSpan[] = [];
  const server = new Server();
  server.addService(loaded.opentelemetry.proto.collector.trace.v1.TraceService.service, {
    Export: (call: { request: Exported }, answer: (error: null, response: object) => void) => {
      for (const { resource, scopeSpans } of call.request.resourceSpans) {
        const about = attributesOf(resource.attributes);
        const service = textOf(about['service.name']);
        const instance = textOf(about['service.instance.id']);
        for (const span of scopeSpans.flatMap((scope) => scope.spans))
          spans.push({
            service,
            instance,
            traceId: span.traceId.toString('hex'),
            spanId: span.spanId.toString('hex'),
            parentId: span.parentSpanId.toString('hex'),
            name: span.name,
            kind: span.kind,
            startNs: BigInt(span.startTimeUnixNano),
            endNs: BigInt(span.endTimeUnixNano),
            attributes: attributesOf(span.attributes),
            status: span.status ?? { code: 0, message: '' },
          });
      }
      answer(null, {});
    },
  });
  const bound = await new Promise<number>((resolve, reject) =>
    server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, chosen) =>
      error === null ? resolve(chosen) : reject(error),
    ),
  );
  return { address: `127.0.0.1:${bound}`, spans, dispose: () => server.forceShutdown() };
}
