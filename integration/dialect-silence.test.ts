// A writer that falls silent within its transaction, as a gateway does that is stopped or cut off: the database ends the transaction
// before others have waited in vain for its lock.

import test from 'ava';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { SilentWriter } from './silent-writer.ts';
import { testDatabase } from './servers/index.ts';
import { dialects, pool } from './stores.ts';

const statement = (text: string) => ({ name: 'test', text });
const insert = statement('INSERT INTO items (k) VALUES (?)');
/** Longer than a test may take. */
const statementTimeoutMs = 600_000;
/** More than the buffers between server and client hold. */
const rowsCount = 24;
const rowBytes = 4 * 1024 * 1024;

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
  const createTable = statement(
    `CREATE TABLE items (k ${types.key} NOT NULL PRIMARY KEY, v ${types.value}) ${tableOptions}`,
  );

  test(`${engine}: a writer that falls silent between two statements loses its transaction, and others write`, async (t) => {
    t.timeout(60_000);
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    const options = { url: database.url, pool: { ...pool, statementTimeoutMs } };
    const [silent, other] = [dialect.open(options), dialect.open(options)];
    try {
      await silent.query(createTable, []);
      await silent.query(insert, [Buffer.from('a')]);
      const locked = Promise.withResolvers<void>();
      const resumed = Promise.withResolvers<void>();
      const paused = outcome(
        silent.transaction('write', async (session) => {
          await session.query(statement(`SELECT k FROM items ${forUpdate}`), []);
          locked.resolve();
          await resumed.promise;
          await session.query(insert, [Buffer.from('never')]);
        }),
      );
      await locked.promise;
      await other.transaction('write', async (session) => {
        await session.query(statement(`SELECT k FROM items ${forUpdate}`), []);
        await session.query(insert, [Buffer.from('b')]);
      });
      resumed.resolve();
      t.like(await paused, { kind: 'disconnected', outcomeUnknown: false });
      const { rows } = await silent.query(statement('SELECT k FROM items ORDER BY k'), []);
      t.deepEqual(rows, [{ k: Buffer.from('a') }, { k: Buffer.from('b') }]);
    } finally {
      await Promise.all([silent.close(), other.close()]);
      await database.dispose();
    }
  });

  test(`${engine}: a writer that falls silent within an answer loses its transaction, and others write`, async (t) => {
    t.timeout(60_000);
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    const { url } = database;
    const other = dialect.open({ url, pool: { ...pool, statementTimeoutMs } });
    const gate = new Int32Array(new SharedArrayBuffer(4));
    const workerData: SilentWriter = { engine, url, statementTimeoutMs, gate };
    try {
      await other.query(createTable, []);
      await other.query(insert, [Buffer.from('lock')]);
      const wide = statement('INSERT INTO items (k, v) VALUES (?, ?)');
      for (let row = 0; row < rowsCount; row++)
        await other.query(wide, [Buffer.from(`wide ${row}`), Buffer.alloc(rowBytes)]);
      const silent = new Worker(new URL('./silent-writer.ts', import.meta.url), { workerData });
      t.deepEqual(await once(silent, 'message'), ['standing']);
      await other.transaction('write', async (session) => {
        const lock = statement(`SELECT k FROM items WHERE k = ? ${forUpdate}`);
        await session.query(lock, [Buffer.from('lock')]);
        await session.query(insert, [Buffer.from('b')]);
      });
      Atomics.store(gate, 0, 1);
      Atomics.notify(gate, 0);
      t.deepEqual(await once(silent, 'message'), [{ kind: 'disconnected', outcomeUnknown: false }]);
      await once(silent, 'exit');
    } finally {
      Atomics.store(gate, 0, 1);
      Atomics.notify(gate, 0);
      await other.close();
      await database.dispose();
    }
  });
}
