// The flags of `switchyard serve`, their environment twins and the rules between them. One table is the truth for parsing,
// for --help and for the twins. Pure: nothing here touches a file or the network. A flag beats its twin, a twin beats the default.

import { parseDuration } from '../lib/duration.ts';
import { isLoopback, parseListenUrl, type ListenUrl } from '../lib/listen-url.ts';
import { shown, shownAddress } from '../lib/shown.ts';
import { workerPortProblems } from '../lib/worker-ports.ts';
import { observeFlags, readObserve, type ObserveSettings } from './observe-flags.ts';
import { readTls, tlsFlags, type TlsSettings } from './tls-flags.ts';

export interface Config extends ObserveSettings {
  readonly name: string;
  readonly listenClientUrls: readonly ListenUrl[];
  /** What MemberList tells; empty: the addresses listened on. */
  readonly advertiseClientUrls: readonly string[];
  readonly listenMetricsUrls: readonly ListenUrl[];
  /** Undefined: the topology's, or the SQLite default. */
  readonly defaultEndpoint?: string;
  readonly topology: { readonly path: string; readonly given: 'by-name' | 'by-default' };
  readonly keyPrefix: string;
  readonly tls?: TlsSettings;
  /** Processes that serve the client addresses together. */
  readonly workers: number;
  readonly progressNotifyIntervalMs: number;
  readonly shutdownDelayMs: number;
  readonly drainTimeoutMs: number;
}

/** What the operator typed cannot be used; each problem says what was expected and what was found. Exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** Where the topology is looked for when nobody names one. */
export const defaultTopologyPath = 'topology/topology.yml';
/** The store for everything when neither flag nor topology names one. */
export const fallbackEndpoint = 'sqlite://./data/switchyard.db';

const durationMsMax = 86_400_000;
const workersMax = 64;
const progressNotifyMsDefault = 600_000;
/** etcd's. */
const progressNotifyMsMin = 100;

interface Flag {
  readonly name: string;
  readonly value: 'text' | 'switch';
  readonly placeholder?: string;
  readonly default?: string;
  readonly help: string;
}

const flags = [
  {
    name: 'listen-client-urls',
    value: 'text',
    placeholder: 'URL,…',
    default: 'http://127.0.0.1:2379',
    help: 'addresses for etcd clients, http or https',
  },
  {
    name: 'advertise-client-urls',
    value: 'text',
    placeholder: 'URL,…',
    help: 'addresses told to clients that ask for the members (default: those listened on)',
  },
  {
    name: 'listen-metrics-urls',
    value: 'text',
    placeholder: 'URL,…',
    default: 'http://127.0.0.1:2381',
    help: 'addresses for /metrics, /livez, /readyz, /health and /version, http or https; empty: none',
  },
  {
    name: 'topology',
    value: 'text',
    placeholder: 'FILE',
    help: `which types live where (default ${defaultTopologyPath}, if present)`,
  },
  {
    name: 'default-endpoint',
    value: 'text',
    placeholder: 'URL',
    help: `store for all other keys; wins over the topology's default (neither: ${fallbackEndpoint})`,
  },
  {
    name: 'key-prefix',
    value: 'text',
    placeholder: 'PREFIX',
    default: '/registry',
    help: "kube-apiserver's --etcd-prefix",
  },
  { name: 'name', value: 'text', placeholder: 'NAME', help: "this gateway's name (default: the host's)" },
  ...tlsFlags,
  {
    name: 'workers',
    value: 'text',
    placeholder: 'N',
    default: '1',
    help: 'processes that share the client addresses, for more than one core; the metrics ports of the Nth are N-1 higher',
  },
  {
    name: 'watch-progress-notify-interval',
    value: 'text',
    placeholder: 'DURATION',
    default: '10m',
    help: 'silence after which a watch that wants it is told the revision; less than 100ms counts as 100ms, 0 as the default',
  },
  {
    name: 'shutdown-delay-duration',
    value: 'text',
    placeholder: 'DURATION',
    default: '0s',
    help: 'how long a stop only shows in /readyz, /health and grpc.health, for load balancers, before clients are sent away',
  },
  {
    name: 'drain-timeout',
    value: 'text',
    placeholder: 'DURATION',
    default: '10s',
    help: 'how long running calls may take to finish at a stop',
  },
  ...observeFlags,
] as const satisfies readonly Flag[];

type FlagName = (typeof flags)[number]['name'];
const byName = new Map<string, Flag>(flags.map((flag) => [flag.name, flag]));

/** The environment variable that stands for a flag: `SWITCHYARD_KEY_PREFIX` for `key-prefix`. */
export function environmentTwin(flag: string): string {
  return `SWITCHYARD_${flag.replaceAll('-', '_').toUpperCase()}`;
}

/** The part of `--help` about flags. */
export function flagHelp(): string {
  const lines = flags.map((flag: Flag) => {
    const head = `--${flag.name}${flag.placeholder === undefined ? '' : ` ${flag.placeholder}`}`;
    const fallback = flag.default === undefined ? '' : ` (default ${flag.default})`;
    return `  ${head.padEnd(42)} ${flag.help}${fallback}`;
  });
  return lines.join('\n');
}

type Values = ReadonlyMap<string, string>;

function parseSwitch(flag: string, text: string, problems: string[]): string {
  if (text === 'true' || text === 'false') return text;
  problems.push(`Expected true or false for ${flag}, got ${shown(text)}`);
  return 'false';
}

function flagsFrom(args: readonly string[], problems: string[]): Values {
  const values = new Map<string, string>();
  for (let at = 0; at < args.length; at++) {
    const arg = args[at]!;
    const [, name, , attached] = /^--?([a-z][a-z-]*)(=(.*))?$/su.exec(arg) ?? [];
    const flag = name === undefined ? undefined : byName.get(name);
    if (flag === undefined) {
      problems.push(
        `Expected a flag of switchyard serve (see --help), got ${shown(arg.replace(/=.*$/su, ''))}`,
      );
      // The value of an unknown flag is not a second mistake.
      if (arg.startsWith('-') && !arg.includes('=') && args[at + 1]?.startsWith('-') === false) at++;
      continue;
    }
    if (flag.value === 'switch') {
      values.set(flag.name, parseSwitch(`--${flag.name}`, attached ?? 'true', problems));
      continue;
    }
    const value = attached ?? args[++at];
    if (value === undefined || (attached === undefined && value.startsWith('--'))) {
      problems.push(`Expected a value after --${flag.name}, got ${value ?? 'nothing'}`);
      if (value !== undefined) at--;
    } else values.set(flag.name, value);
  }
  return values;
}

function twinsFrom(env: NodeJS.ProcessEnv, problems: string[]): Values {
  const values = new Map<string, string>();
  for (const flag of byName.values()) {
    const twin = environmentTwin(flag.name);
    const value = env[twin];
    if (value === undefined || value === '') continue;
    values.set(flag.name, flag.value === 'switch' ? parseSwitch(twin, value, problems) : value);
  }
  return values;
}

/** Reads single values and notes what is wrong with them. */
class Reader {
  readonly problems: string[] = [];
  readonly #given: Values;
  readonly #twins: Values;

  constructor(args: readonly string[], env: NodeJS.ProcessEnv) {
    this.#given = flagsFrom(args, this.problems);
    this.#twins = twinsFrom(env, this.problems);
  }

  text(name: FlagName): string | undefined {
    const value = this.#given.get(name) ?? this.#twins.get(name) ?? byName.get(name)?.default;
    return value === '' ? undefined : value;
  }

  /** Whether somebody gave it, with whatever value; a twin that is empty does not count. */
  isGiven(name: FlagName): boolean {
    return this.#given.has(name) || this.#twins.has(name);
  }

  on(name: FlagName): boolean {
    return this.text(name) === 'true';
  }

  /** How the operator wrote it, for messages. */
  shown(name: FlagName): string {
    return this.#given.has(name) || !this.#twins.has(name) ? `--${name}` : environmentTwin(name);
  }

  oneOf<T extends string>(name: FlagName, choices: readonly T[], fallback: T): T {
    const value = this.text(name) ?? fallback;
    const found = choices.find((choice) => choice === value);
    if (found === undefined)
      this.problems.push(`Expected ${choices.join(', ')} for ${this.shown(name)}, got ${shown(value)}`);
    return found ?? fallback;
  }

  wholeNumber(name: FlagName, { min, max }: { readonly min: number; readonly max: number }): number {
    const value = this.text(name) ?? '';
    if (/^\d+$/u.test(value) && Number(value) >= min && Number(value) <= max) return Number(value);
    this.problems.push(
      `Expected a whole number from ${min} to ${max} for ${this.shown(name)}, got ${value === '' ? 'nothing' : shown(value)}`,
    );
    return min;
  }

  /** In milliseconds; `zero` is what 0 stands for, where it may be given, and `zeroMeans` in words. */
  duration(
    name: FlagName,
    { zero, zeroMeans = 'the default' }: { readonly zero?: number; readonly zeroMeans?: string } = {},
  ): number {
    const value = this.text(name) ?? '';
    const ms = parseDuration(value);
    if (ms === 0 && zero !== undefined) return zero;
    if (ms !== undefined && ms > 0 && ms <= durationMsMax) return ms;
    this.problems.push(
      `Expected a duration such as 1m30s or a number of seconds, ${zero === undefined ? 'above 0' : `0 for ${zeroMeans}`} and at most 24h, for ${this.shown(name)}, got ${value === '' ? 'nothing' : shown(value)}`,
    );
    return 1000;
  }

  urls(name: FlagName): ListenUrl[] {
    const parts = (this.text(name) ?? '').split(',').filter((part) => part.trim() !== '');
    return parts.flatMap((part) => {
      const url = parseListenUrl(part.trim());
      if (url !== undefined) return [url];
      this.problems.push(
        `Expected http://HOST:PORT or https://HOST:PORT in ${this.shown(name)}, got ${shownAddress(part.trim())}`,
      );
      return [];
    });
  }
}

function readClientUrls(reader: Reader): ListenUrl[] {
  const urls = reader.urls('listen-client-urls');
  if (urls.length === 0 && reader.problems.length === 0)
    reader.problems.push('Expected at least one address in --listen-client-urls, got none');
  for (const url of urls) {
    if (url.scheme === 'https' || isLoopback(url.host) || reader.on('insecure-allow-remote')) continue;
    reader.problems.push(
      `Expected https:// or a loopback address in ${reader.shown('listen-client-urls')}, got ${url.text}: ` +
        'without TLS whoever reaches the port reads and writes every key, Secrets included. ' +
        'Use https:// with --cert-file and --key-file, or say --insecure-allow-remote',
    );
  }
  return urls;
}

function readKeyPrefix(reader: Reader): string {
  const text = reader.text('key-prefix') ?? '';
  if (/^\/[^/]+(\/[^/]+)*\/?$/u.test(text)) return text.replace(/\/$/u, '');
  reader.problems.push(
    `Expected a path such as /registry for ${reader.shown('key-prefix')}, got ${text === '' ? 'nothing' : shown(text)}`,
  );
  return '/registry';
}

/** As etcd takes it: 0 is the default, and what is shorter than its least is taken for that. */
function readProgressNotifyInterval(reader: Reader): number {
  const given = reader.duration('watch-progress-notify-interval', { zero: progressNotifyMsDefault });
  return Math.max(given, progressNotifyMsMin);
}

/** Reads arguments (without the command) and environment. @throws UsageError with every problem found. */
export function readConfig(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  host: { readonly name: string; readonly logsTo: 'terminal' | 'elsewhere' },
): Config {
  const reader = new Reader(args, env);
  const listenClientUrls = readClientUrls(reader);
  const topology = reader.text('topology');
  const defaultEndpoint = reader.text('default-endpoint');
  const listenMetricsUrls = reader.urls('listen-metrics-urls');
  const tls = readTls(reader, { clients: listenClientUrls, metrics: listenMetricsUrls });
  const config: Config = {
    name: reader.text('name') ?? host.name,
    listenClientUrls,
    advertiseClientUrls: reader.urls('advertise-client-urls').map((url) => url.text),
    listenMetricsUrls,
    ...(defaultEndpoint === undefined ? {} : { defaultEndpoint }),
    topology:
      topology === undefined
        ? { path: defaultTopologyPath, given: 'by-default' }
        : { path: topology, given: 'by-name' },
    keyPrefix: readKeyPrefix(reader),
    ...(tls === undefined ? {} : { tls }),
    workers: reader.wholeNumber('workers', { min: 1, max: workersMax }),
    progressNotifyIntervalMs: readProgressNotifyInterval(reader),
    shutdownDelayMs: reader.duration('shutdown-delay-duration', { zero: 0, zeroMeans: 'none' }),
    drainTimeoutMs: reader.duration('drain-timeout'),
    ...readObserve(reader, { env, logsTo: host.logsTo }),
  };
  reader.problems.push(...workerPortProblems(config));
  if (reader.problems.length > 0) throw new UsageError(reader.problems);
  return config;
}
