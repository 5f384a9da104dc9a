// Where histories are played: a fresh database of each engine, and a real etcd, which proves the model right.

import { systemClock } from '../../src/lib/clock.ts';
import { silentLogger } from '../../src/lib/log.ts';
import { openEtcdStore } from '../../src/store/etcd/etcd-store.ts';
import { createCommitter } from '../../src/store/sql/write/committer.ts';
import { nothingKnown } from '../../src/store/sql/write/live-reader.ts';
import { skipped } from '../servers/database.ts';
import { testDatabase, testEtcd, type SqlEngine } from '../servers/index.ts';
import { dialects, openTestStore, pool } from '../stores.ts';
import type { Place } from './session.ts';

/** Undefined where the machine has no such server and the harness has said so. */
export async function sqlPlace(engine: SqlEngine): Promise<Place | undefined> {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const dialect = dialects[engine];
  await (await openTestStore(database))[Symbol.asyncDispose]();
  const driver = dialect.open({ url: database.url, pool });
  // One more writer: a lessor, but one that acts when it is told to.
  const committer = createCommitter({
    driver,
    dialect,
    clock: systemClock,
    logger: silentLogger,
    index: nothingKnown,
    wantsEvents: () => false,
    committed: () => undefined,
  });
  const text = 'UPDATE switchyard_lease SET expires_at = expires_at - ?';
  return {
    open: () => openTestStore(database),
    time: {
      pass: async (seconds) => void (await driver.query({ name: 'test', text }, [BigInt(seconds) * 1000n])),
      expire: (id) => committer.revoke(id, { onlyIfExpired: true }),
    },
    losesAnswers: false,
    isOrderOfEqualsOpen: false,
    async dispose() {
      await committer.close();
      await driver.close();
      await database.dispose();
    },
  };
}

/** Undefined where the machine cannot run one and the harness has said so. */
export async function etcdPlace(): Promise<Place | undefined> {
  const etcd = await skipped(() => testEtcd());
  if (etcd === undefined) return undefined;
  return {
    open: async () => openEtcdStore({ name: 'etcd', url: etcd.endpoint, logger: silentLogger }),
    losesAnswers: true,
    isOrderOfEqualsOpen: true,
    dispose: () => etcd.dispose(),
  };
}
