// Structured logging on stderr. The message is a constant sentence; what varies goes into the fields.
// Values and credentials are never logged, keys at debug only. Lines that are written while something is done for a request carry its id.

import { worksNow } from './work.ts';

/** From the most to the least that is written. */
export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];
export type LogFormat = 'json' | 'text';
export type LogFields = Readonly<Record<string, unknown>>;

/** error: a person must act; warn: degraded, heals itself; info: life cycle; debug: per request. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** Whether lines of that level are written now: what only they need may be costly. */
  writes(level: LogLevel): boolean;
  /** A logger whose lines also carry `fields`. */
  child(fields: LogFields): Logger;
}

export interface LoggerOptions {
  /** Looked at for each line: whoever holds the options may change it. */
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Receives one line with its newline; default: stderr. */
  readonly write?: (line: string) => void;
}

/** What the log writes, for those who change it. */
export interface LogControl {
  readonly level: LogLevel;
  /** Also for the other processes of the same server. */
  change(level: LogLevel): void;
}

/** Changes the level and tells of it, with `how`: before, where it would not be written afterwards. */
export function changeLevel(logger: Logger, log: LogControl, level: LogLevel, how: LogFields = {}): void {
  const fields = { level, before: log.level, ...how };
  const isWritten = logger.writes('warn');
  if (isWritten) logger.warn('log level changed', fields);
  log.change(level);
  if (!isWritten) logger.warn('log level changed', fields);
}

const severity: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

export function isLogLevel(text: string): text is LogLevel {
  return Object.hasOwn(severity, text);
}

const causesMax = 8;

/** The messages of `error` and its causes, each thing said once: drivers and adapters repeat what they wrap. */
export function errorText(error: Error): string {
  const messages: string[] = [];
  let next: unknown = error;
  for (let depth = 0; depth < causesMax && next instanceof Error; depth++, next = next.cause) {
    const message = next.message || next.name;
    if (messages.some((said) => said.includes(message))) continue;
    // `14 UNAVAILABLE: no leader` says all of `no leader` before it.
    if (messages.length > 0 && message.includes(messages.at(-1)!)) messages.pop();
    messages.push(message);
  }
  return messages.join(': ');
}

/** Errors become their text; bigints become decimal strings. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (Buffer.isBuffer(value)) return value.toString('latin1');
  return value instanceof Error ? errorText(value) : value;
}

/** Requests that a line names, of those that it is about. */
const requestsMax = 5;

/** The requests that something is being done for. */
function requestsNow(): LogFields {
  const works = worksNow();
  if (works.length === 0) return {};
  const ids = [...new Set(works.map(({ request }) => request))].map((request) => request.id);
  if (ids.length === 1) return { request: ids[0] };
  return { requests: ids.slice(0, requestsMax), requestsCount: ids.length };
}

/** A logger that writes one line per call. */
export function createLogger(options: LoggerOptions, bound: LogFields = {}): Logger {
  const write = options.write ?? ((line: string) => void process.stderr.write(line));
  const writes = (level: LogLevel) => severity[level] >= severity[options.level];
  const emit = (level: LogLevel, message: string, fields: LogFields = {}) => {
    if (!writes(level)) return;
    const time = new Date().toISOString();
    const all = Object.entries({ ...bound, ...requestsNow(), ...fields }).map(
      ([name, value]) => [name, plain(value)] as const,
    );
    if (options.format === 'json') {
      const line = JSON.stringify({ time, level, message, ...Object.fromEntries(all) }, (_, value: unknown) =>
        plain(value),
      );
      return write(`${line}\n`);
    }
    const rest = all.map(
      ([name, value]) => ` ${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
    );
    return write(`${time} ${level.toUpperCase().padEnd(5)} ${message}${rest.join('')}\n`);
  };
  return {
    debug: (message, fields) => emit('debug', message, fields),
    info: (message, fields) => emit('info', message, fields),
    warn: (message, fields) => emit('warn', message, fields),
    error: (message, fields) => emit('error', message, fields),
    writes,
    child: (fields) => createLogger(options, { ...bound, ...fields }),
  };
}

/** Discards everything; for tests. */
export const silentLogger: Logger = createLogger({ level: 'error', format: 'json', write: () => undefined });
