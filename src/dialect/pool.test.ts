// The pool over connections that the test opens, loses and closes.

import test from 'ava';
import { SqlFault, type PoolOptions } from './dialect.ts';
import { Pool, type Pooled } from './pool.ts';

class Connection implements Pooled {
  usable = true;
  closed = false;

  isUsable(): boolean {
    return this.usable;
  }

  async close(): Promise<void> {
    await Promise.resolve();
    this.closed = true;
  }
}

function setUp(options: Partial<PoolOptions> = {}) {
  const opened: Connection[] = [];
  let failure: SqlFault | undefined;
  const pool = new Pool<Connection>(
    { connectionsMax: 2, connectTimeoutMs: 10_000, statementTimeoutMs: 10_000, ...options },
    async () => {
      await Promise.resolve();
      if (failure !== undefined) throw failure;
      const connection = new Connection();
      opened.push(connection);
      return connection;
    },
  );
  return {
    pool,
    opened,
    fail: (fault: SqlFault | undefined) => {
      failure = fault;
    },
  };
}

const turn = () =>
  new Promise<void>((resolve) => {
    setImmediate(resolve);
  });

test('opens no more than allowed, and serves waiters in order', async (t) => {
  const { pool, opened } = setUp();
  const [first, second] = await Promise.all([pool.acquire(), pool.acquire()]);
  const order: number[] = [];
  const waiting = [1, 2, 3].map(async (n) => {
    const connection = await pool.acquire();
    order.push(n);
    pool.release(connection, 'reusable');
  });
  await turn();
  t.deepEqual(order, []);
  pool.release(first, 'reusable');
  await Promise.all(waiting);
  t.deepEqual(order, [1, 2, 3]);
  pool.release(second, 'reusable');
  t.is(opened.length, 2);
  await pool.close();
  t.true(opened.every(({ closed }) => closed));
});

test('broken and lost connections are replaced', async (t) => {
  const { pool, opened } = setUp();
  const first = await pool.acquire();
  pool.release(first, 'broken');
  const second = await pool.acquire();
  t.not(second, first);
  pool.release(second, 'reusable');
  second.usable = false;
  const third = await pool.acquire();
  t.not(third, second);
  pool.release(third, 'reusable');
  await pool.close();
  t.is(opened.length, 3);
  t.true(opened.every(({ closed }) => closed));
});

test('a waiter that is aborted or waits too long leaves the queue', async (t) => {
  const { pool } = setUp({ connectionsMax: 1, connectTimeoutMs: 20 });
  const held = await pool.acquire();
  const abort = new AbortController();
  const aborted = pool.acquire(abort.signal);
  const late = pool.acquire();
  abort.abort(new Error('gone'));
  await t.throwsAsync(aborted, { message: 'gone' });
  const fault = await t.throwsAsync<SqlFault>(late, { instanceOf: SqlFault });
  t.is(fault.kind, 'busy');
  t.like(pool.stats, { waiting: 0, refused: 0, late: 1 });
  await t.throwsAsync(pool.acquire(abort.signal), { message: 'gone' });
  pool.release(held, 'reusable');
  t.is(await pool.acquire(), held);
  pool.release(held, 'reusable');
  await pool.close();
});

test('a failure to connect reaches those who wait, unless others hold connections', async (t) => {
  const { pool, fail } = setUp();
  fail(new SqlFault('disconnected', 'refused'));
  await t.throwsAsync(pool.acquire(), { message: 'refused' });
  fail(undefined);
  const held = await pool.acquire();
  fail(new SqlFault('busy', 'too many connections'));
  const waiting = pool.acquire();
  await turn();
  pool.release(held, 'reusable');
  t.is(await waiting, held);
  pool.release(held, 'reusable');
  await pool.close();
});

test('closing waits for what is lent and refuses what waits', async (t) => {
  const { pool, opened } = setUp({ connectionsMax: 1 });
  const held = await pool.acquire();
  const waiting = pool.acquire();
  let isClosed = false;
  const closing = Promise.all([pool.close(), pool.close()]).then(() => {
    isClosed = true;
  });
  await t.throwsAsync(waiting, { instanceOf: SqlFault });
  await t.throwsAsync(pool.acquire(), { instanceOf: SqlFault });
  await turn();
  t.false(isClosed);
  pool.release(held, 'reusable');
  await closing;
  t.true(opened.every(({ closed }) => closed));
});

test('idle and old connections do not stay', async (t) => {
  const few = setUp({ connectionsMax: 3, idleConnectionsMax: 1 });
  const held = await Promise.all([few.pool.acquire(), few.pool.acquire(), few.pool.acquire()]);
  for (const connection of held) few.pool.release(connection, 'reusable');
  await turn();
  t.is(few.opened.filter(({ closed }) => closed).length, 2);
  await few.pool.close();
  const old = setUp({ lifeTimeMs: 1 });
  const connection = await old.pool.acquire();
  const deadline = performance.now() + 2;
  while (performance.now() < deadline) await turn();
  old.pool.release(connection, 'reusable');
  await turn();
  t.true(connection.closed);
  await old.pool.close();
});

test('so many may wait, and the others are told at once', async (t) => {
  const { pool } = setUp({ connectionsMax: 1 });
  const held = await pool.acquire();
  const waiting = Array.from({ length: 10_000 }, () => pool.acquire());
  const fault = await t.throwsAsync<SqlFault>(pool.acquire(), { instanceOf: SqlFault });
  t.is(fault.kind, 'crowded');
  const outcomes = Promise.allSettled(waiting);
  const closing = pool.close();
  pool.release(held, 'reusable');
  await closing;
  t.true((await outcomes).every(({ status }) => status === 'rejected'));
});
