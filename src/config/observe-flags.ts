// The flags about what a running switchyard tells: its log, and traces. Used by config.ts.

import type { LogFormat, LogLevel } from '../lib/log.ts';
import { logLevels } from '../lib/log.ts';
import { shownAddress } from '../lib/shown.ts';

/** What is told, and how much. */
export interface ObserveSettings {
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  /** Milliseconds: what takes as long is logged; infinite: nothing is. */
  readonly slowRequestsMs: number;
  readonly slowStatementsMs: number;
  /** Undefined: no spans are made. */
  readonly tracing?: TracingSettings;
}

/** Spans, and where they go. */
export interface TracingSettings {
  /** `http(s)://HOST:PORT` of a collector that speaks OTLP over gRPC. */
  readonly endpoint: string;
  readonly serviceName: string;
  /** Undefined: the gateway's name. */
  readonly instanceId?: string;
  /** Of a million traces that begin here so many are recorded; those that a caller records always are. */
  readonly samplesPerMillion: number;
  /** Further attributes of the service, by name. */
  readonly attributes: ReadonlyMap<string, string>;
}

export const observeFlags = [
  {
    name: 'log-level',
    value: 'text',
    placeholder: 'LEVEL',
    default: 'info',
    help: 'debug, info, warn or error; SIGUSR2 turns debug on and off',
  },
  {
    name: 'log-format',
    value: 'text',
    placeholder: 'FORMAT',
    help: 'json or text (default: text on a terminal, else json)',
  },
  {
    name: 'log-slow-requests',
    value: 'text',
    placeholder: 'DURATION',
    default: '500ms',
    help: 'log requests that take as long, and where the time went; 0: none',
  },
  {
    name: 'log-slow-statements',
    value: 'text',
    placeholder: 'DURATION',
    default: '500ms',
    help: 'log what takes a database as long; 0: nothing',
  },
  {
    name: 'enable-distributed-tracing',
    value: 'switch',
    help: 'send spans of requests, stores and statements to an OpenTelemetry collector',
  },
  {
    name: 'distributed-tracing-address',
    value: 'text',
    placeholder: 'HOST:PORT',
    help: 'the collector (OTLP over gRPC; https://HOST:PORT for TLS; default: OTEL_EXPORTER_OTLP_ENDPOINT, else localhost:4317)',
  },
  {
    name: 'distributed-tracing-service-name',
    value: 'text',
    placeholder: 'NAME',
    help: 'service.name of the spans (default: OTEL_SERVICE_NAME, else switchyard)',
  },
  {
    name: 'distributed-tracing-instance-id',
    value: 'text',
    placeholder: 'ID',
    help: 'service.instance.id of the spans (default: --name)',
  },
  {
    name: 'distributed-tracing-sampling-rate',
    value: 'text',
    placeholder: 'N',
    default: '0',
    help: 'traces to record of a million that begin here; what the caller records is always recorded',
  },
] as const;

type FlagName = (typeof observeFlags)[number]['name'];

/** What is read from, and where problems are noted. */
interface FlagReader {
  readonly problems: string[];
  text(name: FlagName): string | undefined;
  on(name: FlagName): boolean;
  /** How the operator wrote it, for messages. */
  shown(name: FlagName): string;
  oneOf<T extends string>(name: FlagName, choices: readonly T[], fallback: T): T;
  wholeNumber(name: FlagName, bounds: { readonly min: number; readonly max: number }): number;
  duration(name: FlagName, options: { readonly zero?: number; readonly zeroMeans?: string }): number;
}

const never = { zero: Number.POSITIVE_INFINITY, zeroMeans: 'none' };
const defaultEndpoint = 'localhost:4317';
const million = 1_000_000;

/** `http://` where there is no scheme, as etcd and kube-apiserver take the address of a collector. */
function endpointOf(text: string): string | undefined {
  const url = URL.parse(text.includes('://') ? text : `http://${text}`);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) return undefined;
  if (url.username !== '' || url.password !== '') return undefined;
  if (url.search !== '' || url.pathname !== '/' || url.hostname === '') return undefined;
  // The URL parser drops a scheme's own port, which is not to come to mean the collectors' own.
  const port = url.port || (/:(\d+)\/?$/u.exec(text.trim())?.[1] ?? '4317');
  return `${url.protocol}//${url.hostname}:${port}`;
}

/** `name=value,…`, percent-encoded, as OpenTelemetry has it. What is no pair is passed over. */
function attributesIn(text: string | undefined): ReadonlyMap<string, string> {
  const attributes = new Map<string, string>();
  for (const part of (text ?? '').split(',')) {
    const [, name, value] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/u.exec(part) ?? [];
    if (name === undefined || value === undefined) continue;
    try {
      attributes.set(decodeURIComponent(name), decodeURIComponent(value));
    } catch {
      attributes.set(name, value);
    }
  }
  return attributes;
}

function readTracing(reader: FlagReader, env: NodeJS.ProcessEnv): TracingSettings | undefined {
  const samplesPerMillion = reader.wholeNumber('distributed-tracing-sampling-rate', { min: 0, max: million });
  if (!reader.on('enable-distributed-tracing')) return undefined;
  const variable = ['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'OTEL_EXPORTER_OTLP_ENDPOINT'].find(
    (name) => env[name],
  );
  const given = reader.text('distributed-tracing-address');
  const address = given ?? env[variable ?? ''] ?? defaultEndpoint;
  const endpoint = endpointOf(address);
  if (endpoint === undefined) {
    const where = given === undefined ? variable : reader.shown('distributed-tracing-address');
    reader.problems.push(
      `Expected HOST:PORT, http://HOST:PORT or https://HOST:PORT in ${where}, got ${shownAddress(address)}`,
    );
    return undefined;
  }
  const attributes = attributesIn(env['OTEL_RESOURCE_ATTRIBUTES']);
  const instanceId = reader.text('distributed-tracing-instance-id');
  const serviceName =
    reader.text('distributed-tracing-service-name') ??
    (env['OTEL_SERVICE_NAME'] || attributes.get('service.name') || 'switchyard');
  return {
    endpoint,
    serviceName,
    ...(instanceId === undefined ? {} : { instanceId }),
    samplesPerMillion,
    attributes,
  };
}

/** Reads the flags above. `logsTo`: where the log goes when nobody says how it is to look. */
export function readObserve(
  reader: FlagReader,
  { env, logsTo }: { readonly env: NodeJS.ProcessEnv; readonly logsTo: 'terminal' | 'elsewhere' },
): ObserveSettings {
  const tracing = readTracing(reader, env);
  return {
    logLevel: reader.oneOf<LogLevel>('log-level', logLevels, 'info'),
    logFormat: reader.oneOf<LogFormat>(
      'log-format',
      ['json', 'text'],
      logsTo === 'terminal' ? 'text' : 'json',
    ),
    slowRequestsMs: reader.duration('log-slow-requests', never),
    slowStatementsMs: reader.duration('log-slow-statements', never),
    ...(tracing === undefined ? {} : { tracing }),
  };
}
