// OpenTelemetry traces: which calls are recorded, and what spans are made of what is told of them. A call has a span that continues the
// caller's trace; below it are the operations of stores, and below those the statements of SQL. A statement that serves several recorded
// calls at once is in the trace of each. Nothing of this exists unless it is asked for. Used by cli/serve.ts.

import type { Logger } from '../lib/log.ts';
import { grpcCode } from '../grpc/codes.ts';
import type { CallEnd, Observer, StatementEnd } from '../lib/observer.ts';
import { childOf, newTrace, parseTraceParent, type TraceContext } from '../lib/trace-context.ts';
import { worksNow } from '../lib/work.ts';
import type { Store } from '../store/store.ts';
import { Exporter } from './exporter.ts';
import { spanKind, type Span } from './span.ts';
import { tracedStore } from './traced-store.ts';

const million = 1_000_000;
/** Of a statement's text so much is told, in characters: those for many rows repeat themselves. */
const textMax = 1_024;
/** Traces that one statement is put into. */
const tracesMax = 16;

export interface TracingOptions {
  /** `http(s)://HOST:PORT` of a collector that speaks OTLP over gRPC. */
  readonly endpoint: string;
  readonly serviceName: string;
  readonly instanceId: string;
  /** Further attributes of the service. */
  readonly attributes: ReadonlyMap<string, string>;
  /** Of a million traces that begin here so many are recorded. */
  readonly samplesPerMillion: number;
  /** switchyard's own version. */
  readonly version: string;
  readonly logger: Logger;
}

/** Names as in the semantic conventions for databases. */
const systemNames = { postgres: 'postgresql', mysql: 'mysql', sqlite: 'sqlite' } as const;

/** Codes that are a server's failure in the semantic conventions for gRPC. */
const failureNames = new Map<number, string>(
  (['unknown', 'deadlineExceeded', 'unimplemented', 'internal', 'unavailable', 'dataLoss'] as const).map(
    (name) => [grpcCode[name], name],
  ),
);

export class Tracing implements Observer {
  readonly #exporter: Exporter;
  readonly #ratio: number;

  constructor(options: TracingOptions) {
    const { endpoint, version, logger } = options;
    const attributes = {
      ...Object.fromEntries(options.attributes),
      'service.name': options.serviceName,
      'service.version': version,
      'service.instance.id': options.instanceId,
    };
    this.#exporter = new Exporter({ endpoint, resource: { attributes, version }, logger });
    this.#ratio = options.samplesPerMillion / million;
  }

  /** The span of a call by what its caller says; undefined: it is not recorded. As the caller does, else by the rate. */
  readonly begin = (traceParent: string | undefined): TraceContext | undefined => {
    const parent = parseTraceParent(traceParent);
    if (parent !== undefined) return parent.isSampled ? childOf(parent) : undefined;
    return Math.random() < this.#ratio ? newTrace() : undefined;
  };

  /** A store whose operations are recorded for calls that are. */
  traced(store: Store): Store {
    return tracedStore(store, (span) => this.#exporter.record(span));
  }

  /** See Observer. */
  call({ request, method, store, code, startedAt, endedAt }: CallEnd): void {
    if (request.trace === undefined) return;
    const [, service = '', name = ''] = method.split('/');
    this.#exporter.record({
      trace: request.trace,
      name: method.slice(1),
      kind: spanKind.server,
      startedAt,
      endedAt,
      attributes: {
        'rpc.system': 'grpc',
        'rpc.service': service,
        'rpc.method': name,
        'rpc.grpc.status_code': code,
        'switchyard.store': store,
        'switchyard.request_id': request.id,
      },
      failure: failureNames.get(code),
    });
  }

  /** See Observer. */
  statement(end: StatementEnd): void {
    const traces = worksNow().flatMap(({ trace }) => trace ?? []);
    for (const trace of traces.slice(0, tracesMax)) this.#exporter.record(spanOf(end, childOf(trace)));
  }

  /** Sends what is left. */
  async close(): Promise<void> {
    await this.#exporter.close();
  }
}

function spanOf(end: StatementEnd, trace: TraceContext): Span {
  const { store, engine, name, statements, startedAt, endedAt, rows, fault } = end;
  const text = statements.map((statement) => statement.text).join('; ');
  return {
    trace,
    name,
    kind: spanKind.client,
    startedAt,
    endedAt,
    attributes: {
      'db.system.name': systemNames[engine],
      'db.query.summary': name,
      'db.query.text': text === '' ? undefined : text.slice(0, textMax),
      'db.operation.batch.size': statements.length > 1 ? statements.length : undefined,
      'db.response.returned_rows': rows,
      'error.type': fault,
      'switchyard.store': store,
      'switchyard.statements':
        statements.length > 1 ? statements.map((statement) => statement.name) : undefined,
    },
    failure: fault,
  };
}
