// The driver over connections that the test lets fail: which of them come back, and what is told.

import test from 'ava';
import { SqlFault, type QueryResult } from './dialect.ts';
import { createDriver } from './driver.ts';
import { serverLanes, type Connection, type Engine } from './engine.ts';

const insert = { name: 'insert', text: 'INSERT INTO t VALUES (1)' };
const select = { name: 'select', text: 'SELECT 1' };

function setUp() {
  const opened: FakeConnection[] = [];
  const server: { fault: SqlFault | undefined; isSilent: boolean } = { fault: undefined, isSilent: false };
  class FakeConnection implements Connection {
    isClosed = false;

    async run(text: string): Promise<QueryResult> {
      if (server.fault !== undefined && text === insert.text) throw server.fault;
      if (server.isSilent) await new Promise(() => undefined);
      return { rows: [], affected: 0 };
    }

    async control(): Promise<void> {}

    async script(): Promise<void> {
      if (server.fault !== undefined) throw server.fault;
    }

    async begin(): Promise<readonly QueryResult[]> {
      return [];
    }

    async finish(): Promise<void> {
      if (server.fault !== undefined) throw server.fault;
    }

    isUsable(): boolean {
      return !this.isClosed;
    }

    async close(): Promise<void> {
      this.isClosed = true;
    }
  }
  const engine: Engine = {
    classify: () => 'other',
    begin: { read: 'SET TRANSACTION READ ONLY; BEGIN', write: 'START TRANSACTION' },
    interruptible: true,
    ...serverLanes,
    connect: async () => {
      const connection = new FakeConnection();
      opened.push(connection);
      return connection;
    },
  };
  const pool = { connectionsMax: 8, connectTimeoutMs: 1_000, statementTimeoutMs: 1 };
  return { driver: createDriver(engine, { url: 'fake:', pool }), opened, server };
}

test('a server that has become read-only is left: its connections may lead to a former primary', async (t) => {
  const { driver, opened, server } = setUp();
  await Promise.all(Array.from({ length: 4 }, () => driver.query(select, [])));
  t.is(opened.length, 4);
  server.fault = new SqlFault('read-only', 'read only');
  const write = driver.transaction('write', (session) => session.query(insert, []));
  t.like(await t.throwsAsync(write), { kind: 'read-only' });
  server.fault = undefined;
  await Promise.all(Array.from({ length: 4 }, () => driver.query(select, [])));
  await driver.transaction('write', (session) => session.query(insert, []));
  t.deepEqual(
    opened.map(({ isClosed }) => isClosed),
    [true, true, true, true, true, false, false, false, false, false],
  );
  await driver.close();
});

test('a server that says nothing for too long is left: its host may be gone', async (t) => {
  const { driver, opened, server } = setUp();
  await Promise.all(Array.from({ length: 4 }, () => driver.query(select, [])));
  server.isSilent = true;
  t.like(await t.throwsAsync(driver.query(select, [])), { kind: 'timeout' });
  server.isSilent = false;
  await driver.query(select, []);
  t.deepEqual(
    opened.map(({ isClosed }) => isClosed),
    [true, true, true, true, false],
  );
  await driver.close();
});

test('a fault of a statement alone costs no connection', async (t) => {
  const { driver, opened, server } = setUp();
  server.fault = new SqlFault('unique-violation', 'there already');
  const write = () => driver.transaction('write', (session) => session.query(insert, []));
  await t.throwsAsync(write());
  await t.throwsAsync(write());
  t.is(opened.length, 1);
  await driver.close();
});

test('statements are counted by name and by how they ended, connections by what they do', async (t) => {
  const { driver, server } = setUp();
  await driver.query(select, []);
  const abort = new AbortController();
  server.isSilent = true;
  const left = driver.query(select, [], abort.signal);
  await new Promise(setImmediate);
  t.like(driver.stats().pools.get('all'), { max: 6, lent: 1, idle: 0, opened: 1 });
  abort.abort();
  await t.throwsAsync(left, { name: 'AbortError' });
  server.isSilent = false;
  server.fault = new SqlFault('unique-violation', 'there already');
  await t.throwsAsync(driver.transaction('write', (session) => session.query(insert, [])));
  await t.throwsAsync(driver.script([{ statement: insert, params: [] }]));
  const { statements, pools } = driver.stats();
  const told = [...statements].map(([name, { outcomes, seconds }]) => [
    name,
    Object.fromEntries(outcomes),
    seconds.count,
  ]);
  t.deepEqual(told, [
    ['select', { ok: 1, canceled: 1 }, 2],
    ['transaction.begin', { ok: 1 }, 1],
    ['insert', { 'unique-violation': 2 }, 2],
    ['transaction.rollback', { ok: 1 }, 1],
  ]);
  t.like(pools.get('write'), { lent: 0, opened: 1, failed: 0, waiting: 0 });
  await driver.close();
});
