// A gateway that is started while its database takes no writes: it reads, and writes as soon as the database does.

import test from 'ava';
import { op, rangeRequest, txnRequest } from './conformance/requests.ts';
import { engines, testDatabase } from './servers/index.ts';
import { openTestStore, soon } from './stores.ts';

test('postgres: a store that is opened on a read-only database reads, and writes when that is over', async (t) => {
  t.timeout(60_000);
  const database = await testDatabase('postgres');
  if (database === undefined) return void t.pass();
  const name = new URL(database.url).pathname.slice(1);
  const set = (isReadOnly: boolean) =>
    engines.postgres.administer(database.url, [
      'SET default_transaction_read_only = off',
      `ALTER DATABASE ${name} SET default_transaction_read_only = ${isReadOnly ? 'on' : 'off'}`,
    ]);
  const put = txnRequest({ success: [op.put('a', 'x')] });
  try {
    {
      await using before = await openTestStore(database);
      await before.txn(put, soon());
    }
    await set(true);
    await using store = await openTestStore(database);
    t.is((await store.range(rangeRequest('a'), soon())).count, 1);
    const refused = await t.throwsAsync(store.txn(put, soon()));
    t.is(refused.message, 'switchyard: the database takes no writes now');
    await set(false);
    t.is((await store.txn(put, soon())).header.revision, 3n);
  } finally {
    await database.dispose();
  }
});
