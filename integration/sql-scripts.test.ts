// Batches that are written over the key index: what happens when the answer to one is lost, when others write meanwhile, and
// when the database is not what it was. The locked way is in sql-committer.test.ts.

import test from 'ava';
import { SqlFault, type Dialect, type Step } from '../src/dialect/dialect.ts';
import type { Store } from '../src/store/store.ts';
import { op, rangeRequest, txnRequest, watchRequest, when } from './conformance/requests.ts';
import { onEachEngine } from './on-each.ts';
import { testDatabase, waitFor, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

/** What becomes of the next script: `committed` and `lost` get no answer, `late` comes only when `arrive` is called. */
type Fate = 'answered' | 'committed' | 'lost' | 'late';

interface Scripts {
  next: Fate;
  count: number;
  arrive: () => Promise<void>;
}

function watched(dialect: Dialect): { readonly dialect: Dialect; readonly scripts: Scripts } {
  const scripts: Scripts = { next: 'answered', count: 0, arrive: () => Promise.resolve() };
  const open: Dialect['open'] = (options) => {
    const driver = dialect.open(options);
    const script = async (steps: readonly Step[]) => {
      scripts.count++;
      const fate = scripts.next;
      scripts.next = 'answered';
      if (fate === 'late') scripts.arrive = () => driver.script(steps);
      else if (fate !== 'lost') await driver.script(steps);
      if (fate !== 'answered') throw new SqlFault('disconnected', 'No answer', { outcomeUnknown: true });
    };
    return {
      query: driver.query.bind(driver),
      queryForWriter: driver.queryForWriter.bind(driver),
      transaction: driver.transaction.bind(driver),
      writeAfter: driver.writeAfter.bind(driver),
      script,
      stats: () => driver.stats(),
      close: driver.close.bind(driver),
    };
  };
  return { dialect: { ...dialect, open }, scripts };
}

async function opened(engine: SqlEngine) {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const { dialect, scripts } = watched(dialects[engine]);
  const at = { engine, url: database.url };
  const store = await openTestStore(at, { dialect });
  const other = await openTestStore(at, { memberId: 8n });
  const driver = dialects[engine].open({ url: database.url, pool });
  const put = (key: string, value = 'x', options = {}) =>
    store.txn(txnRequest({ success: [op.put(key, value, options)] }), soon());
  return {
    store,
    other,
    scripts,
    driver,
    put,
    create: (key: string) =>
      store.txn(txnRequest({ compare: [when(key, 'mod', '=', 0n)], success: [op.put(key, 'x')] }), soon()),
    /** Writes until a write goes over the index. */
    warmUp: async () => {
      const before = scripts.count;
      await waitFor(async () => (await put('warm'), scripts.count > before), {
        what: 'a batch over the index',
      });
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([store[Symbol.asyncDispose](), other[Symbol.asyncDispose](), driver.close()]);
      await database.dispose();
    },
  };
}

const onEach = onEachEngine(test, opened);

async function pairs(store: Store): Promise<string[]> {
  const { kvs } = await store.range(rangeRequest('a', { rangeEnd: 'w' }), soon());
  return kvs.map(({ key, version, value }) => `${key.toString()} ${version} ${value.toString()}`);
}

onEach(
  'a script without an answer is found, or done again',
  async (t, { store, scripts, warmUp, create }) => {
    await warmUp();
    const { header } = await create('a');
    scripts.next = 'committed';
    const b = await create('b');
    t.deepEqual([b.succeeded, b.header.revision - header.revision], [true, 1n]);
    await warmUp();
    scripts.next = 'lost';
    t.true((await create('c')).succeeded);
    t.deepEqual(await pairs(store), ['a 1 x', 'b 1 x', 'c 1 x']);
  },
);

onEach('a script that arrives after it was looked for is refused', async (t, on) => {
  await on.warmUp();
  on.scripts.next = 'late';
  t.true((await on.create('a')).succeeded);
  const fault = await t.throwsAsync(on.scripts.arrive(), { instanceOf: SqlFault });
  t.is(fault.kind, 'not-null-violation');
  await on.warmUp();
  on.scripts.next = 'late';
  t.true((await on.put('b', 'late', { prevKv: true })).succeeded);
  await t.throwsAsync(on.scripts.arrive(), { instanceOf: SqlFault });
  t.deepEqual(await pairs(on.other), ['a 1 x', 'b 1 late']);
});

onEach('what others write is seen by the next batch', async (t, { other, warmUp, store }) => {
  const swap = (by: Store, key: string, version: bigint) =>
    by.txn(
      txnRequest({
        compare: [when(key, 'version', '=', version)],
        success: [op.put(key, `${version + 1n}`, { prevKv: true })],
        failure: [op.range(key)],
      }),
      soon(),
    );
  await warmUp();
  for (let version = 0n; version < 20n; version++) {
    const by = version % 2n === 0n ? store : other;
    const behind = version % 2n === 0n ? other : store;
    t.true((await swap(by, 'a', version)).succeeded);
    const failed = await swap(behind, 'a', version);
    t.false(failed.succeeded);
    t.like(failed.responses[0], { type: 'range', response: { count: 1 } });
  }
  t.deepEqual(await pairs(store), ['a 20 20']);
});

onEach('a lease that is gone is not taken to be there', async (t, { store, other, warmUp, put, scripts }) => {
  await store.leaseGrant({ id: 5n, ttl: 60 }, soon());
  await warmUp();
  await put('a', 'x', { lease: 5n });
  await warmUp();
  const before = scripts.count;
  await put('b', 'x', { lease: 5n });
  t.is(scripts.count, before + 1);
  await other.leaseRevoke(5n, soon());
  await t.throwsAsync(put('c', 'x', { lease: 5n }), { message: 'etcdserver: requested lease not found' });
  // Revoked without keys, and so without a revision.
  await other.leaseGrant({ id: 6n, ttl: 60 }, soon());
  await warmUp();
  await other.leaseRevoke(6n, soon());
  await t.throwsAsync(put('c', 'x', { lease: 6n }), { message: 'etcdserver: requested lease not found' });
  t.deepEqual(await pairs(other), []);
});

onEach('commits that were lost are not built upon', async (t, { store, other, warmUp, put, driver }) => {
  await warmUp();
  const { header } = await put('a', 'lost');
  const lost = header.revision;
  await driver.transaction('write', async (session) => {
    const run = (text: string, ...params: (bigint | Buffer)[]) =>
      session.query({ name: 'test', text }, params);
    await run('DELETE FROM switchyard_log WHERE mod_revision >= ?', lost);
    await run('DELETE FROM switchyard_current WHERE mod_revision >= ?', lost);
    await run('UPDATE switchyard_meta SET revision = ?, writer = 1, batch = 1 WHERE id = 1', lost - 1n);
  });
  // Another gateway, which knows nothing of it, takes the revision again.
  const again = await other.txn(txnRequest({ success: [op.put('a', 'other')] }), soon());
  t.is(again.header.revision, lost);
  const compared = await store.txn(
    txnRequest({
      compare: [when('a', 'value', '=', 'lost')],
      success: [op.put('a', '')],
      failure: [op.range('a')],
    }),
    soon(),
  );
  t.false(compared.succeeded);
  const [found] = compared.responses;
  t.is(found?.type === 'range' ? found.response.kvs[0]?.value.toString() : undefined, 'other');
  await warmUp();
  const put2 = await put('a', 'new', { prevKv: true });
  const [replaced] = put2.responses;
  t.is(replaced?.type === 'put' ? replaced.response.prevKv?.value.toString() : undefined, 'other');
  t.deepEqual(await pairs(store), ['a 2 new']);
  const { count } = await store.range(rangeRequest('a', { rangeEnd: 'w', countOnly: true }), soon());
  t.is(count, 1);
});

onEach('a watcher gets the pairs before, in memory or not', async (t, { store, other, warmUp, put }) => {
  // Written by somebody else, so that this store has no value in memory.
  await other.txn(txnRequest({ success: [op.put('a', '1'), op.put('b', '1')] }), soon());
  await warmUp();
  const stop = new AbortController();
  const { header } = await store.range(rangeRequest('a'), soon());
  const watch = await store.watch(
    watchRequest('a', { rangeEnd: 'w', startRevision: header.revision + 1n, prevKv: true }),
    stop.signal,
  );
  await put('a', '2');
  await put('a', '3');
  await store.txn(txnRequest({ success: [op.delete('b'), op.put('c', '1')] }), soon());
  const seen: string[] = [];
  for await (const { events } of watch) {
    for (const { type, kv, prevKv } of events)
      seen.push(`${type} ${kv.key.toString()} after ${prevKv?.value.toString() ?? 'nothing'}`);
    if (seen.length >= 4) break;
  }
  t.deepEqual(seen, ['put a after 1', 'put a after 2', 'delete b after 1', 'put c after nothing']);
  stop.abort();
});
