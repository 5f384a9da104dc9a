// The metrics of calls and of what clients make the gateway hold. Those of calls have the names and labels that etcd's own have
// (go-grpc-prometheus), and the store beside: dashboards that were made for an etcd show them.

import type { Registry } from 'prom-client';
import { grpcCode } from '../../grpc/codes.ts';
import type { Store } from '../../store/store.ts';
import { codeNames, type CallMetrics, type MethodCalls } from './calls.ts';
import { counter, gauge, histogram, type Labels, type Samples } from './families.ts';

const methodLabels = ['grpc_type', 'grpc_service', 'grpc_method'] as const;
type MethodLabel = (typeof methodLabels)[number];

function labelsOf({ type, service, method }: MethodCalls): Labels<MethodLabel> {
  return { grpc_type: type, grpc_service: service, grpc_method: method };
}

/** Empty: none, or several. */
const nameOf = (store: Store | undefined) => store?.name ?? '';

/** Told from the first call on, so that the first of them is seen to come. */
const expected = new Set<number>(
  (['ok', 'unknown', 'internal', 'unavailable', 'dataLoss'] as const).map((name) => grpcCode[name]),
);

/** Adds them to `registry`. */
export function addCallFamilies(registry: Registry, calls: CallMetrics): void {
  addMethodFamilies(registry, calls);
  addEndFamilies(registry, calls);
}

/** What is counted of each method. */
function addMethodFamilies(registry: Registry, calls: CallMetrics): void {
  const labels = methodLabels;
  function* ofMethods(value: (method: MethodCalls) => number | undefined): Samples<MethodLabel> {
    for (const method of calls.methods()) {
      const found = value(method);
      if (found !== undefined) yield [labelsOf(method), found];
    }
  }
  counter(registry, { name: 'grpc_server_started_total', help: 'Calls that have begun.', labels }, () =>
    ofMethods(({ started }) => started),
  );
  counter(registry, { name: 'grpc_server_msg_received_total', help: 'Messages of clients.', labels }, () =>
    ofMethods(({ messagesReceived }) => messagesReceived),
  );
  counter(registry, { name: 'grpc_server_msg_sent_total', help: 'Messages to clients.', labels }, () =>
    ofMethods(({ messagesSent }) => messagesSent),
  );
  const unary = 'Unary calls that have not ended.';
  gauge(registry, { name: 'switchyard_calls_in_flight', help: unary, labels }, () =>
    ofMethods(({ type, started, ended }) => (type === 'unary' ? started - ended : undefined)),
  );
  gauge(registry, { name: 'switchyard_streams', help: 'Streams that are open.', labels }, () =>
    ofMethods(({ type, started, ended }) => (type === 'unary' ? undefined : started - ended)),
  );
}

/** How calls have ended, by the store that served them. */
function addEndFamilies(registry: Registry, calls: CallMetrics): void {
  counter(
    registry,
    {
      name: 'grpc_server_handled_total',
      help: 'Calls that have ended, by the code that the client was told and the store that served them.',
      labels: [...methodLabels, 'grpc_code', 'store'],
    },
    function* () {
      for (const method of calls.methods()) {
        for (const [store, { codes }] of method.byStore) {
          const labels = { ...labelsOf(method), store: nameOf(store) };
          for (const [code, count] of codes.entries())
            if (count > 0 || expected.has(code)) yield [{ ...labels, grpc_code: codeNames[code]! }, count];
        }
      }
    },
  );
  histogram(
    registry,
    {
      name: 'grpc_server_handling_seconds',
      help: 'How long calls took; streams count at their end.',
      labels: [...methodLabels, 'store'],
    },
    function* () {
      for (const method of calls.methods()) {
        for (const [store, { seconds }] of method.byStore)
          yield [{ ...labelsOf(method), store: nameOf(store) }, seconds];
      }
    },
  );
  counter(
    registry,
    {
      name: 'switchyard_call_errors_total',
      help: 'Calls that failed with an error of the etcd API, ours or of an etcd, by its name.',
      labels: ['reason', 'store'],
    },
    function* () {
      for (const [store, reasons] of calls.errors)
        for (const [reason, count] of reasons) yield [{ reason, store: nameOf(store) }, count];
    },
  );
}
