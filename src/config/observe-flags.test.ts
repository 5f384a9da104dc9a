// The flags about logs and traces, and the variables of OpenTelemetry that stand for them.

import test from 'ava';
import { readConfig, UsageError } from './config.ts';

const read = (args: string[], env: NodeJS.ProcessEnv = {}) =>
  readConfig(args, env, { name: 'here', logsTo: 'elsewhere' });
const on = '--enable-distributed-tracing';

test('flags: slow requests and statements are told from half a second on, or never', (t) => {
  t.like(read([]), { slowRequestsMs: 500, slowStatementsMs: 500 });
  const config = read(['--log-slow-requests', '0', '--log-slow-statements=1m']);
  t.deepEqual([config.slowRequestsMs, config.slowStatementsMs], [Number.POSITIVE_INFINITY, 60_000]);
});

test('flags: there are no traces unless they are asked for', (t) => {
  t.is(read([], { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4317' }).tracing, undefined);
  t.deepEqual(read([on]).tracing, {
    endpoint: 'http://localhost:4317',
    serviceName: 'switchyard',
    samplesPerMillion: 0,
    attributes: new Map(),
  });
});

test('flags: a flag wins over the variables of OpenTelemetry', (t) => {
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: 'https://general',
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://traces:14317/',
    OTEL_SERVICE_NAME: 'etcd-gateway',
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=prod, note=a%2Cb,service.name=other,broken',
  };
  t.like(read([on], env).tracing, { endpoint: 'https://traces:14317', serviceName: 'etcd-gateway' });
  t.deepEqual(
    [...read([on], env).tracing!.attributes],
    [
      ['deployment.environment.name', 'prod'],
      ['note', 'a,b'],
      ['service.name', 'other'],
    ],
  );
  t.is(
    read([on], { OTEL_EXPORTER_OTLP_ENDPOINT: 'https://general' }).tracing?.endpoint,
    'https://general:4317',
  );
  // A scheme's own port is one as well.
  for (const [address, endpoint] of [
    ['https://general:443', 'https://general:443'],
    ['https://general:443/', 'https://general:443'],
    ['http://[::1]:80', 'http://[::1]:80'],
    ['http://[::1]', 'http://[::1]:4317'],
    ['general:80', 'http://general:80'],
  ] as const)
    t.is(read([on, '--distributed-tracing-address', address]).tracing?.endpoint, endpoint);
  const flags = [
    '--distributed-tracing-address=10.0.0.1:1',
    '--distributed-tracing-service-name=mine',
    '--distributed-tracing-instance-id=7',
    '--distributed-tracing-sampling-rate=1000000',
  ];
  t.like(read([on, ...flags], env).tracing, {
    endpoint: 'http://10.0.0.1:1',
    serviceName: 'mine',
    instanceId: '7',
    samplesPerMillion: 1_000_000,
  });
});

test('flags: an address that is none is refused, with where it stands', (t) => {
  const mistakes: readonly [string[], NodeJS.ProcessEnv, RegExp][] = [
    [
      ['--distributed-tracing-address', 'ftp://a:1'],
      {},
      /in --distributed-tracing-address, got ftp:\/\/a:1$/,
    ],
    [[], { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://a:1/v1/traces' }, /in OTEL_EXPORTER_OTLP_ENDPOINT, got/],
    [['--distributed-tracing-sampling-rate', '2000000'], {}, /whole number from 0 to 1000000/],
  ];
  for (const [args, env, message] of mistakes)
    t.regex(t.throws(() => read([on, ...args], env), { instanceOf: UsageError }).message, message);
});

for (const address of [
  'http://u:geheim@h:1',
  'http://:geheim@h:1',
  'u:geheim@h',
  'https://h:1/?key=geheim',
]) {
  test(`flags: a collector at ${address} is refused, and its address not told`, (t) => {
    const error = t.throws(() => read([on], { OTEL_EXPORTER_OTLP_ENDPOINT: address }), {
      instanceOf: UsageError,
    });
    t.regex(error.message, /in OTEL_EXPORTER_OTLP_ENDPOINT, got a text that may hold a password$/);
  });
}
