// A database that refuses one row for a reason of its own (here a trigger): its write fails alone, whichever way the batch goes.

import test from 'ava';
import { fromKey, op, rangeRequest, txnRequest, when } from './conformance/requests.ts';
import { onEachEngine } from './on-each.ts';
import { engines, testDatabase, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';
import type { SqlStore } from '../src/store/sql/sql-store.ts';

const message = 'no b here';

const triggers: Readonly<Record<SqlEngine, readonly string[]>> = {
  sqlite: [
    `CREATE TRIGGER refuse BEFORE INSERT ON switchyard_log WHEN NEW.k = x'62'
      BEGIN SELECT RAISE(ABORT, '${message}'); END`,
  ],
  postgres: [
    `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF NEW.k = '\\x62' THEN RAISE EXCEPTION '${message}'; END IF; RETURN NEW; END $$`,
    'CREATE TRIGGER refuse BEFORE INSERT ON switchyard_log FOR EACH ROW EXECUTE FUNCTION refuse()',
  ],
  mysql: [
    `CREATE TRIGGER refuse BEFORE INSERT ON switchyard_log FOR EACH ROW
      IF NEW.k = 'b' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '${message}'; END IF`,
  ],
};

interface Refusing extends AsyncDisposable {
  readonly store: SqlStore;
}

async function opened(engine: SqlEngine): Promise<Refusing | undefined> {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const store = await openTestStore(database);
  if (engine === 'sqlite') {
    const driver = dialects[engine].open({ url: database.url, pool });
    for (const text of triggers[engine])
      await driver.script([{ statement: { name: 'test', text }, params: [] }]);
    await driver.close();
  } else await engines[engine].administer(database.url, triggers[engine]);
  return {
    store,
    [Symbol.asyncDispose]: async () => {
      await store[Symbol.asyncDispose]();
      await database.dispose();
    },
  };
}

const onEach = onEachEngine(test, opened);

/** With these the batch is evaluated over the key index, and under the lock. */
const ways = { 'single keys': [], 'a range': [when('z', 'mod', '=', 0n, fromKey)] };

for (const [way, compare] of Object.entries(ways)) {
  onEach(`of writes that look at ${way} the refused one fails alone`, async (t, { store }) => {
    const keys = ['a', 'b', 'c', 'd'];
    const writes = keys.map((key) => store.txn(txnRequest({ compare, success: [op.put(key, key)] }), soon()));
    const outcomes = await Promise.allSettled(writes);
    for (const [index, outcome] of outcomes.entries()) {
      if (keys[index] !== 'b') t.is(outcome.status, 'fulfilled');
      else t.regex(outcome.status === 'rejected' ? String(outcome.reason) : 'written', new RegExp(message));
    }
    const { kvs } = await store.range(rangeRequest('a', { rangeEnd: 'e' }), soon());
    t.deepEqual(
      kvs.map(({ key }) => key.toString()),
      ['a', 'c', 'd'],
    );
  });
}
