// The log's level over HTTP: who may change it, and to what.

import test from 'ava';
import type { LogLevel } from '../lib/log.ts';
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
