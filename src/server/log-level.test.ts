// The log's level over HTTP: who may change it, and to what.

import test from 'ava';
import { once } from 'node:events';
import { connect } from 'node:net';
import { createLogger, type LogLevel } from '../lib/log.ts';
import { MemoryStore, memoryRouter, TestGateway } from './server-fakes.ts';

const path = '/debug/flags/log-level';

test('log level: PUT on the metrics port changes it, GET tells it, and nothing else is taken', async (t) => {
  const changes: LogLevel[] = [];
  const log = {
    get level(): LogLevel {
      return changes.at(-1) ?? 'info';
    },
    change: (level: LogLevel) => void changes.push(level),
  };
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')), { log });
  t.teardown(() => gateway.close());
  const [url] = gateway.server.metricsUrls;
  const put = async (body: string, to = url) => {
    const response = await fetch(`${to}${path}`, { method: 'PUT', body });
    return `${response.status} ${await response.text()}`;
  };
  t.is(await (await fetch(`${url}${path}`)).text(), 'info\n');
  t.is(await put('debug'), '200 successfully set log-level to debug\n');
  t.is(await (await fetch(`${url}${path}`)).text(), 'debug\n');
  t.is(await put('warn\n'), '200 successfully set log-level to warn\n');
  t.is(await put('loud'), '400 Expected debug, info, warn, error as the body\n');
  t.is(await put('debug'.repeat(100_000)), '400 Expected debug, info, warn, error as the body\n');
  t.is((await fetch(`${url}${path}`, { method: 'POST', body: 'info' })).status, 405);
  // Where clients of keys come, nobody can.
  t.is(await put('debug', gateway.server.clientUrls[0]), '405 Expected GET or HEAD\n');
  t.is((await fetch(`${gateway.server.clientUrls[0]}${path}`)).status, 404);
  t.deepEqual(changes, ['debug', 'warn']);
});

test('log level: a body that is too long is taken to its end, and one that breaks off is no error', async (t) => {
  const lines: string[] = [];
  const logger = createLogger({ level: 'info', format: 'json', write: (line) => void lines.push(line) });
  const log = { level: 'info', change: () => t.fail() } as const;
  const gateway = await TestGateway.start(memoryRouter(new MemoryStore('default')), { log, logger });
  t.teardown(() => gateway.close());
  const port = Number(new URL(gateway.server.metricsUrls[0]!).port);
  const begin = async (head: string) => {
    const socket = connect(port, '127.0.0.1').setEncoding('latin1');
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    socket.write(`PUT ${path} HTTP/1.1\r\nHost: a\r\n${head}`);
    // Whoever is asked now has been sent that before.
    await fetch(`http://127.0.0.1:${port}/livez`);
    return socket;
  };
  const long = await begin(`Content-Length: 3000000\r\n\r\n${'x'.repeat(500)}`);
  // The next request on the same connection is seen.
  long.write(`${'x'.repeat(2_999_500)}GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
  let answers = '';
  for await (const part of long) answers += String(part);
  t.regex(answers, /^HTTP\/1\.1 400 .*HTTP\/1\.1 200 /su);
  const gone = await begin('Content-Length: 50\r\n\r\nwarn');
  gone.resetAndDestroy();
  await once(gone, 'close');
  for (let turn = 0; turn < 5; turn++) await fetch(`http://127.0.0.1:${port}/livez`);
  t.deepEqual(
    lines.filter((line) => line.includes('HTTP request failed')),
    [],
  );
});
