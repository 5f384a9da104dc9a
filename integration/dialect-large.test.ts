// A result of SQLite that is larger than the heap of its thread. In a file of its own: to unpack it takes the processor for a while.

import test from 'ava';
import { testDatabase } from './servers/index.ts';
import { dialects, pool } from './stores.ts';

test('sqlite: a result that is larger than the heap of its thread', async (t) => {
  const database = (await testDatabase('sqlite'))!;
  const driver = dialects.sqlite.open({ url: database.url, pool });
  try {
    const count = 400_000;
    const numbers = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count})`;
    const text = `${numbers} SELECT i, i AS a, i AS b, i AS c, i AS d, zeroblob(40) AS k FROM n`;
    const { rows } = await driver.query({ name: 'test', text }, []);
    t.is(rows.length, count);
    t.is(rows.at(-1)!['i'], BigInt(count));
  } finally {
    await driver.close();
    await database.dispose();
  }
});
