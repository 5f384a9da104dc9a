// What a gateway does first on a server that has taken over: it lifts the store exactly where something that it knows is not part of
// the history that goes on.

import test from 'ava';
import { silentLogger } from '../src/lib/log.ts';
import { createEnter } from '../src/store/sql/epochs.ts';
import { op, txnRequest } from './conformance/requests.ts';
import { testDatabase } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

const revision = 20n;
/** Where the history of the new server began. */
const begun = 10n;

const cases = [
  { told: 10n, compacted: 5n, isLifted: false, why: 'nothing is missing' },
  { told: 11n, compacted: 5n, isLifted: true, why: 'a revision that was told has come again' },
  { told: 15n, compacted: 17n, isLifted: false, why: 'what was told is compacted, so it is read anew' },
  { told: 15n, compacted: 16n, isLifted: true, why: 'what was told is the state that reading goes on from' },
  { told: 15n, compacted: 15n, isLifted: true, why: 'what was told is compacted, but is still gone on from' },
];

for (const { told, compacted, isLifted, why } of cases) {
  test(`a store told up to ${told} and compacted at ${compacted} is ${isLifted ? '' : 'not '}lifted: ${why}`, async (t) => {
    const database = (await testDatabase('sqlite'))!;
    const store = await openTestStore(database);
    const driver = dialects.sqlite.open({ url: database.url, pool });
    try {
      await store.raiseRevision!(begun, soon());
      const [before, after] = [1n, 2n].map((timeline) => ({ lineage: 7n, timeline }));
      const entered = (seen: bigint) =>
        createEnter({ dialect: dialects.sqlite, logger: silentLogger, told: () => seen });
      const enter = (seen: bigint) =>
        driver.transaction('write', (session) => entered(seen)(session, after!, before));
      await enter(0n);
      while ((await store.status(soon())).revision < revision)
        await store.txn(txnRequest({ success: [op.put('a', 'x')] }), soon());
      await store.compact({ revision: compacted, physical: false }, soon());
      await enter(told);
      const { revision: found, compactRevision } = await store.status(soon());
      t.is(found > revision, isLifted);
      t.is(compactRevision, isLifted ? found : compacted);
    } finally {
      await driver.close();
      await store[Symbol.asyncDispose]();
      await database.dispose();
    }
  });
}
