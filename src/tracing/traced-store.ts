// A store whose operations are recorded where they are done for a call that is: a span for the operation, below which those of its
// statements are. Calls that pass to an etcd as bytes take their span along. Used by tracing.ts.

import { grpcCode } from '../grpc/codes.ts';
import { childOf, traceParentOf, type TraceContext } from '../lib/trace-context.ts';
import { workFor, worksNow, type Work } from '../lib/work.ts';
import type { Passthrough, Store } from '../store/store.ts';
import { spanKind, type Span } from './span.ts';

/** Operations with a beginning and an end of their own. */
const operations: ReadonlySet<string | symbol> = new Set([
  'range',
  'txn',
  'compact',
  'leaseGrant',
  'leaseRevoke',
  'leaseKeepAlive',
  'leaseTimeToLive',
  'leaseLeases',
  'hashKv',
  'raiseRevision',
]);

type Operation = (...args: readonly unknown[]) => Promise<unknown>;

/** `store`, and all that it has; `record` gets the spans. */
export function tracedStore(store: Store, record: (span: Span) => void): Store {
  const passthrough = store.passthrough && tracedPassthrough(store, store.passthrough, record);
  const members = new Map<string | symbol, unknown>([['passthrough', passthrough]]);
  const memberOf = (name: string | symbol): unknown => {
    const member: unknown = Reflect.get(store, name, store);
    if (typeof member !== 'function') return member;
    const bound = member.bind(store) as Operation;
    if (!operations.has(name)) return bound;
    const what = { name: `store.${String(name)}`, kind: spanKind.internal, attributes: aboutStore(store) };
    return ((...args) => recorded(what, record, () => bound(...args))) satisfies Operation;
  };
  return new Proxy(store, {
    get(_, name) {
      // What is not a function may change.
      const known = members.get(name);
      if (known !== undefined) return known;
      const member = memberOf(name);
      if (typeof member === 'function') members.set(name, member);
      return member;
    },
  });
}

function aboutStore({ name, engine }: Store): Span['attributes'] {
  return { 'switchyard.store': name, 'switchyard.engine': engine };
}

function tracedPassthrough(store: Store, inner: Passthrough, record: (span: Span) => void): Passthrough {
  return {
    unary(method, request, options) {
      const [, service = '', name = ''] = method.split('/');
      const attributes = {
        ...aboutStore(store),
        'rpc.system': 'grpc',
        'rpc.service': service,
        'rpc.method': name,
      };
      return recorded({ name: method.slice(1), kind: spanKind.client, attributes }, record, (trace) => {
        if (trace === undefined) return inner.unary(method, request, options);
        const metadata = { ...options.metadata, traceparent: traceParentOf(trace) };
        return inner.unary(method, request, { ...options, metadata });
      });
    },
    stream: (method, options) => inner.stream(method, options),
  };
}

/** Runs `work`, and records it below each call that it is done for and that is recorded; `work` gets the span of the first. */
async function recorded<T>(
  what: Pick<Span, 'name' | 'kind' | 'attributes'>,
  record: (span: Span) => void,
  work: (trace: TraceContext | undefined) => Promise<T>,
): Promise<T> {
  const works = worksNow();
  if (works.every(({ trace }) => trace === undefined)) return work(undefined);
  const inside: readonly Work[] = works.map(({ request, trace }) => ({
    request,
    trace: trace && childOf(trace),
  }));
  const traces = inside.flatMap(({ trace }) => trace ?? []);
  const startedAt = performance.now();
  let failure: string | undefined;
  try {
    return await workFor(inside, () => work(traces[0]));
  } catch (error) {
    failure = failureOf(error);
    throw error;
  } finally {
    const endedAt = performance.now();
    for (const trace of traces) record({ ...what, trace, startedAt, endedAt, failure });
  }
}

const codeNames = new Map<number, string>(Object.entries(grpcCode).map(([name, code]) => [code, name]));

/** Of few and without a text, which may say more than is meant for whoever reads traces. */
function failureOf(error: unknown): string {
  if (!(error instanceof Error)) return 'error';
  const code = 'code' in error && typeof error.code === 'number' ? codeNames.get(error.code) : undefined;
  return code ?? error.name;
}
