// Transactions that a server does not begin, as when somebody cancels just that statement: what was to come in them leaves no trace.

import test from 'ava';
import { SqlFault, type Step } from '../src/dialect/dialect.ts';
import { Proxy } from './faults/proxy.ts';
import { testDatabase } from './servers/index.ts';
import { dialects, pool } from './stores.ts';

const step = (text: string, ...params: bigint[]): Step => ({ statement: { name: 'test', text }, params });
const begins = { postgres: 'BEGIN', mysql: 'START TRANSACTION' };

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
