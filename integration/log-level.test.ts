// How much is logged is changed while switchyard runs, by a signal and over HTTP, and of several processes all follow.

import test from 'ava';
import { EtcdClient } from './conformance/client.ts';
import { childrenOf } from './servers/children.ts';
import { startSwitchyard, waitFor } from './servers/index.ts';

const path = '/debug/flags/log-level';
const levelAt = async (url: string) => (await (await fetch(`${url}${path}`)).text()).trim();

test('a signal turns debugging on, and off again', async (t) => {
  const gateway = await startSwitchyard({ args: ['--log-level', 'warn'] });
  t.teardown(() => gateway.dispose());
  const isAt = (level: string) => async () => (await levelAt(gateway.metricsUrl)) === level;
  t.is(await levelAt(gateway.metricsUrl), 'warn');
  process.kill(gateway.pid, 'SIGUSR2');
  await waitFor(isAt('debug'), { what: 'debugging' });
  const client = new EtcdClient(gateway.endpoint);
  t.teardown(() => client.close());
  await t.throwsAsync(client.range(''));
  await waitFor(() => gateway.logs().includes('call failed'), { what: 'a line for debugging' });
  process.kill(gateway.pid, 'SIGUSR2');
  await waitFor(isAt('warn'), { what: 'the level of the start' });
});

test('of several workers all follow, those that begin later too', async (t) => {
  const gateway = await startSwitchyard({ args: ['--workers', '2'] });
  t.teardown(() => gateway.dispose());
  const { port, hostname } = new URL(gateway.metricsUrl);
  const urls = [gateway.metricsUrl, `http://${hostname}:${Number(port) + 1}`];
  const areAt = (level: string) => async () => {
    const levels = await Promise.all(urls.map((url) => levelAt(url).catch(() => 'away')));
    return levels.every((found) => found === level);
  };
  await waitFor(areAt('info'), { what: 'both workers' });
  t.is((await fetch(`${urls[1]}${path}`, { method: 'PUT', body: 'debug' })).status, 200);
  await waitFor(areAt('debug'), { what: 'debugging in both' });
  process.kill(gateway.pid, 'SIGUSR2');
  await waitFor(areAt('info'), { what: 'the level of the start in both' });
  t.is((await fetch(`${urls[0]}${path}`, { method: 'PUT', body: 'warn' })).status, 200);
  await waitFor(areAt('warn'), { what: 'fewer lines in both' });
  const pids = childrenOf(gateway.pid);
  t.is(pids.length, 2);
  process.kill(pids[1]!, 'SIGKILL');
  await waitFor(() => childrenOf(gateway.pid).some((pid) => !pids.includes(pid)), {
    what: 'another worker',
  });
  await waitFor(areAt('warn'), { what: 'the same level in the new worker' });
});
