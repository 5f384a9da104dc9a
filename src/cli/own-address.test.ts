// A gateway recognises itself among its stores, by any name.

import test from 'ava';
import { parseListenUrl } from '../lib/listen-url.ts';
import type { Backend } from '../store/store.ts';
import { ownAddressProblems, type AddressSource } from './own-address.ts';

const names: Readonly<Record<string, readonly string[]>> = {
  vm: ['127.0.0.1'],
  host: ['fe80::1', '10.0.0.7'],
  far: ['10.0.0.99'],
};
const source: AddressSource = {
  lookup: async (host) => {
    const found = names[host] ?? (/^[\d.:a-f]+$/u.test(host) ? [host] : undefined);
    if (found === undefined) throw new Error(`unknown name ${host}`);
    return found;
  },
  local: () => ['127.0.0.1', '::1', '10.0.0.7'],
};

async function isOwn(url: string, listen: string): Promise<boolean> {
  const backend: Backend = { name: 'default', engine: 'etcd', url, displayUrl: url, pool: {} };
  const problems = await ownAddressProblems([backend], [parseListenUrl(listen)!], source);
  return problems.length > 0;
}

test('an address of this machine with the same port is its own', async (t) => {
  for (const [url, listen] of [
    ['http://vm:12999', 'http://127.0.0.1:12999'],
    ['http://vm:12999', 'http://0.0.0.0:12999'],
    ['http://host:12999', 'http://[::]:12999'],
    ['http://10.0.0.7:12999', 'http://0.0.0.0:12999'],
    ['http://10.0.0.7:12999', 'http://host:12999'],
    ['http://far:12999,http://localhost:12999', 'http://127.0.0.1:12999'],
    ['http://0.0.0.0:12999', 'http://127.0.0.1:12999'],
    ['http://localhost', 'http://127.0.0.1:2379'],
  ] as const)
    t.true(await isOwn(url, listen), `${url} at ${listen}`);
});

test('another port, another machine and an unknown name are not', async (t) => {
  for (const [url, listen] of [
    ['http://vm:12998', 'http://127.0.0.1:12999'],
    ['http://far:12999', 'http://0.0.0.0:12999'],
    ['http://nowhere:12999', 'http://0.0.0.0:12999'],
    ['http://10.0.0.7:12999', 'http://127.0.0.1:12999'],
    ['http://vm:12999', 'http://10.0.0.7:12999'],
  ] as const)
    t.false(await isOwn(url, listen), `${url} at ${listen}`);
});
