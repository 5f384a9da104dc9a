// What a gateway leaves behind for others when it fails half-way: no lock, no transaction, no long work under the lock.

import test from 'ava';
import type { Dialect, Driver, Session } from '../src/dialect/dialect.ts';
import { ensureSchema } from '../src/store/sql/schema/schema.ts';
import { op, rangeRequest, txnRequest, watchRequest, when } from './conformance/requests.ts';
import { guardOf } from './guarantees/guard.ts';
import { testDatabase, waitFor, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

const engines: readonly SqlEngine[] = ['sqlite', 'postgres', 'mysql'];
const statement = (text: string) => ({ name: 'test', text });

for (const engine of engines) {
  const dialect = dialects[engine];

  test(`${engine}: tables that could not all be created hold nobody up`, async (t) => {
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    const failing: Dialect = {
      ...dialect,
      sql: { ...dialect.sql, insertIgnore: () => 'INSERT INTO switchyard_meta (nonsense) VALUES (1)' },
    };
    const options = { url: database.url, pool: { ...pool, statementTimeoutMs: 20_000 } };
    const first = dialect.open(options);
    const second = dialect.open(options);
    try {
      await t.throwsAsync(ensureSchema(first, failing));
      const { clusterId } = await ensureSchema(second, dialect, { signal: AbortSignal.timeout(15_000) });
      t.is((await ensureSchema(first, dialect)).clusterId, clusterId);
    } finally {
      await Promise.all([first.close(), second.close()]);
      await database.dispose();
    }
  });

  test(`${engine}: tables that several processes create at once are one store`, async (t) => {
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    const drivers = Array.from({ length: 3 }, () => dialect.open({ url: database.url, pool }));
    try {
      const stores = await Promise.all(drivers.map((driver) => ensureSchema(driver, dialect)));
      t.is(new Set(stores.map(({ clusterId }) => clusterId)).size, 1);
    } finally {
      await Promise.all(drivers.map((driver) => driver.close()));
      await database.dispose();
    }
  });

  test(`${engine}: a pair whose value is lost is not served as an empty one`, async (t) => {
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    // One that has the value in memory would not miss it.
    const writer = await openTestStore({ engine, url: database.url });
    await writer.txn(txnRequest({ success: [op.put('a', ''), op.put('b', 'x')] }), soon());
    await writer[Symbol.asyncDispose]();
    const store = await openTestStore({ engine, url: database.url });
    const driver = dialect.open({ url: database.url, pool });
    try {
      const all = await store.range(rangeRequest('a', { rangeEnd: 'c' }), soon());
      t.deepEqual(
        all.kvs.map(({ value }) => value.toString()),
        ['', 'x'],
      );
      await driver.query(statement('DELETE FROM switchyard_log WHERE k = ?'), [Buffer.from('b')]);
      const lost = { message: /value of a pair/ };
      await t.throwsAsync(store.range(rangeRequest('a', { rangeEnd: 'c' }), soon()), lost);
      await t.throwsAsync(store.range(rangeRequest('b'), soon()), lost);
      await t.throwsAsync(
        store.txn(txnRequest({ compare: [when('b', 'value', '=', '')], success: [op.range('b')] }), soon()),
        lost,
      );
      await t.throwsAsync(
        store.txn(txnRequest({ success: [op.put('b', 'y', { prevKv: true })] }), soon()),
        lost,
      );
      // What does not need the value heals it.
      await store.txn(txnRequest({ success: [op.delete('b')] }), soon());
      t.is((await store.range(rangeRequest('a', { rangeEnd: 'c' }), soon())).count, 1);
    } finally {
      await driver.close();
      await store[Symbol.asyncDispose]();
      await database.dispose();
    }
  });

  test(`${engine}: after lost commits every watch starts anew, above what was seen`, async (t) => {
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    const stores = [
      await openTestStore({ engine, url: database.url }),
      await openTestStore({ engine, url: database.url }, { memberId: 8n }),
    ] as const;
    const driver = dialect.open({ url: database.url, pool });
    try {
      const request = watchRequest('', { rangeEnd: '\0', startRevision: 1n });
      const guards = await Promise.all(stores.map((store) => guardOf(store)));
      const seen = await Promise.all(
        stores.map(async (store, index) => ({
          keys: [] as string[],
          watch: await guards[index]!.record(store, request, soon()),
        })),
      );
      const ended = seen.map(async ({ keys, watch }) => {
        for await (const { events } of watch) keys.push(...events.map(({ kv }) => kv.key.toString()));
      });
      for (const key of ['a', 'b', 'c', 'd']) {
        await stores[0].txn(txnRequest({ success: [op.put(key, 'v')] }), soon());
      }
      await waitFor(() => seen.every(({ keys }) => keys.length === 4), { what: 'both watches to see all' });
      for (const guard of guards) t.deepEqual(await guard.violations(), []);
      // As in a replica that had not got the last two when it took over.
      await driver.transaction('write', async (session) => {
        await session.query(statement('DELETE FROM switchyard_log WHERE mod_revision > 3'), []);
        await session.query(statement('DELETE FROM switchyard_current WHERE mod_revision > 3'), []);
        await session.query(statement('UPDATE switchyard_meta SET revision = 3 WHERE id = 1'), []);
      });
      for (const end of ended) await t.throwsAsync(end, { message: /has been compacted/ });
      for (const store of stores) {
        const list = await store.range(rangeRequest('a', { rangeEnd: 'e' }), soon());
        t.is(list.count, 2);
        t.true(list.header.revision > 5n);
        const put = await store.txn(txnRequest({ success: [op.put('e', 'v')] }), soon());
        t.is(put.header.revision, list.header.revision + 1n);
        const guard = await guardOf(store, put.header.revision - 1n);
        const again = { ...request, startRevision: put.header.revision };
        const watch = await guard.record(store, again, soon());
        for await (const { events } of watch) {
          t.deepEqual(
            events.map(({ kv }) => kv.modRevision),
            [put.header.revision],
          );
          break;
        }
        t.deepEqual(await guard.violations(), []);
      }
    } finally {
      await driver.close();
      for (const store of stores) await store[Symbol.asyncDispose]();
      await database.dispose();
    }
  });

  test(`${engine}: a lease with many keys is revoked in few statements`, async (t) => {
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    const { counted, count } = countingStatements(dialect);
    const store = await openTestStore({ engine, url: database.url }, { dialect: counted });
    try {
      await store.leaseGrant({ id: 5n, ttl: 600 }, soon());
      await store.leaseGrant({ id: 6n, ttl: 600 }, soon());
      const keys = Array.from({ length: 500 }, (_, index) => `k${String(index).padStart(3, '0')}`);
      await store.txn(txnRequest({ success: keys.map((key) => op.put(key, 'v', { lease: 5n })) }), soon());
      // Keys of another lease, and of none any more, stay.
      await store.txn(
        txnRequest({ success: [op.put('k000', 'v', { lease: 6n }), op.put('k001', 'v')] }),
        soon(),
      );
      const before = count();
      await store.leaseRevoke(5n, soon());
      t.true(count() - before < 20, `${count() - before} statements`);
      const { kvs } = await store.range(rangeRequest('k', { rangeEnd: 'l' }), soon());
      t.deepEqual(
        kvs.map(({ key }) => key.toString()),
        ['k000', 'k001'],
      );
      t.deepEqual((await store.leaseTimeToLive({ id: 6n, keys: true }, soon())).keys, [Buffer.from('k000')]);
    } finally {
      await store[Symbol.asyncDispose]();
      await database.dispose();
    }
  });
}

for (const engine of ['postgres', 'mysql'] as const) {
  const dialect = dialects[engine];

  test(`${engine}: a transaction whose gateway says no more is ended by the server`, async (t) => {
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    const options = { url: database.url, pool: { ...pool, statementTimeoutMs: 2_000 } };
    const silent = dialect.open(options);
    const other = dialect.open({ url: database.url, pool });
    const resume = Promise.withResolvers<void>();
    try {
      await ensureSchema(other, dialect);
      const lock = statement(`SELECT revision FROM switchyard_meta WHERE id = 1 ${dialect.sql.forUpdate}`);
      const locked = Promise.withResolvers<void>();
      const abandoned = silent.transaction('write', async (session) => {
        await session.query(lock, []);
        locked.resolve();
        await resume.promise;
      });
      const outcome = abandoned.then(
        () => 'committed',
        () => 'failed',
      );
      await locked.promise;
      await other.transaction('write', (session) => session.query(lock, []), AbortSignal.timeout(20_000));
      resume.resolve();
      t.is(await outcome, 'failed');
    } finally {
      resume.resolve();
      await Promise.all([silent.close(), other.close()]);
      await database.dispose();
    }
  });
}

/** The dialect with a count of the statements in its transactions. */
function countingStatements(dialect: Dialect): { readonly counted: Dialect; readonly count: () => number } {
  let statements = 0;
  const open: Dialect['open'] = (options) => {
    const driver = dialect.open(options);
    const counting = (session: Session): Session => ({
      query: (one, params) => {
        statements++;
        return session.query(one, params);
      },
      finish: (steps) => {
        statements += steps.length;
        session.finish(steps);
      },
    });
    const transaction: Driver['transaction'] = (mode, body, signal) =>
      driver.transaction(mode, (session) => body(counting(session)), signal);
    const writeAfter: Driver['writeAfter'] = (opening, body) => {
      statements += opening.length;
      return driver.writeAfter(opening, (session, opened) => body(counting(session), opened));
    };
    const script: Driver['script'] = (steps) => {
      statements += steps.length;
      return driver.script(steps);
    };
    return {
      query: driver.query.bind(driver),
      queryForWriter: driver.queryForWriter.bind(driver),
      transaction,
      writeAfter,
      script,
      stats: () => driver.stats(),
      close: driver.close.bind(driver),
    };
  };
  return { counted: { ...dialect, open }, count: () => statements };
}
