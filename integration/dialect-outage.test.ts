// What is told when the database goes away under a driver, and that the driver recovers by itself. On private servers.

import test from 'ava';
import { SqlFault, type Driver } from '../src/dialect/dialect.ts';
import { dialects, pool } from './stores.ts';
import { privateDatabaseServer, waitFor } from './servers/index.ts';

const statement = (text: string) => ({ name: 'test', text });
const one = statement('SELECT 1 AS one');
const insert = statement('INSERT INTO items (k) VALUES (?)');

async function outcome(work: Promise<unknown>): Promise<unknown> {
  try {
    return await work;
  } catch (error) {
    return error;
  }
}

for (const engine of ['postgres', 'mysql'] as const) {
  const dialect = dialects[engine];
  const { types, tableOptions, forUpdate } = dialect.sql;

  const answers = (driver: Driver) =>
    waitFor(() => driver.query(one, []).then(() => true), { what: `${engine} to answer again` });

  test(`${engine}: a killed server is a lost connection, and the driver recovers`, async (t) => {
    t.timeout(180_000);
    const server = await privateDatabaseServer(engine);
    if (server === undefined) return void t.pass();
    const driver = dialect.open({ url: server.url, pool: { ...pool, connectTimeoutMs: 2_000 } });
    let hints = 0;
    const stop = new AbortController();
    try {
      await driver.query(
        statement(`CREATE TABLE items (k ${types.key} NOT NULL PRIMARY KEY) ${tableOptions}`),
        [],
      );
      const listening = driver.listen?.(() => hints++, stop.signal);
      // Several idle connections, which all break at once.
      await Promise.all(Array.from({ length: 4 }, () => driver.query(one, [])));

      const held = Promise.withResolvers<void>();
      const killed = Promise.withResolvers<void>();
      const inside = outcome(
        driver.transaction('write', async (session) => {
          await session.query(insert, [Buffer.from('never')]);
          held.resolve();
          await killed.promise;
          await session.query(statement(`SELECT k FROM items ${forUpdate}`), []);
        }),
      );
      const atCommit = Promise.withResolvers<void>();
      const committing = outcome(
        driver.transaction('write', async (session) => {
          await session.query(insert, [Buffer.from('perhaps')]);
          atCommit.resolve();
          await killed.promise;
        }),
      );
      const sleep = engine === 'postgres' ? 'SELECT pg_sleep(30)' : 'SELECT SLEEP(30)';
      const reading = outcome(driver.query(statement(sleep), []));
      await Promise.all([held.promise, atCommit.promise]);

      await server.kill();
      killed.resolve();
      t.like(await inside, { kind: 'disconnected', outcomeUnknown: false });
      t.like(await committing, { kind: 'disconnected', outcomeUnknown: true });
      t.like(await reading, { kind: 'disconnected', outcomeUnknown: false });
      const down = await outcome(driver.query(one, []));
      t.true(down instanceof SqlFault && down.kind === 'disconnected', String(down));
      t.like(await outcome(dialect.createDatabase({ url: server.url, pool })), { kind: 'disconnected' });

      const hintsBefore = hints;
      await server.start();
      await answers(driver);
      if (listening !== undefined)
        await waitFor(() => hints > hintsBefore, { what: 'a hint after reconnecting' });
      const { rows } = await driver.query(statement('SELECT k FROM items'), []);
      t.deepEqual(rows, [], 'COMMIT never reached the server');
      await driver.query(insert, [Buffer.from('after')]);
      stop.abort();
      await listening;
    } finally {
      stop.abort();
      await driver.close();
      await server.dispose();
    }
  });

  test(`${engine}: a clean stop and a start of the server cost no more than the requests meanwhile`, async (t) => {
    t.timeout(180_000);
    const server = await privateDatabaseServer(engine);
    if (server === undefined) return void t.pass();
    const driver = dialect.open({ url: server.url, pool: { ...pool, connectTimeoutMs: 2_000 } });
    try {
      await driver.query(one, []);
      await server.stop();
      t.like(await outcome(driver.query(one, [])), { kind: 'disconnected' });
      await server.start();
      await answers(driver);
      t.pass();
    } finally {
      await driver.close();
      await server.dispose();
    }
  });
}
