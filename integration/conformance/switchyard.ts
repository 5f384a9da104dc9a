// switchyard as a target of the suite: one store behind it, as its default.

import { startSwitchyard, testDatabase, testEtcd, type SqlEngine } from '../servers/index.ts';
import { skipped } from '../servers/database.ts';
import { progressNotifySeconds, type Target } from './suite.ts';

const notifyInterval = `--watch-progress-notify-interval=${progressNotifySeconds}`;

/** switchyard with everything in a fresh database; undefined: a skip was announced. */
export async function onDatabase(engine: SqlEngine): Promise<Target | undefined> {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  return behind(database.url, () => database.dispose());
}

/** switchyard in front of a fresh etcd; undefined: a skip was announced. */
export async function throughEtcd(release: 'etcd' | 'etcd-next' = 'etcd'): Promise<Target | undefined> {
  const etcd = await skipped(() => testEtcd({ release, args: [`${notifyInterval}s`] }));
  if (etcd === undefined) return undefined;
  return { ...(await behind(etcd.endpoint, () => etcd.dispose())), isEtcd: true };
}

/**
 * switchyard with the keys of the tests in a database by a rule and the rest in an etcd: leases are granted in one and used
 * in the other. Undefined: a skip was announced.
 */
export async function byRule(engine: SqlEngine): Promise<Target | undefined> {
  const database = await testDatabase(engine);
  const etcd = await skipped(() => testEtcd({ args: [`${notifyInterval}s`] }));
  const drop = async () => {
    await database?.dispose();
    await etcd?.dispose();
  };
  if (database === undefined || etcd === undefined) {
    await drop();
    return undefined;
  }
  const topology = `backends:
  - name: placed
    endpoint: ${database.url}
    prefix: { prefix: conformance }
`;
  const target = await behind(etcd.endpoint, drop, topology);
  return { ...target, root: '/registry/conformance/', isPart: true };
}

async function behind(
  defaultEndpoint: string,
  drop: () => Promise<void>,
  topology?: string,
): Promise<Target> {
  try {
    const switchyard = await startSwitchyard({
      defaultEndpoint,
      args: [notifyInterval],
      ...(topology === undefined ? {} : { topology }),
    });
    const dispose = async () => {
      await switchyard.dispose();
      await drop();
    };
    return { endpoint: switchyard.endpoint, dispose };
  } catch (error) {
    await drop();
    throw error;
  }
}
