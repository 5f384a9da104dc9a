// What a line says of an error.

import test from 'ava';
import { changeLevel, createLogger, errorText, type LogLevel } from './log.ts';

function chain(...messages: readonly string[]): Error {
  const [message, ...rest] = messages;
  return rest.length === 0 ? new Error(message) : new Error(message, { cause: chain(...rest) });
}

test('a line gives an error with its causes', (t) => {
  const lines: string[] = [];
  const logger = createLogger({ level: 'info', format: 'json', write: (line) => lines.push(line) });
  logger.warn('call failed', { error: chain('request timed out', 'connection refused') });
  t.like(JSON.parse(lines[0]!), { error: 'request timed out: connection refused' });
});

test('a cause that repeats what wraps it is left out', (t) => {
  t.is(errorText(chain('bad password', 'bad password')), 'bad password');
  t.is(errorText(chain('No connection: bad password', 'bad password')), 'No connection: bad password');
  t.is(
    errorText(chain('timed out', 'No connection: refused', 'refused')),
    'timed out: No connection: refused',
  );
  t.is(errorText(chain('no leader', '14 UNAVAILABLE: no leader')), '14 UNAVAILABLE: no leader');
});

test('an error without a message gives its name, and a ring of causes ends', (t) => {
  t.is(errorText(new TypeError('')), 'TypeError');
  const error = new Error('around');
  error.cause = error;
  t.is(errorText(error), 'around');
});

test('a change of the level is written, to a level that leaves it out as well as from one', (t) => {
  const lines: object[] = [];
  const options: { level: LogLevel; readonly format: 'json'; write: (line: string) => void } = {
    level: 'info',
    format: 'json',
    write: (line) => lines.push(JSON.parse(line) as object),
  };
  const logger = createLogger(options);
  const log = {
    get level() {
      return options.level;
    },
    change: (level: LogLevel) => void (options.level = level),
  };
  changeLevel(logger, log, 'error');
  t.is(log.level, 'error');
  changeLevel(logger, log, 'debug', { signal: 'SIGUSR2' });
  t.is(lines.length, 2);
  t.like(lines[0], { message: 'log level changed', level: 'error', before: 'info' });
  t.like(lines[1], { message: 'log level changed', level: 'debug', before: 'error', signal: 'SIGUSR2' });
});
