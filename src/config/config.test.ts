// Flags and their environment twins, and what is said about mistakes.

import test from 'ava';
import { environmentTwin, flagHelp, readConfig, UsageError } from './config.ts';

const host = { name: 'here', logsTo: 'elsewhere' } as const;
const read = (args: string[], env: NodeJS.ProcessEnv = {}) => readConfig(args, env, host);

test('config: defaults listen on loopback and log JSON', (t) => {
  const config = read([]);
  t.deepEqual(
    config.listenClientUrls.map(({ text }) => text),
    ['http://127.0.0.1:2379'],
  );
  t.like(config, {
    name: 'here',
    keyPrefix: '/registry',
    logLevel: 'info',
    logFormat: 'json',
    progressNotifyIntervalMs: 600_000,
    workers: 1,
    topology: { path: 'topology/topology.yml', given: 'by-default' },
  });
  t.is(readConfig([], {}, { name: 'x', logsTo: 'terminal' }).logFormat, 'text');
});

test('config: a flag wins over its twin, a twin over the default', (t) => {
  const env = { SWITCHYARD_KEY_PREFIX: '/twin/', SWITCHYARD_LOG_LEVEL: 'debug' };
  t.is(environmentTwin('key-prefix'), 'SWITCHYARD_KEY_PREFIX');
  t.is(read([], env).keyPrefix, '/twin');
  t.is(read(['--key-prefix=/flag'], env).keyPrefix, '/flag');
  t.is(read(['--key-prefix', '/flag'], env).logLevel, 'debug');
});

test('config: several addresses, IPv6 and no metrics at all', (t) => {
  const config = read([
    '--listen-client-urls',
    'http://127.0.0.1:1,http://[::1]:2',
    '--listen-metrics-urls',
    '',
    '--drain-timeout=2.5s',
  ]);
  t.deepEqual(
    config.listenClientUrls.map(({ host: name, port }) => [name, port]),
    [
      ['127.0.0.1', 1],
      ['::1', 2],
    ],
  );
  t.deepEqual(config.listenMetricsUrls, []);
  t.is(config.drainTimeoutMs, 2_500);
});

test('config: durations are written as for etcd, or in plain seconds', (t) => {
  const interval = (text: string) =>
    read(['--watch-progress-notify-interval', text]).progressNotifyIntervalMs;
  t.is(interval('1m30s'), 90_000);
  t.is(interval('5'), 5_000);
  t.is(interval('0'), 600_000);
  t.is(interval('1ms'), 100);
  t.is(read(['--drain-timeout', '500ms']).drainTimeoutMs, 500);
  t.is(read([]).drainTimeoutMs, 10_000);
  t.is(read([]).shutdownDelayMs, 0);
  t.is(read(['--shutdown-delay-duration', '15s']).shutdownDelayMs, 15_000);
  t.regex(flagHelp(), /--watch-progress-notify-interval DURATION .*\(default 10m\)/);
});

test('config: remote addresses without TLS need a word from the operator', (t) => {
  const remote = ['--listen-client-urls', 'http://0.0.0.0:2379'];
  const error = t.throws(() => read(remote), { instanceOf: UsageError });
  t.regex(error.message, /^Expected https:\/\/ or a loopback address .*--insecure-allow-remote/);
  t.notThrows(() => read([...remote, '--insecure-allow-remote']));
  const tls = ['--cert-file', 'c', '--key-file', 'k'];
  t.notThrows(() => read(['--listen-client-urls', 'https://0.0.0.0:2379', ...tls]));
});

const mistakes: readonly [string[], RegExp][] = [
  [['--no-such-flag'], /^Expected a flag of switchyard serve \(see --help\), got --no-such-flag$/],
  [['--no-such-flag', 'value'], /got --no-such-flag$/],
  [['stray'], /got stray$/],
  [['--topology'], /^Expected a value after --topology, got nothing$/],
  [['--topology', '--name', 'x'], /^Expected a value after --topology, got --name$/],
  [['--log-level', 'loud'], /^Expected debug, info, warn, error for --log-level, got loud$/],
  [
    ['--listen-client-urls', 'localhost'],
    /^Expected http:\/\/HOST:PORT or https:\/\/HOST:PORT in .*got localhost$/,
  ],
  [['--listen-client-urls', 'http://127.0.0.1:99999'], /got http:\/\/127.0.0.1:99999$/],
  [['--listen-client-urls', ''], /^Expected at least one address/],
  [['--listen-metrics-urls', 'nowhere'], /^Expected http:\/\/HOST:PORT .* in --listen-metrics-urls/],
  [['--key-prefix', 'registry'], /^Expected a path such as \/registry for --key-prefix, got registry$/],
  [
    ['--drain-timeout', 'soon'],
    /^Expected a duration such as 1m30s or a number of seconds, above 0 .* for --drain-timeout, got soon$/,
  ],
  [['--drain-timeout', '0'], /got 0$/],
  [['--watch-progress-notify-interval', '25h'], /at most 24h.*got 25h$/],
  [['--watch-progress-notify-interval', '-1s'], /0 for the default .* got -1s$/],
  [['--workers', '0'], /^Expected a whole number from 1 to 64 for --workers, got 0$/],
  [['--workers=1.5'], /got 1\.5$/],
  // What slipped into another flag's place.
  [['--listen-client-urls=postgres://u:p@h/db'], /got a text that may hold a password$/],
  [['--listen-client-urls=http://:geheim@127.0.0.1:1'], /got a text that may hold a password$/],
  [['--key-prefix=postgres://u:p@h/db'], /got a text that may hold a password$/],
  [['--log-level=postgres://u:p@h/db'], /got a text that may hold a password$/],
  [
    ['--workers=2', '--listen-metrics-urls=http://127.0.0.1:65535'],
    /^Expected ports 65535 to 65536 for the metrics of 2 workers, got none above 65535$/,
  ],
  [
    ['--workers=3', '--listen-metrics-urls=http://127.0.0.1:2378'],
    /^Expected ports 2378 to 2380 .*, got http:\/\/127.0.0.1:2379 for clients among them$/,
  ],
  [
    ['--workers=2', '--listen-metrics-urls=http://h:2381,http://h:2382'],
    /^Expected ports 2381 to 2382 .* alone, got http:\/\/h:2382 for metrics too$/,
  ],
  [
    ['--workers=3', '--listen-metrics-urls=http://0.0.0.0:2383,http://127.0.0.1:2381'],
    /^Expected ports 2383 to 2385 .* alone, got http:\/\/127.0.0.1:2381 for metrics too$/,
  ],
  [
    ['--workers=2', '--listen-metrics-urls=http://127.0.0.1:0'],
    /^Expected a port for the metrics of 2 workers, got http:\/\/127.0.0.1:0$/,
  ],
];

for (const [args, expected] of mistakes) {
  test(`config: ${args.join(' ')} is refused`, (t) => {
    const error = t.throws(() => read(args), { instanceOf: UsageError });
    t.is(error.problems.length, 1, error.message);
    t.regex(error.message, expected);
  });
}

test('config: metrics of several workers on addresses that do not meet', (t) => {
  const metrics = (urls: string, workers = 2) =>
    t.notThrows(() => read([`--workers=${workers}`, `--listen-metrics-urls=${urls}`]));
  metrics('http://127.0.0.1:2381,http://127.0.0.1:2383');
  metrics('http://127.0.0.1:2381,http://[::1]:2381');
  metrics('http://127.0.0.1:2381,http://127.0.0.2:2382');
  metrics('http://127.0.0.1:0,http://127.0.0.1:2381,http://127.0.0.1:2382', 1);
});

test('config: all mistakes are named at once, twins by their own name', (t) => {
  const error = t.throws(() => read(['--bad', '--log-format', 'xml'], { SWITCHYARD_LOG_LEVEL: 'loud' }), {
    instanceOf: UsageError,
  });
  t.is(error.problems.length, 3);
  t.regex(error.message, /for SWITCHYARD_LOG_LEVEL, got loud/);
});

test('config: help names every flag once', (t) => {
  const help = flagHelp();
  const names = [...help.matchAll(/^ {2}(--\S+)/gmu)].map(([, name]) => name);
  t.is(new Set(names).size, names.length);
  t.true(names.includes('--shutdown-delay-duration'));
  t.regex(help, /--listen-client-urls URL,… .*default http:\/\/127\.0\.0\.1:2379/);
});

test('config: an address needs its port, even where the scheme has one', (t) => {
  const error = t.throws(() => read(['--listen-client-urls', 'http://localhost']), {
    instanceOf: UsageError,
  });
  t.regex(error.message, /^Expected http:\/\/HOST:PORT .* got http:\/\/localhost$/);
  t.throws(() => read(['--listen-client-urls', 'http://[::1]']), { instanceOf: UsageError });
  t.is(read(['--listen-client-urls', 'http://localhost:80/']).listenClientUrls[0]!.port, 80);
});
