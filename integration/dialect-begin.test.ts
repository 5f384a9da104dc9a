// Transactions that do not come to their beginning or their end: a server that refuses to begin, as when somebody cancels just that
// statement, and SQLite that has undone all by itself or finds no file. What was to come in them leaves no trace.

import { renameSync } from 'node:fs';
import test from 'ava';
import { SqlFault, type Step } from '../src/dialect/dialect.ts';
import { parseSqliteUrl } from '../src/dialect/sqlite.ts';
import { Proxy } from './faults/proxy.ts';
import { testDatabase } from './servers/index.ts';
import { dialects, pool } from './stores.ts';

const step = (text: string, ...params: bigint[]): Step => ({ statement: { name: 'test', text }, params });
const begins = { postgres: 'BEGIN', mysql: 'START TRANSACTION' };

/** A SQLite file with one row in a table. */
async function opened() {
  const database = (await testDatabase('sqlite'))!;
  const driver = dialects.sqlite.open({ url: database.url, pool });
  await driver.query(step('CREATE TABLE items (n integer NOT NULL PRIMARY KEY)').statement, []);
  await driver.script([step('INSERT INTO items (n) VALUES (?)', 1n)]);
  return {
    driver,
    path: parseSqliteUrl(database.url),
    [Symbol.asyncDispose]: async () => {
      await driver.close();
      await database.dispose();
    },
  };
}

for (const engine of ['postgres', 'mysql'] as const) {
  test(`${engine}: what follows a beginning that the server refuses is not done by itself`, async (t) => {
    t.timeout(60_000);
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    const url = new URL(database.url);
    const proxy = await Proxy.open(Number(url.port));
    url.host = `127.0.0.1:${proxy.port}`;
    const driver = dialects[engine].open({ url: url.href, pool });
    try {
      const read = step('SELECT n FROM items');
      const stored = async () => (await driver.query(read.statement, [])).rows;
      await driver.query(step('CREATE TABLE items (n bigint NOT NULL)').statement, []);
      await driver.script([step('INSERT INTO items (n) VALUES (?)', 1n)]);
      const guard = step('UPDATE items SET n = CASE WHEN n = ? THEN n + ? END', 1n, 1n);
      const last = step('UPDATE items SET n = n + ?', 10n);
      let refused = 0;
      proxy.judge((piece, direction) => {
        const at = direction === 'toServer' ? piece.indexOf(begins[engine]) : -1;
        if (at >= 0) refused += piece.write('?', at);
        return 'pass';
      });
      await t.throwsAsync(driver.script([guard, last]), { instanceOf: SqlFault });
      await t.throwsAsync(
        driver.writeAfter([read], async (session) => session.finish([last])),
        { instanceOf: SqlFault },
      );
      t.is(refused, 2);
      t.deepEqual(await stored(), [{ n: 1n }]);
      proxy.judge(undefined);
      await driver.script([guard, last]);
      t.deepEqual(await stored(), [{ n: 12n }]);
    } finally {
      await driver.close();
      await proxy.close();
      await database.dispose();
    }
  });
}

test('sqlite: a beginning of which a step has undone all is told as what failed', async (t) => {
  await using database = await opened();
  const { driver } = database;
  const failing = step('INSERT OR ROLLBACK INTO items (n) VALUES (?)', 1n);
  const fault = await t.throwsAsync(
    driver.writeAfter([failing], () => Promise.reject(new Error('Expected not to be called'))),
    { instanceOf: SqlFault },
  );
  t.is(fault.kind, 'unique-violation');
  await driver.script([step('INSERT INTO items (n) VALUES (?)', 2n)]);
});

test('sqlite: an end of a transaction that finds its file moved away leaves none behind', async (t) => {
  await using database = await opened();
  const { driver, path } = database;
  const fault = await t.throwsAsync(
    driver.transaction('write', async (session) => {
      session.finish([step('INSERT INTO items (n) VALUES (?)', 2n)]);
      renameSync(path, `${path}.moved`);
    }),
    { instanceOf: SqlFault },
  );
  t.is(fault.kind, 'refused');
  t.false(fault.outcomeUnknown);
  renameSync(`${path}.moved`, path);
  await driver.script([step('INSERT INTO items (n) VALUES (?)', 3n)]);
  const { rows } = await driver.query(step('SELECT n FROM items ORDER BY n').statement, []);
  t.deepEqual(rows, [{ n: 1n }, { n: 3n }]);
});
