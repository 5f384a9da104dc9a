// The committer's queue over a driver that the test makes succeed, fail or hang. What it writes is in
// integration/sql-committer.test.ts.

import test from 'ava';
import {
  SqlFault,
  type Driver,
  type QueryResult,
  type Session,
  type Step,
} from '../../../dialect/dialect.ts';
import { sqlite } from '../../../dialect/sqlite.ts';
import { silentLogger } from '../../../lib/log.ts';
import { createCommitter } from './committer.ts';
import type { Job } from './job.ts';
import { nothingKnown } from './live-reader.ts';
import { FakeClock, turn, until } from '../watch/watch-fakes.ts';

/** A database of which only the meta row is asked. */
class FakeDatabase implements Driver {
  /** Awaited before each transaction begins. */
  gate: () => Promise<void> = async () => undefined;
  /** What transactions fail with. */
  fault: SqlFault | undefined;
  transactions = 0;

  async query() {
    return { rows: [], affected: 0 };
  }

  async queryForWriter() {
    return { rows: [], affected: 0 };
  }

  async transaction<T>(_mode: 'read' | 'write', body: (session: Session) => Promise<T>): Promise<T> {
    return await this.writeAfter([], body);
  }

  async writeAfter<T>(
    opening: readonly Step[],
    body: (session: Session, opened: readonly QueryResult[]) => Promise<T>,
  ): Promise<T> {
    this.transactions++;
    await this.gate();
    if (this.fault !== undefined) throw this.fault;
    const found = { rows: [{ revision: 1n, compact_revision: 0n, writer: 0n, batch: 0n }], affected: 0 };
    const session = { query: async () => found, finish: () => undefined };
    return await body(
      session,
      opening.map(() => found),
    );
  }

  async script() {}

  stats() {
    return { pools: new Map(), statements: new Map() };
  }

  async close() {}
}

function setUp() {
  const driver = new FakeDatabase();
  const clock = new FakeClock();
  const committer = createCommitter({
    driver,
    dialect: sqlite,
    clock,
    logger: silentLogger,
    index: nothingKnown,
    wantsEvents: () => false,
    committed: () => undefined,
  });
  return { driver, clock, committer };
}

const away = () => new SqlFault('disconnected', 'Nobody is there');
/** Fills a batch, so that the next job waits for the next one. */
const batchBytes = 4 * 1024 * 1024;
const job = (bytes = batchBytes): Job<string> => ({
  bytes,
  needs: { keys: [], valueKeys: [], leases: [], onlyKeys: false },
  apply: async () => 'done',
});

test('a job that has waited too long for its batch fails without being tried', async (t) => {
  const { driver, clock, committer } = setUp();
  const hanging = Promise.withResolvers<void>();
  driver.gate = () => hanging.promise;
  const first = committer.run(job());
  const second = committer.run(job());
  await until(() => driver.transactions === 1);
  clock.advance(60_000);
  const third = committer.run(job());
  hanging.resolve();
  t.is(await first, 'done');
  await t.throwsAsync(second, { message: 'etcdserver: request timed out' });
  t.is(await third, 'done');
  t.is(driver.transactions, 2);
});

test('close ends the attempts while the database is away, and what waits fails', async (t) => {
  const { driver, clock, committer } = setUp();
  driver.fault = away();
  const jobs = Array.from({ length: 30 }, () => t.throwsAsync(committer.run(job())));
  await until(() => clock.sleeping === 1);
  // Time stands still: nobody waits for retries any more.
  await committer.close();
  const [first, ...others] = await Promise.all(jobs);
  t.is(first?.message, 'etcdserver: request timed out');
  for (const error of others) t.is(error?.message, 'etcdserver: server stopped');
  t.true(driver.transactions <= 2);
  await t.throwsAsync(committer.run(job()), { message: 'etcdserver: server stopped' });
});

test('close waits for what a database that answers can still take', async (t) => {
  const { driver, committer } = setUp();
  const hanging = Promise.withResolvers<void>();
  driver.gate = () => hanging.promise;
  const jobs = [committer.run(job()), committer.run(job()), committer.run(job(1))];
  await until(() => driver.transactions === 1);
  const closing = committer.close();
  await turn();
  hanging.resolve();
  await closing;
  t.deepEqual(await Promise.all(jobs), ['done', 'done', 'done']);
});

test('a transient fault is tried again, and does not reach the caller', async (t) => {
  const { driver, clock, committer } = setUp();
  driver.fault = away();
  const running = committer.run(job());
  await until(() => clock.sleeping === 1);
  driver.fault = undefined;
  clock.advance(1_000);
  t.is(await running, 'done');
  t.is(driver.transactions, 2);
});
