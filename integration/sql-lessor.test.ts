// Leases of SQL stores on real databases. The lessor's clock is driven by the tests, so that what it takes for an outage
// is; leases end by the database's own clock, so tests set their end.

import test, { type ExecutionContext } from 'ava';
import type { LeaseId, PutRequest } from '../src/etcd/types.ts';
import { systemClock } from '../src/lib/clock.ts';
import { silentLogger } from '../src/lib/log.ts';
import { createCommitter } from '../src/store/sql/committer.ts';
import { createLessor } from '../src/store/sql/lessor.ts';
import { FakeClock } from '../src/store/sql/watch-fakes.ts';
import { fromKey, op, rangeRequest, txnRequest, watchRequest } from './conformance/requests.ts';
import { testDatabase, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

const engines: readonly SqlEngine[] = ['sqlite', 'postgres', 'mysql'];

/** A store to write with, and lessors of our own on the same database. */
async function opened(engine: SqlEngine) {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const dialect = dialects[engine];
  // Its own expiry leaves those with a longer TTL than it is old alone, and so nearly all of the tests'.
  const store = await openTestStore(database);
  const driver = dialect.open({ url: database.url, pool });
  const committer = createCommitter({
    driver,
    dialect,
    clock: systemClock,
    logger: silentLogger,
    wantsEvents: () => false,
    committed: () => undefined,
  });
  const run = (text: string, params: readonly bigint[]) => driver.query({ name: 'test', text }, params);
  return {
    store,
    /** With a clock that stands still, and the times of its answers: one for each tick. */
    lessor() {
      const clock = new TickingClock();
      const revoke = committer.revoke.bind(committer);
      const lessor = createLessor({ driver, dialect, clock, logger: silentLogger, revoke });
      return { lessor, clock, [Symbol.asyncDispose]: () => lessor.close() };
    },
    put: (key: string, options: Partial<PutRequest> = {}) =>
      store.txn(
        txnRequest({
          success: [op.put(key, 'v', options.lease === undefined ? {} : { lease: options.lease })],
        }),
        soon(),
      ),
    /** Moves the end of the lease to so long from now. */
    endIn: (id: LeaseId, ms: number) =>
      run(`UPDATE switchyard_lease SET expires_at = ${dialect.sql.nowMs} + ? WHERE id = ?`, [BigInt(ms), id]),
    async keys() {
      const { kvs } = await store.range(rangeRequest('\0', { rangeEnd: fromKey }), soon());
      return kvs.map(({ key }) => key.toString());
    },
    async [Symbol.asyncDispose]() {
      await committer.close();
      await driver.close();
      await store[Symbol.asyncDispose]();
      await database.dispose();
    },
  };
}

type Opened = NonNullable<Awaited<ReturnType<typeof opened>>>;

/** A clock whose owner does one round of work for each tick. */
class TickingClock extends FakeClock {
  #asleep = Promise.withResolvers<void>();

  override sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.#asleep.resolve();
    return super.sleep(ms, signal);
  }

  /** `ms` later the owner works; resolves when it sleeps again. */
  async tick(ms: number): Promise<void> {
    await this.#asleep.promise;
    this.#asleep = Promise.withResolvers();
    this.advance(ms);
    await this.#asleep.promise;
  }

  /** Time passes with a tick every half second. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 500) await this.tick(500);
  }
}

/** One test for each engine; passes where the machine has no such server and the harness has said so. */
function onEach(title: string, body: (t: ExecutionContext, on: Opened) => Promise<void>): void {
  for (const engine of engines) {
    test(`${engine}: ${title}`, async (t) => {
      await using on = await opened(engine);
      if (on === undefined) t.pass();
      else await body(t, on);
    });
  }
}

/** Seconds: longer than any test runs, short enough to pass in ticks. */
const longTtl = 600;

onEach('leases are granted, listed and looked at as in etcd', async (t, on) => {
  await using made = on.lessor();
  const { lessor } = made;
  t.deepEqual(await lessor.grant({ id: 7n, ttlSeconds: 3 * longTtl }, soon()), {
    revision: 1n,
    ttlSeconds: 3 * longTtl,
  });
  // Raised to the shortest there is; the id may be any positive int64.
  t.like(await lessor.grant({ id: 2n ** 63n - 1n, ttlSeconds: -5 }, soon()), { ttlSeconds: 2 });
  await on.endIn(2n ** 63n - 1n, 2 * longTtl * 1000);
  await t.throwsAsync(() => lessor.grant({ id: 7n, ttlSeconds: 10 }, soon()), {
    message: 'etcdserver: lease already exists',
  });
  await t.throwsAsync(() => lessor.grant({ id: 8n, ttlSeconds: 9_000_000_001 }, soon()), {
    message: 'etcdserver: too large lease TTL',
  });
  t.like(await lessor.grant({ id: 9n, ttlSeconds: 9_000_000_000 }, soon()), { ttlSeconds: 9_000_000_000 });
  t.deepEqual(await lessor.leases(soon()), { revision: 1n, ids: [2n ** 63n - 1n, 7n, 9n] });

  for (const key of ['b', 'a', 'c\0', 'c']) await on.put(key, { lease: 7n });
  await on.put('b');
  const found = await lessor.timeToLive({ id: 7n, keys: true }, soon());
  t.is(found.revision, 6n);
  t.is(found.grantedTtlSeconds, 3 * longTtl);
  t.true(found.ttlSeconds > 3 * longTtl - 60 && found.ttlSeconds <= 3 * longTtl);
  t.deepEqual(
    found.keys,
    ['a', 'c', 'c\0'].map((key) => Buffer.from(key)),
  );
  t.deepEqual((await lessor.timeToLive({ id: 7n, keys: false }, soon())).keys, []);
  t.deepEqual(await lessor.timeToLive({ id: 5n, keys: true }, soon()), {
    revision: 6n,
    ttlSeconds: -1,
    grantedTtlSeconds: 0,
    keys: [],
  });
});

onEach('keeping alive gives the whole TTL again, and 0 for what is gone', async (t, on) => {
  await using made = on.lessor();
  const { lessor } = made;
  await lessor.grant({ id: 7n, ttlSeconds: longTtl }, soon());
  await on.endIn(7n, 5_500);
  t.like(await lessor.timeToLive({ id: 7n, keys: false }, soon()), { ttlSeconds: 5 });
  t.deepEqual(await lessor.keepAlive(7n, soon()), { revision: 1n, ttlSeconds: longTtl });
  t.true((await lessor.timeToLive({ id: 7n, keys: false }, soon())).ttlSeconds > longTtl - 60);
  // Over, and its owner comes back before anybody has removed it.
  await on.endIn(7n, -5_000);
  t.like(await lessor.timeToLive({ id: 7n, keys: false }, soon()), { ttlSeconds: 0 });
  t.like(await lessor.keepAlive(7n, soon()), { ttlSeconds: longTtl });
  await on.store.leaseRevoke(7n, soon());
  t.like(await lessor.keepAlive(7n, soon()), { ttlSeconds: 0 });
});

onEach('an adopted lease keeps what remains of it, and is adopted once', async (t, on) => {
  await using made = on.lessor();
  const { lessor } = made;
  await lessor.adopt({ id: 7n, ttlSeconds: 2 * longTtl, remainingSeconds: longTtl }, soon());
  await lessor.adopt({ id: 7n, ttlSeconds: 9 * longTtl, remainingSeconds: 9 * longTtl }, soon());
  const found = await lessor.timeToLive({ id: 7n, keys: false }, soon());
  t.is(found.grantedTtlSeconds, 2 * longTtl);
  t.true(found.ttlSeconds > longTtl - 60 && found.ttlSeconds <= longTtl);
});

onEach('a lease that is over takes its keys along in one revision, in key order', async (t, on) => {
  await using made = on.lessor();
  const { lessor, clock } = made;
  await lessor.grant({ id: 7n, ttlSeconds: longTtl }, soon());
  await lessor.grant({ id: 8n, ttlSeconds: longTtl }, soon());
  for (const key of ['b', 'a', 'c']) await on.put(key, { lease: 7n });
  await on.put('other', { lease: 8n });
  await on.put('moved', { lease: 7n });
  await on.put('moved', { lease: 8n });
  const before = (await on.put('free')).header.revision;
  lessor.start();
  await clock.pass(longTtl * 1000);
  t.is((await on.keys()).length, 6);
  await on.endIn(7n, -1);
  await clock.pass(500);
  t.deepEqual(await on.keys(), ['free', 'moved', 'other']);
  t.deepEqual((await lessor.leases(soon())).ids, [8n]);
  const watch = await on.store.watch(
    watchRequest('\0', { rangeEnd: fromKey, startRevision: before + 1n }),
    soon(),
  );
  for await (const { events } of watch) {
    if (events.length === 0) continue;
    t.deepEqual(
      events.map(({ type, kv }) => `${type} ${kv.key.toString()} ${kv.modRevision}`),
      ['a', 'b', 'c'].map((key) => `delete ${key} ${before + 1n}`),
    );
    break;
  }
});

onEach('nothing expires before its owner had a TTL to renew it', async (t, on) => {
  await using made = on.lessor();
  const { lessor, clock } = made;
  const lives = async (id: LeaseId) => (await lessor.leases(soon())).ids.includes(id);
  for (const [id, ttlSeconds] of [
    [7n, longTtl],
    [8n, 2 * longTtl],
    [9n, longTtl],
  ] as const) {
    await lessor.grant({ id, ttlSeconds }, soon());
    await on.endIn(id, -1);
  }
  lessor.start();
  await clock.pass(longTtl * 1000 - 1_000);
  t.true(await lives(7n));
  // Its owner has made use of the time.
  await lessor.keepAlive(9n, soon());
  await clock.pass(1_000);
  t.false(await lives(7n));
  t.true(await lives(8n));
  t.true(await lives(9n));
  // Three quarters of the short TTL in which nobody could have renewed anything, but less than half of the long one.
  await clock.tick(longTtl * 750);
  await on.endIn(9n, -1);
  await clock.pass(longTtl * 1000 - 500);
  t.true(await lives(9n));
  t.false(await lives(8n));
  await clock.pass(500);
  t.false(await lives(9n));
});

onEach('of two gateways one lets a lease expire', async (t, on) => {
  await using first = on.lessor();
  await using second = on.lessor();
  const both = [first, second];
  for (const { lessor, clock } of both) {
    lessor.start();
    await clock.pass(2_000);
  }
  const ids = Array.from({ length: 100 }, (_, index) => BigInt(index + 1));
  for (const id of ids) {
    await first.lessor.grant({ id, ttlSeconds: 2 }, soon());
    await on.endIn(id, longTtl * 1000);
    await on.put(`k${id}`, { lease: id });
  }
  const before = (await on.put('free')).header.revision;
  for (const id of ids) await on.endIn(id, -1);
  await Promise.all(both.map(({ clock }) => clock.pass(1_000)));
  t.deepEqual(await on.keys(), ['free']);
  t.deepEqual(await first.lessor.leases(soon()), { revision: before + 100n, ids: [] });
});
