// Compaction of SQL stores on real databases: what is refused, what stays, and sweeps that fail, race and resume.

import test from 'ava';
import { SqlFault, type Driver } from '../src/dialect/dialect.ts';
import type { RequestOp, Revision } from '../src/etcd/types.ts';
import { systemClock, type Clock } from '../src/lib/clock.ts';
import { silentLogger } from '../src/lib/log.ts';
import { createCompactor } from '../src/store/sql/compactor.ts';
import { bytes, int64 } from '../src/store/sql/row.ts';
import { endOf, op, rangeRequest, txnRequest, watchRequest } from './conformance/requests.ts';
import { guardOf } from './guarantees/guard.ts';
import { onEachEngine } from './on-each.ts';
import { testDatabase, waitFor, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

/** Pauses between attempts and windows take no time; the long one between looks does. */
const hasty: Clock = {
  now: () => systemClock.now(),
  sleep: (ms, signal) => systemClock.sleep(ms > 30_000 ? ms : 0, signal),
};

/** An empty store's database with a driver of our own, and a store on it only while `fill` writes. */
async function opened(engine: SqlEngine) {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const dialect = dialects[engine];
  const driver = dialect.open({ url: database.url, pool });
  const open = () => openTestStore(database);
  return {
    driver,
    open,
    /** Writes one txn for each list of ops; gives the last revision. */
    async fill(txns: readonly (readonly RequestOp[])[]): Promise<Revision> {
      await using store = await open();
      let revision = 1n;
      for (const success of txns) {
        revision = (await store.txn(txnRequest({ success }), soon())).header.revision;
      }
      return revision;
    },
    compactor: (through: Driver = driver) =>
      createCompactor({ driver: through, dialect, clock: hasty, logger: silentLogger }),
    async [Symbol.asyncDispose]() {
      await driver.close();
      await database.dispose();
    },
  };
}

const onEach = onEachEngine(test, opened);

interface LogRow {
  readonly key: string;
  readonly revision: Revision;
  readonly isTombstone: boolean;
}

async function logOf(driver: Driver): Promise<LogRow[]> {
  const text = 'SELECT mod_revision, k, tombstone FROM switchyard_log ORDER BY mod_revision, k';
  const { rows } = await driver.query({ name: 'test', text }, []);
  return rows.map((row) => ({
    key: bytes(row, 'k').toString(),
    revision: int64(row, 'mod_revision'),
    isTombstone: int64(row, 'tombstone') !== 0n,
  }));
}

/** What of `log` somebody may still ask for after a compaction at `target`. */
function needed(log: readonly LogRow[], target: Revision): LogRow[] {
  return log.filter((row) => {
    if (row.revision > target) return true;
    const hasLater = log.some(
      ({ key, revision }) => key === row.key && revision > row.revision && revision <= target,
    );
    return !hasLater && (!row.isTombstone || row.revision === target);
  });
}

async function metaOf(driver: Driver, column: 'swept_revision' | 'compact_revision'): Promise<Revision> {
  const text = `SELECT ${column} FROM switchyard_meta WHERE id = 1`;
  return int64((await driver.query({ name: 'test', text }, [])).rows[0]!, column);
}

/** Several times the rows of a window, one revision with more than a window by itself, keys deleted and made again. */
function longHistory(): RequestOp[][] {
  const key = (n: number) => `k${String(n).padStart(4, '0')}`;
  const all = (value: string) => Array.from({ length: 700 }, (_, n) => op.put(key(n), value));
  return [
    all('1'),
    [op.delete('k', { rangeEnd: endOf('k') })],
    all('2'),
    ...Array.from({ length: 40 }, (_, n) => [op.put('hot', String(n)), op.delete(key(n * 3))]),
    [op.put(key(0), '3')],
    [op.delete(key(1))],
    [op.put('last', '')],
  ];
}

onEach('a compaction is refused at or below the last one and above the present', async (t, on) => {
  await on.fill([[op.put('a')], [op.put('a')], [op.put('b')]]);
  const compactor = on.compactor();
  const compact = (revision: Revision) => compactor.compact({ revision, physical: false }, soon());
  await t.throwsAsync(() => compact(0n), { message: /has been compacted/ });
  await t.throwsAsync(() => compact(5n), { message: /is a future revision/ });
  t.deepEqual(await compact(3n), { revision: 4n });
  await t.throwsAsync(() => compact(3n), { message: /has been compacted/ });
  await t.throwsAsync(() => compact(2n), { message: /has been compacted/ });
  t.deepEqual(await compact(4n), { revision: 4n });
  // Recorded is enough: nothing is swept before the start.
  t.is(await metaOf(on.driver, 'swept_revision'), 0n);
  t.is((await logOf(on.driver)).length, 3);
});

onEach('what nobody can ask for goes, everything else stays', async (t, on) => {
  const last = await on.fill(longHistory());
  const before = await logOf(on.driver);
  const compactor = on.compactor();
  compactor.start();
  // The tombstones of revision 3, a place in the middle, a tombstone near the end, everything.
  for (const target of [3n, 20n, last - 1n, last]) {
    await compactor.compact({ revision: target, physical: true }, soon());
    t.deepEqual(await logOf(on.driver), needed(before, target));
    t.is(await metaOf(on.driver, 'swept_revision'), target);
  }
  await compactor.close();
});

onEach('a deletion at the compact revision can still be watched, as in etcd', async (t, on) => {
  const last = await on.fill([[op.put('a')], [op.put('b')], [op.delete('a')], [op.put('b')]]);
  await using store = await on.open();
  await store.compact({ revision: last - 1n, physical: true }, soon());
  const guard = await guardOf(store, last - 2n);
  const request = watchRequest('a', { startRevision: last - 1n, prevKv: true });
  const watch = await guard.record(store, request, soon());
  for await (const { events } of watch) {
    if (events.length === 0) continue;
    t.is(events.length, 1);
    t.like(events[0], { type: 'delete', kv: { modRevision: last - 1n } });
    t.is(events[0]!.prevKv, undefined);
    break;
  }
  t.deepEqual(await guard.violations(), []);
  t.is((await store.range(rangeRequest('a', { revision: last - 1n }), soon())).count, 0);
});

/** The driver with a database that goes away before every other write transaction, and once after it. */
function flaky(driver: Driver): Driver {
  let count = 0;
  return {
    query: (...call) => driver.query(...call),
    queryForWriter: (...call) => driver.queryForWriter(...call),
    script: (steps) => driver.script(steps),
    writeAfter: (...call) => driver.writeAfter(...call),
    stats: () => driver.stats(),
    close: () => driver.close(),
    async transaction(mode, body, signal) {
      count++;
      if (count % 2 === 0) throw new SqlFault('disconnected', 'gone');
      const result = await driver.transaction(mode, body, signal);
      if (count === 3) throw new SqlFault('disconnected', 'gone', { outcomeUnknown: true });
      return result;
    },
  };
}

onEach('a sweep goes on after outages, and where another process has left it', async (t, on) => {
  const last = await on.fill(longHistory());
  const before = await logOf(on.driver);
  const first = on.compactor();
  await first.compact({ revision: last, physical: false }, soon());
  await first.close();
  // Nobody asks: what was left over is swept from the start on.
  const second = on.compactor(flaky(on.driver));
  second.start();
  await reached(() => metaOf(on.driver, 'swept_revision'), last);
  await second.close();
  t.deepEqual(await logOf(on.driver), needed(before, last));
});

onEach('several processes may sweep at once', async (t, on) => {
  const last = await on.fill(longHistory());
  const before = await logOf(on.driver);
  const compactors = Array.from({ length: 3 }, () => on.compactor());
  await compactors[0]!.compact({ revision: last, physical: false }, soon());
  for (const compactor of compactors) compactor.start();
  await reached(() => metaOf(on.driver, 'swept_revision'), last);
  for (const compactor of compactors) await compactor.close();
  t.deepEqual(await logOf(on.driver), needed(before, last));
});

onEach('who waits for a sweep is told when that is over', async (t, on) => {
  await on.fill([[op.put('a')], [op.put('a')]]);
  const compactor = on.compactor();
  const stop = new AbortController();
  const aborted = compactor.compact({ revision: 2n, physical: true }, stop.signal);
  await reached(() => metaOf(on.driver, 'compact_revision'), 2n);
  const stopped = compactor.compact({ revision: 3n, physical: true }, soon());
  await reached(() => metaOf(on.driver, 'compact_revision'), 3n);
  stop.abort(new Error('enough'));
  await t.throwsAsync(aborted, { message: 'enough' });
  await compactor.close();
  await t.throwsAsync(stopped, { message: 'etcdserver: server stopped' });
});

async function reached(read: () => Promise<Revision>, wanted: Revision): Promise<void> {
  await waitFor(async () => (await read()) >= wanted, { what: `revision ${wanted}`, deadlineMs: 30_000 });
}
