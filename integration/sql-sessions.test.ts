// What administrators may do to the sessions of a store without anybody being told: cancel their statements, end them, limit how
// long they wait for locks.

import test from 'ava';
import type { Dialect, Driver } from '../src/dialect/dialect.ts';
import { op, rangeRequest, txnRequest } from './conformance/requests.ts';
import { testDatabase, waitFor } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

const statement = (text: string) => ({ name: 'test', text });

/** Those that wait for a lock of the database at hand. */
const waiting = {
  postgres: `SELECT pid AS id FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
  mysql: `SELECT id AS id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()
    AND command <> 'Sleep' AND info LIKE '%switchyard_meta%'`,
};
const ending = {
  postgres: { canceled: 'SELECT pg_cancel_backend(ID)', ended: 'SELECT pg_terminate_backend(ID)' },
  mysql: { canceled: 'KILL QUERY ID', ended: 'KILL CONNECTION ID' },
};

for (const engine of ['postgres', 'mysql'] as const) {
  const dialect = dialects[engine];

  for (const how of ['canceled', 'ended'] as const) {
    test(`${engine}: a batch whose statement is ${how} by an administrator is tried again`, async (t) => {
      const database = await testDatabase(engine);
      if (database === undefined) return void t.pass();
      const store = await openTestStore({ engine, url: database.url });
      const tool = dialect.open({ url: database.url, pool });
      try {
        await store.txn(txnRequest({ success: [op.put('a', '1')] }), soon());
        // Over the index, where that is built by now; and under the lock, where ranges are always read.
        for (const [value, also] of [
          ['2', []],
          ['3', [op.range('a', { rangeEnd: 'b' })]],
          ['4', [op.range('a', { rangeEnd: 'b' })]],
        ] as const) {
          let put: Promise<unknown> | undefined;
          await tool.transaction('write', async (session) => {
            await session.query(statement(`SELECT id FROM switchyard_meta ${dialect.sql.forUpdate}`), []);
            put = store.txn(txnRequest({ success: [op.put('a', value), ...also] }), soon());
            const id = await waitFor(
              async () => (await tool.query(statement(waiting[engine]), [])).rows[0]?.['id'] ?? undefined,
              { what: 'the batch to wait for the lock' },
            );
            await tool.query(statement(ending[engine][how].replace('ID', String(id))), []);
          });
          await put;
        }
        const { kvs } = await store.range(rangeRequest('a'), soon());
        t.deepEqual(
          kvs.map(({ value, version }) => `${value.toString()} v${version}`),
          ['4 v4'],
        );
      } finally {
        await tool.close();
        await store[Symbol.asyncDispose]();
        await database.dispose();
      }
    });
  }
}

test('postgres: a role that may hardly wait for locks waits for its turn all the same', async (t) => {
  const database = await testDatabase('postgres');
  if (database === undefined) return void t.pass();
  const name = new URL(database.url).pathname.slice(1);
  const tool = dialects.postgres.open({ url: database.url, pool });
  const driver = dialects.postgres.open({ url: database.url, pool });
  try {
    await tool.query(statement(`ALTER DATABASE ${name} SET lock_timeout = '1ms'`), []);
    const { rows } = await driver.query(statement(`SELECT current_setting('lock_timeout') AS wait`), []);
    t.deepEqual(rows, [{ wait: '0' }]);
  } finally {
    await Promise.all([driver.close(), tool.close()]);
    await database.dispose();
  }
});

test('mysql: nobody waits for a lock as long as a statement may take', async (t) => {
  const database = await testDatabase('mysql');
  if (database === undefined) return void t.pass();
  const driver = dialects.mysql.open({ url: database.url, pool });
  try {
    const waits = 'SELECT @@innodb_lock_wait_timeout AS ofRows, @@lock_wait_timeout AS ofTables';
    const { rows } = await driver.query(statement(waits), []);
    t.deepEqual(rows, [{ ofRows: 5n, ofTables: 5n }]);
    t.true(pool.statementTimeoutMs > 5_000);
  } finally {
    await driver.close();
    await database.dispose();
  }
});

test('mysql: a read whose table is rebuilt under it is done again', async (t) => {
  const database = await testDatabase('mysql');
  if (database === undefined) return void t.pass();
  const tool = dialects.mysql.open({ url: database.url, pool });
  let rebuilds = 0;
  const open: Dialect['open'] = (options) => {
    const driver = dialects.mysql.open(options);
    const transaction: Driver['transaction'] = (mode, body, signal) =>
      driver.transaction(
        mode,
        (session) =>
          body({
            finish: (steps) => session.finish(steps),
            query: async (one, params) => {
              const result = await session.query(one, params);
              // The snapshot is there, and no row of this table has been read.
              if (mode === 'read' && rebuilds++ === 0)
                await tool.query(statement('ALTER TABLE switchyard_current FORCE'), []);
              return result;
            },
          }),
        signal,
      );
    return {
      query: driver.query.bind(driver),
      queryForWriter: driver.queryForWriter.bind(driver),
      transaction,
      writeAfter: driver.writeAfter.bind(driver),
      script: driver.script.bind(driver),
      stats: () => driver.stats(),
      close: driver.close.bind(driver),
    };
  };
  const store = await openTestStore(
    { engine: 'mysql', url: database.url },
    { dialect: { ...dialects.mysql, open } },
  );
  try {
    await store.txn(txnRequest({ success: [op.put('a', '1')] }), soon());
    const { responses } = await store.txn(txnRequest({ success: [op.range('a')] }), soon());
    const [answer] = responses;
    t.is(answer?.type === 'range' ? answer.response.kvs[0]?.value.toString() : undefined, '1');
    t.true(rebuilds > 1);
  } finally {
    await tool.close();
    await store[Symbol.asyncDispose]();
    await database.dispose();
  }
});
