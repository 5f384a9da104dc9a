// Several gateways on one etcd and one file of SQLite, each a process of its own; the way of any of them to the etcd may be held.

import type { ExecutionContext } from 'ava';
import { EtcdClient } from './conformance/client.ts';
import { Proxy } from './faults/proxy.ts';
import { skipped } from './servers/database.ts';
import { startSwitchyard, testDatabase, testEtcd, type Switchyard } from './servers/index.ts';

export interface OneOfSeveral {
  readonly gateway: Switchyard;
  readonly client: EtcdClient;
  /** Between it and the etcd. */
  readonly toEtcd: Proxy;
}

export interface Several {
  readonly gateways: readonly OneOfSeveral[];
  /** The etcd behind them. */
  readonly etcd: EtcdClient;
  /** One more. */
  add(policies: readonly string[]): Promise<OneOfSeveral>;
}

/** A policy for a store that no test uses: it makes the file known to a gateway, and names no type. */
export const spare = 'prefix: { prefix: nothings }';

/**
 * Opens as many gateways as there are topologies: each backend has a policy, in the order of names `store0`, `store1` …, and a file of
 * that name; undefined where the machine has no etcd.
 */
export async function openSeveral(
  t: ExecutionContext,
  topologies: readonly (readonly string[])[],
): Promise<Several | undefined> {
  const etcd = await skipped(() => testEtcd());
  if (etcd === undefined) return undefined;
  t.teardown(() => etcd.dispose());
  const files: string[] = [];
  const fileOf = async (number: number) => {
    while (files.length <= number) {
      const file = (await testDatabase('sqlite'))!;
      t.teardown(() => file.dispose());
      files.push(file.url);
    }
    return files[number]!;
  };
  const add = async (policies: readonly string[]): Promise<OneOfSeveral> => {
    const toEtcd = await Proxy.open(Number(new URL(etcd.endpoint).port));
    t.teardown(() => toEtcd.close());
    const backends: string[] = [];
    for (const [number, policy] of policies.entries())
      backends.push(`  - { name: store${number}, endpoint: '${await fileOf(number)}', ${policy} }\n`);
    const gateway = await startSwitchyard({
      defaultEndpoint: `http://127.0.0.1:${toEtcd.port}`,
      topology: backends.length === 0 ? '{}\n' : `backends:\n${backends.join('')}`,
    });
    t.teardown(() => gateway.dispose());
    return { gateway, toEtcd, client: clientOf(t, gateway.endpoint) };
  };
  // The files first: all of them create tables.
  const gateways: OneOfSeveral[] = [];
  for (const policies of topologies) gateways.push(await add(policies));
  return { gateways, etcd: clientOf(t, etcd.endpoint), add };
}

function clientOf(t: ExecutionContext, endpoint: string): EtcdClient {
  const client = new EtcdClient(endpoint);
  t.teardown(() => client.close());
  return client;
}
