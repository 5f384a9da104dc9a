// Leases of SQL stores on real databases. The lessor's clock is driven by the tests, so that what it takes for an outage
// is; leases end by the database's own clock, so tests set their end.

import test from 'ava';
import type { Event, LeaseId, PutRequest, Revision } from '../src/etcd/types.ts';
import { systemClock } from '../src/lib/clock.ts';
import { silentLogger } from '../src/lib/log.ts';
import { createCommitter } from '../src/store/sql/write/committer.ts';
import { createLessor, type FindLease } from '../src/store/sql/lease/lessor.ts';
import { nothingKnown } from '../src/store/sql/write/live-reader.ts';
import { FakeClock } from '../src/store/sql/watch/watch-fakes.ts';
import { fromKey, op, rangeRequest, txnRequest, watchRequest } from './conformance/requests.ts';
import { guardOf } from './guarantees/guard.ts';
import { onEachEngine } from './on-each.ts';
import { testDatabase, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

/** A store to write with, and lessors of our own on the same database. */
async function opened(engine: SqlEngine) {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  // The database's clock with what it has leapt ahead.
  const nowMs = `(${dialects[engine].sql.nowMs} + (SELECT ahead_ms FROM test_clock))`;
  const dialect = { ...dialects[engine], sql: { ...dialects[engine].sql, nowMs } };
  // Its own expiry leaves those with a longer TTL than it is old alone, and so nearly all of the tests'.
  const store = await openTestStore(database);
  const driver = dialect.open({ url: database.url, pool });
  const committer = createCommitter({
    driver,
    dialect,
    clock: systemClock,
    logger: silentLogger,
    index: nothingKnown,
    wantsEvents: () => false,
    committed: () => undefined,
  });
  const run = (text: string, params: readonly bigint[]) => driver.query({ name: 'test', text }, params);
  await run('CREATE TABLE test_clock (ahead_ms bigint NOT NULL)', []);
  await run('INSERT INTO test_clock VALUES (0)', []);
  return {
    store,
    /** With a clock that stands still, and the times of its answers: one for each tick. */
    lessor(elsewhere: { readonly findLease?: FindLease } = {}) {
      const clock = new TickingClock();
      const revoke = committer.revoke.bind(committer);
      const lessor = createLessor({
        driver,
        dialect,
        clock,
        logger: silentLogger,
        revoke,
        ...elsewhere,
      });
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
      run(`UPDATE switchyard_lease SET expires_at = ${nowMs} + ? WHERE id = ?`, [BigInt(ms), id]),
    leap: (ms: number) => run('UPDATE test_clock SET ahead_ms = ahead_ms + ?', [BigInt(ms)]),
    async keys() {
      const { kvs } = await store.range(rangeRequest('\0', { rangeEnd: fromKey }), soon());
      return kvs.map(({ key }) => key.toString());
    },
    /** The first events since a revision, at least so many. */
    async history(startRevision: Revision, least: number) {
      const seen: Event[] = [];
      const request = watchRequest('\0', { rangeEnd: fromKey, startRevision });
      const guard = await guardOf(store, startRevision - 1n);
      for await (const { events } of await guard.record(store, request, soon())) {
        seen.push(...events);
        if (seen.length >= least) break;
      }
      const broken = await guard.violations();
      if (broken.length > 0) throw new Error(broken.join('\n'));
      return seen;
    },
    async [Symbol.asyncDispose]() {
      await committer.close();
      await driver.close();
      await store[Symbol.asyncDispose]();
      await database.dispose();
    },
  };
}

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

/** One after the other: each test makes thousands of small queries, and together they would only wait for each other. */
const onEach = onEachEngine(test.serial, opened);

/** Seconds: longer than any test runs, short enough to pass in ticks. */
const longTtl = 600;
/** Seconds that a lease from elsewhere has there, few enough to be looked for again only when they are over. */
const shortRest = 200;

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
  await on.store.leaseRevoke(7n, soon());
  t.like(await lessor.keepAlive(7n, soon()), { ttlSeconds: 0 });
});

onEach('a lease that is over is renewed only when its owner may have been kept from it', async (t, on) => {
  await using made = on.lessor();
  const { lessor, clock } = made;
  const renewed = async () => (await lessor.keepAlive(7n, soon())).ttlSeconds;
  const endsNow = async () => {
    await on.endIn(7n, -5_000);
    t.like(await lessor.timeToLive({ id: 7n, keys: false }, soon()), { ttlSeconds: 0 });
  };
  await lessor.grant({ id: 7n, ttlSeconds: longTtl }, soon());
  await on.put('a', { lease: 7n });
  lessor.start();
  // This gateway has only just come.
  await clock.tick(500);
  await endsNow();
  t.is(await renewed(), longTtl);
  // Seen all the time but for more than half of the TTL.
  await clock.pass(longTtl * 1000);
  await clock.tick(longTtl * 600);
  await endsNow();
  t.is(await renewed(), longTtl);
  // The owner has had its chance: what is over is removed before the answer.
  await clock.pass(longTtl * 1000);
  await endsNow();
  t.is(await renewed(), 0);
  t.deepEqual(await on.keys(), []);
  t.deepEqual((await lessor.leases(soon())).ids, []);
  t.deepEqual(lessor.stats, { granted: 1, renewed: 2, expired: 1 });
});

onEach('what the clock of the database leaps ahead counts as an outage', async (t, on) => {
  await using first = on.lessor();
  await using second = on.lessor();
  for (const { lessor, clock } of [first, second]) {
    lessor.start();
    await clock.pass(longTtl * 1000);
  }
  await first.lessor.grant({ id: 7n, ttlSeconds: longTtl }, soon());
  await first.lessor.grant({ id: 8n, ttlSeconds: 9 * longTtl }, soon());
  for (const { clock } of [first, second]) await clock.tick(500);
  await on.leap(longTtl * 1000);
  for (const { clock } of [first, second]) await clock.pass(longTtl * 500);
  t.deepEqual((await first.lessor.leases(soon())).ids, [7n, 8n]);
  t.is((await first.lessor.keepAlive(7n, soon())).ttlSeconds, longTtl);
  await on.endIn(7n, -1);
  for (const { clock } of [first, second]) await clock.pass(longTtl * 500 + 1_000);
  t.deepEqual((await first.lessor.leases(soon())).ids, [8n]);
});

onEach('elsewhere granted, a lease ends when it is gone there and not before', async (t, on) => {
  const granted = new Map<LeaseId, number>([[7n, shortRest]]);
  let isAway = false;
  const findLease: FindLease = async (id) => {
    if (isAway) throw new Error('the store that grants leases is away');
    const remainingSeconds = granted.get(id);
    return remainingSeconds === undefined ? undefined : { ttlSeconds: 2 * longTtl, remainingSeconds };
  };
  await using made = on.lessor({ findLease });
  const { lessor, clock } = made;
  await lessor.adopt({ id: 7n, ttlSeconds: 2 * longTtl, remainingSeconds: longTtl }, soon());
  for (const key of ['b', 'a']) await on.put(key, { lease: 7n });
  lessor.start();
  // No renewal has reached this store.
  await on.endIn(7n, -1);
  await clock.pass(1_000);
  const { ttlSeconds } = await lessor.timeToLive({ id: 7n, keys: false }, soon());
  t.true(ttlSeconds > shortRest - 60 && ttlSeconds <= shortRest);
  // Over here, but its owner is alive, as the other store has just said.
  await on.endIn(7n, -1);
  t.is((await lessor.keepAlive(7n, soon())).ttlSeconds, 2 * longTtl);
  isAway = true;
  granted.clear();
  await on.endIn(7n, -1);
  await clock.pass(1_000);
  t.deepEqual(await on.keys(), ['a', 'b']);
  isAway = false;
  await clock.pass(500);
  t.deepEqual(await on.keys(), []);
  t.deepEqual((await lessor.leases(soon())).ids, []);
});

onEach('an adopted lease keeps what remains of it, and is adopted once', async (t, on) => {
  await using made = on.lessor();
  const { lessor } = made;
  await lessor.adopt({ id: 7n, ttlSeconds: 2 * longTtl, remainingSeconds: shortRest }, soon());
  await lessor.adopt({ id: 7n, ttlSeconds: 9 * longTtl, remainingSeconds: 9 * longTtl }, soon());
  const found = await lessor.timeToLive({ id: 7n, keys: false }, soon());
  t.is(found.grantedTtlSeconds, 2 * longTtl);
  t.true(found.ttlSeconds > shortRest - 60 && found.ttlSeconds <= shortRest);
});

onEach('elsewhere granted, a lease of any TTL is looked for there every few minutes', async (t, on) => {
  const ttlSeconds = 100 * longTtl;
  let isRevoked = false;
  let asked = 0;
  const findLease: FindLease = async () => {
    asked++;
    return isRevoked ? undefined : { ttlSeconds, remainingSeconds: ttlSeconds };
  };
  await using made = on.lessor({ findLease });
  const { lessor, clock } = made;
  await lessor.adopt({ id: 7n, ttlSeconds, remainingSeconds: ttlSeconds }, soon());
  await on.put('a', { lease: 7n });
  lessor.start();
  const look = async (leapMs: number) => {
    await on.leap(leapMs);
    await clock.pass(1_000);
    return asked;
  };
  t.is(await look(0), 0);
  t.is(await look(longTtl * 1000), 1, 'after it was taken over');
  t.is(await look(longTtl * 1000), 2, 'after it was found');
  t.is((await lessor.keepAlive(7n, soon())).ttlSeconds, ttlSeconds);
  t.deepEqual(await on.keys(), ['a']);
  // The revocation itself has not reached this store.
  isRevoked = true;
  t.is(await look(longTtl * 1000), 3, 'after it was renewed');
  t.deepEqual(await on.keys(), []);
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
  t.deepEqual(
    (await on.history(before + 1n, 3)).map(
      ({ type, kv }) => `${type} ${kv.key.toString()} ${kv.modRevision}`,
    ),
    ['a', 'b', 'c'].map((key) => `delete ${key} ${before + 1n}`),
  );
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

onEach('of three gateways one lets a lease expire, in one revision', async (t, on) => {
  await using first = on.lessor();
  await using second = on.lessor();
  await using third = on.lessor();
  // The clock of a gateway says nothing: one is ahead by hours.
  third.clock.advance(9 * 3_600_000);
  const all = [first, second, third];
  const ids = Array.from({ length: 100 }, (_, index) => BigInt(index + 1));
  for (const id of ids) {
    await first.lessor.grant({ id, ttlSeconds: longTtl }, soon());
    for (const name of ['b', 'a']) await on.put(`${id} ${name}`, { lease: id });
  }
  const before = (await on.put('free')).header.revision;
  for (const { lessor } of all) lessor.start();
  await Promise.all(all.map(({ clock }) => clock.pass(longTtl * 1000)));
  for (const id of ids) await on.endIn(id, -1);
  await Promise.all(all.map(({ clock }) => clock.pass(1_000)));
  t.deepEqual(await on.keys(), ['free']);
  t.deepEqual(await first.lessor.leases(soon()), { revision: before + 100n, ids: [] });
  const deleted = await on.history(before + 1n, 2 * ids.length);
  const ended = new Set<string>();
  for (const [index, { type, kv }] of deleted.entries()) {
    const [id, name] = kv.key.toString().split(' ') as [string, string];
    t.deepEqual(
      [type, name, kv.modRevision],
      ['delete', 'ab'[index % 2], before + 1n + BigInt(Math.floor(index / 2))],
    );
    ended.add(id);
  }
  t.is(ended.size, ids.length);
});
