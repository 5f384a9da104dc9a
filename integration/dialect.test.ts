// The seam of the dialects on real databases: types, upserts, transactions, faults and locks must look the same on all.
// What an engine loses in an outage is in dialect-outage.test.ts.

import test, { type ExecutionContext } from 'ava';
import { SqlFault, type Driver, type SqlFaultKind, type SqlValue } from '../src/dialect/dialect.ts';
import { dialects, pool } from './stores.ts';
import { testDatabase, waitFor, type SqlEngine } from './servers/index.ts';

interface Bench {
  readonly engine: SqlEngine;
  readonly url: string;
  readonly driver: Driver;
  readonly run: (text: string, ...params: SqlValue[]) => ReturnType<Driver['query']>;
}

const statement = (text: string) => ({ name: 'test', text });

/** A fresh database with a table `items (k, v, n)`. */
async function withBench(
  engine: SqlEngine,
  t: ExecutionContext,
  body: (bench: Bench) => Promise<void>,
): Promise<void> {
  const database = await testDatabase(engine);
  if (database === undefined) return void t.pass();
  const { url } = database;
  const dialect = dialects[engine];
  const driver = dialect.open({ url, pool });
  const run: Bench['run'] = (text, ...params) => driver.query(statement(text), params);
  try {
    const { key, value, int64 } = dialect.sql.types;
    await run(
      `CREATE TABLE items (k ${key} NOT NULL PRIMARY KEY, v ${value}, n ${int64}) ${dialect.sql.tableOptions}`,
    );
    await body({ engine, url, driver, run });
  } finally {
    await driver.close();
    await database.dispose();
  }
}

async function faultOf(t: ExecutionContext, work: Promise<unknown>): Promise<SqlFault> {
  const error = await t.throwsAsync(work);
  if (!(error instanceof SqlFault)) throw new Error('Expected a SqlFault', { cause: error });
  return error;
}

async function failsWith(t: ExecutionContext, kind: SqlFaultKind, work: Promise<unknown>): Promise<void> {
  const fault = await faultOf(t, work);
  t.is(fault.kind, kind, fault.message);
}

const engines: readonly SqlEngine[] = ['sqlite', 'postgres', 'mysql'];
const servers = ['postgres', 'mysql'] as const;

for (const engine of engines) {
  const { sql, can } = dialects[engine];
  const upsert = (rows: string) => sql.upsert('items', ['k', 'v', 'n'], ['k'], `VALUES ${rows}`);

  test(`${engine}: values come back as they went in`, (t) =>
    withBench(engine, t, async ({ run }) => {
      const big = Buffer.alloc(
        1.5 * 1024 * 1024,
        Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
      );
      const cases: [Buffer, Buffer | null, bigint | null][] = [
        [Buffer.from([0]), Buffer.alloc(0), 2n ** 63n - 1n],
        [Buffer.from([0, 0, 0xff]), big, -(2n ** 63n)],
        [Buffer.from('ä?\'"\\'), Buffer.from([0, 0x27, 0x5c, 0xff]), 2n ** 53n + 1n],
        [Buffer.alloc(can.keyBytesMax, 0xff), null, null],
      ];
      for (const row of cases) await run('INSERT INTO items (k, v, n) VALUES (?, ?, ?)', ...row);
      for (const [k, v, n] of cases) {
        const { rows } = await run('SELECT k, v, n FROM items WHERE k = ?', k);
        t.is(rows.length, 1);
        t.true(k.equals(rows[0]!['k'] as Buffer));
        const value = rows[0]!['v'];
        t.true(v === null ? value === null : Buffer.isBuffer(value) && v.equals(value));
        t.is(rows[0]!['n'], n);
        if (n !== null) {
          t.is((await run('SELECT k FROM items WHERE n = ?', n)).rows.length, 1, 'compared exactly');
          const neighbour = n < 0n ? n + 1n : n - 1n;
          t.is((await run('SELECT k FROM items WHERE n = ?', neighbour)).rows.length, 0);
        }
      }
      const all = await run(`SELECT COUNT(*) AS count, MAX(n) AS highest, SUM(1) AS total FROM items`);
      t.deepEqual(all.rows, [{ count: 4n, highest: 2n ** 63n - 1n, total: 4n }]);
      const inOrder = await run('SELECT k FROM items WHERE k >= ? ORDER BY k', Buffer.from([0, 0]));
      t.deepEqual(
        inOrder.rows.map(({ k }) => (k as Buffer)[0]),
        [0, 0xc3, 0xff],
      );
      const { rows } = await run(`SELECT ${sql.nowMs} AS now`);
      const now = rows[0]!['now'];
      t.true(typeof now === 'bigint' && Math.abs(Number(now) - Date.now()) < 60_000, String(now));
      const size = (await run(sql.size)).rows[0]!;
      t.true(typeof size['size'] === 'bigint' && size['size'] > 0n);
      t.true(typeof size['used'] === 'bigint' && size['used'] <= Number(size['size']));
    }));

  test(`${engine}: upsert replaces, insertIgnore keeps, affected counts what matched`, (t) =>
    withBench(engine, t, async ({ run }) => {
      const [a, b] = [Buffer.from('a'), Buffer.from('b')];
      await run(upsert('(?, ?, ?), (?, ?, ?)'), a, null, 1n, b, null, 2n);
      await run(upsert('(?, ?, ?)'), a, Buffer.from('x'), 3n);
      const insertIgnore = sql.insertIgnore('items', ['k', 'v', 'n'], '(?, ?, ?)');
      t.is((await run(insertIgnore, a, null, 9n)).affected, 0);
      t.is((await run(insertIgnore, Buffer.from('c'), null, 4n)).affected, 1);
      const { rows } = await run('SELECT n FROM items ORDER BY k');
      t.deepEqual(rows, [{ n: 3n }, { n: 2n }, { n: 4n }]);
      t.is((await run('UPDATE items SET n = 3 WHERE k = ?', a)).affected, 1, 'matched though unchanged');
      t.is((await run('UPDATE items SET n = 5 WHERE k = ?', Buffer.from('z'))).affected, 0);
      t.is((await run('DELETE FROM items')).affected, 3);
      t.is((await run('SELECT k FROM items')).affected, 0);
    }));

  test(`${engine}: many rows in one statement, and a large result`, (t) =>
    withBench(engine, t, async ({ run }) => {
      const value = Buffer.alloc(4096, 7);
      const names = Array.from({ length: 1000 }, (_, index) => Buffer.from(`key-${index}`));
      const marks = names.map(() => '(?, ?, ?)').join(', ');
      t.is((await run(upsert(marks), ...names.flatMap((name) => [name, value, 1n]))).affected, 1000);
      const { rows } = await run('SELECT k, v FROM items');
      t.is(rows.length, 1000);
      t.true(rows.every(({ v }) => Buffer.isBuffer(v) && v.equals(value)));
    }));

  test(`${engine}: a transaction is kept whole or not at all`, (t) =>
    withBench(engine, t, async ({ driver, run }) => {
      const insert = statement('INSERT INTO items (k, n) VALUES (?, ?)');
      const answer = await driver.transaction('write', async (session) => {
        await session.query(insert, [Buffer.from('a'), 1n]);
        return (await session.query(statement('SELECT n FROM items'), [])).rows.length;
      });
      t.is(answer, 1, 'it sees its own writes');
      const reason = new Error('changed my mind');
      const rolledBack = driver.transaction('write', async (session) => {
        await session.query(insert, [Buffer.from('b'), 1n]);
        throw reason;
      });
      t.is(await t.throwsAsync(rolledBack), reason);
      // A failed statement spoils it even when the body does not mind.
      const swallowed = driver.transaction('write', async (session) => {
        await session.query(insert, [Buffer.from('c'), 1n]);
        await session.query(insert, [Buffer.from('a'), 1n]).catch(() => undefined);
      });
      await failsWith(t, 'unique-violation', swallowed);
      await failsWith(t, 'unique-violation', driver.query(insert, [Buffer.from('a'), 2n]));
      t.deepEqual((await run('SELECT k FROM items')).rows, [{ k: Buffer.from('a') }]);
      await failsWith(t, 'other', run('SELECT nothing FROM nowhere'));
      await t.throwsAsync(
        driver.transaction('read', (session) => session.query(insert, [Buffer.from('r'), 1n])),
      );
      t.is((await run('SELECT k FROM items')).rows.length, 1, 'a read transaction wrote nothing');
    }));

  test(`${engine}: a read transaction sees one moment, a write transaction the latest`, (t) =>
    withBench(engine, t, async ({ driver, run }) => {
      const count = statement('SELECT COUNT(*) AS count FROM items');
      const add = (name: string) => run('INSERT INTO items (k) VALUES (?)', Buffer.from(name));
      await add('a');
      await driver.transaction('read', async (session) => {
        t.deepEqual((await session.query(count, [])).rows, [{ count: 1n }]);
        await add('b');
        t.deepEqual((await session.query(count, [])).rows, [{ count: 1n }]);
      });
      if (engine === 'sqlite') return;
      await driver.transaction('write', async (session) => {
        t.deepEqual((await session.query(count, [])).rows, [{ count: 2n }]);
        await add('c');
        t.deepEqual((await session.query(count, [])).rows, [{ count: 3n }]);
      });
    }));

  test(`${engine}: one writer at a time behind FOR UPDATE`, (t) =>
    withBench(engine, t, async ({ url, driver, run }) => {
      // A driver of its own, as another process has one.
      const other = dialects[engine].open({ url, pool });
      try {
        await run('INSERT INTO items (k, n) VALUES (?, 0)', Buffer.from('counter'));
        const lock = statement(`SELECT n FROM items ${sql.forUpdate}`);
        const increment = (on: Driver) =>
          on.transaction('write', async (session) => {
            const n = (await session.query(lock, [])).rows[0]!['n'] as bigint;
            await session.query(statement('UPDATE items SET n = ?'), [n + 1n]);
          });
        await Promise.all(
          Array.from({ length: 20 }, (_, index) => increment(index % 2 === 0 ? driver : other)),
        );
        t.deepEqual((await run('SELECT n FROM items')).rows, [{ n: 20n }]);
      } finally {
        await other.close();
      }
    }));

  test(`${engine}: an abort ends the wait, and the driver goes on`, (t) =>
    withBench(engine, t, async ({ driver, run }) => {
      const abort = new AbortController();
      const reason = new Error('no longer wanted');
      const held = Promise.withResolvers<void>();
      const release = Promise.withResolvers<void>();
      const holder = driver.transaction('write', async (session) => {
        await session.query(statement('INSERT INTO items (k) VALUES (?)'), [Buffer.from('a')]);
        held.resolve();
        await release.promise;
      });
      await held.promise;
      const waiting = driver.query(
        statement('INSERT INTO items (k) VALUES (?)'),
        [Buffer.from('a')],
        abort.signal,
      );
      abort.abort(reason);
      t.is(await t.throwsAsync(waiting), reason);
      release.resolve();
      await holder;
      t.is((await run('SELECT k FROM items')).rows.length, 1);
      t.is(await t.throwsAsync(driver.query(statement('SELECT 1 AS one'), [], abort.signal)), reason);
    }));

  test(`${engine}: close waits for what is running and refuses what comes after`, (t) =>
    withBench(engine, t, async ({ url, run }) => {
      const driver = dialects[engine].open({ url, pool });
      const started = Promise.withResolvers<void>();
      const release = Promise.withResolvers<void>();
      const work = driver.transaction('write', async (session) => {
        await session.query(statement('INSERT INTO items (k) VALUES (?)'), [Buffer.from('a')]);
        started.resolve();
        await release.promise;
      });
      await started.promise;
      const closing = driver.close();
      await failsWith(t, 'disconnected', driver.query(statement('SELECT 1 AS one'), []));
      release.resolve();
      await Promise.all([work, closing, driver.close()]);
      t.is((await run('SELECT k FROM items')).rows.length, 1);
    }));

  test(`${engine}: more requests than connections all get their turn`, (t) =>
    withBench(engine, t, async ({ url }) => {
      const driver = dialects[engine].open({ url, pool: { ...pool, connectionsMax: 2 } });
      try {
        const answers = await Promise.all(
          Array.from({ length: 200 }, (_, index) =>
            driver.query(statement('SELECT ? + 0 AS n'), [BigInt(index)]),
          ),
        );
        t.deepEqual(
          answers.map(({ rows }) => Number(rows[0]!['n'])),
          Array.from({ length: 200 }, (_, index) => index),
        );
      } finally {
        await driver.close();
      }
    }));
}

for (const engine of servers) {
  const dialect = dialects[engine];

  test(`${engine}: a deadlock is told as one`, (t) =>
    withBench(engine, t, async ({ driver, run }) => {
      const [a, b] = [Buffer.from('a'), Buffer.from('b')];
      await run('INSERT INTO items (k, n) VALUES (?, 0), (?, 0)', a, b);
      const update = statement('UPDATE items SET n = n + 1 WHERE k = ?');
      let holding = 0;
      const cross = (first: Buffer, second: Buffer) =>
        driver.transaction('write', async (session) => {
          await session.query(update, [first]);
          holding++;
          await waitFor(() => holding === 2, { what: 'both to hold a row' });
          await session.query(update, [second]);
        });
      const outcomes = await Promise.allSettled([cross(a, b), cross(b, a)]);
      const failed = outcomes.filter((outcome) => outcome.status === 'rejected');
      t.is(failed.length, 1);
      t.like(failed[0]!.reason, { kind: 'deadlock', outcomeUnknown: false });
    }));

  test(`${engine}: a statement that takes too long ends by the server's own limit`, (t) =>
    withBench(engine, t, async ({ url }) => {
      const driver = dialect.open({ url, pool: { ...pool, statementTimeoutMs: 1_000 } });
      const sleep = engine === 'postgres' ? 'SELECT pg_sleep(20)' : 'SELECT SLEEP(20) FROM items';
      try {
        await driver.query(statement('INSERT INTO items (k) VALUES (?)'), [Buffer.from('a')]);
        const began = performance.now();
        const fault = await faultOf(t, driver.query(statement(sleep), []));
        t.is(fault.kind, 'timeout', fault.message);
        t.true(performance.now() - began < 5_000);
        t.is((await driver.query(statement('SELECT k FROM items'), [])).rows.length, 1);
      } finally {
        await driver.close();
      }
    }));

  test(`${engine}: a write transaction does not queue behind readers`, (t) =>
    withBench(engine, t, async ({ driver, run }) => {
      await run('INSERT INTO items (k, n) VALUES (?, 0)', Buffer.from('a'));
      const sleep = engine === 'postgres' ? 'SELECT pg_sleep(20)' : 'SELECT SLEEP(20) FROM items';
      const stop = new AbortController();
      const readers = Array.from({ length: pool.connectionsMax * 2 }, () =>
        t.throwsAsync(driver.query(statement(sleep), [], stop.signal)),
      );
      // Would fail after the pool's five seconds.
      const increment = statement('UPDATE items SET n = n + 1');
      await driver.transaction('write', (session) => session.query(increment, []));
      stop.abort(new Error('enough'));
      await Promise.all(readers);
      t.deepEqual((await run('SELECT n FROM items')).rows, [{ n: 1n }]);
    }));

  test(`${engine}: a missing database is created, by two at once, and used`, (t) =>
    withBench(engine, t, async ({ url, run }) => {
      const missing = new URL(url);
      missing.pathname += '_new"`x';
      const options = { url: missing.href, pool };
      const driver = dialect.open(options);
      try {
        await failsWith(t, 'refused', driver.query(statement('SELECT 1 AS one'), []));
        await Promise.all([dialect.createDatabase(options), dialect.createDatabase(options)]);
        await dialect.createDatabase(options);
        t.is((await driver.query(statement('SELECT 1 AS one'), [])).rows.length, 1);
      } finally {
        await driver.close();
        const name = decodeURIComponent(missing.pathname.slice(1));
        const quoted =
          engine === 'postgres' ? `"${name.replaceAll('"', '""')}"` : `\`${name.replaceAll('`', '``')}\``;
        await run(`DROP DATABASE IF EXISTS ${quoted}`);
      }
    }));

  test(`${engine}: a wrong password is refused, and is not in the message`, (t) =>
    withBench(engine, t, async ({ url }) => {
      const wrong = new URL(url);
      wrong.password = 'not-the-secret';
      const options = { url: wrong.href, pool };
      const driver = dialect.open(options);
      try {
        for (const work of [
          driver.query(statement('SELECT 1 AS one'), []),
          dialect.createDatabase(options),
        ]) {
          const fault = await faultOf(t, work);
          t.is(fault.kind, 'refused');
          t.false(`${fault.message} ${String(fault.cause)}`.includes('not-the-secret'));
        }
      } finally {
        await driver.close();
      }
    }));
}

test('postgres: other drivers hear of a commit, the own one does not', (t) =>
  withBench('postgres', t, async ({ url, driver }) => {
    const { notify } = dialects.postgres.sql;
    const other = dialects.postgres.open({ url, pool });
    const stop = new AbortController();
    const hints = { own: 0, others: 0 };
    const listening = [
      driver.listen!(() => hints.own++, stop.signal),
      other.listen!(() => hints.others++, stop.signal),
    ];
    try {
      await waitFor(() => hints.own === 1 && hints.others === 1, { what: 'a hint after connecting' });
      const announce = (on: Driver) =>
        on.transaction(
          'write',
          async (session) => void (await session.query(statement(`SELECT ${notify}`), [])),
        );
      await announce(driver);
      await waitFor(() => hints.others === 2, { what: 'the other driver to be told' });
      await announce(other);
      await waitFor(() => hints.own === 2, { what: 'the first driver to be told' });
      t.deepEqual(hints, { own: 2, others: 2 });
    } finally {
      stop.abort();
      await Promise.all(listening);
      await other.close();
    }
  }));

test('mysql: a statement above max_allowed_packet is told as too large, and nothing is lost', (t) =>
  withBench('mysql', t, async ({ driver, run }) => {
    const { rows } = await run('SELECT @@max_allowed_packet AS bytes');
    const bytes = Number(rows[0]!['bytes']);
    const insert = statement('INSERT INTO items (k, v) VALUES (?, ?)');
    await driver.query(insert, [Buffer.from('fits'), Buffer.alloc(bytes - 4096)]);
    await failsWith(t, 'too-large', driver.query(insert, [Buffer.from('too large'), Buffer.alloc(bytes)]));
    t.is((await run('SELECT k FROM items')).rows.length, 1);
  }));
