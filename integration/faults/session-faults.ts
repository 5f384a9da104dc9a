// What administrators and people with SQL tools do to the sessions of gateways: end them, hold their locks, rebuild their tables,
// change what new sessions begin with.

import { setTimeout as sleep } from 'node:timers/promises';
import { administrator, allowing, kill, killAll, sessions, type Administrator } from './administrator.ts';
import { serverEngines, type Fault, type Strike } from './fault.ts';
import { databaseBehindProxy, type Site } from './site.ts';
import { engines, privateDatabaseServer } from '../servers/index.ts';

/** Between two that are ended. */
const killMs = 40;
/** How long a SQL tool keeps a table for itself, and leaves it alone then. */
const lockedMs = 400;
const unlockedMs = 200;

const unknownVariable = '1193';
const deadlock = ['40P01', '1213'];
const tables = ['switchyard_meta', 'switchyard_current', 'switchyard_log', 'switchyard_lease_key'];

/** Does it again and again for the time of a fault; what it does with which administrator. */
async function during(
  { site, seconds }: Strike,
  act: (by: Administrator, round: number) => Promise<unknown>,
): Promise<void> {
  await using by = await administrator(site);
  const end = performance.now() + seconds * 1000;
  for (let round = 0; performance.now() < end || round === 0; round++) await act(by, round);
}

const ended: Fault = {
  name: 'sessions ended by an administrator',
  engines: serverEngines,
  strike: (strike) =>
    during(strike, async (by, round) => {
      const [id] = await sessions(strike.site, by, round % 2 === 0 ? 'working' : 'all');
      if (id !== undefined) await kill(strike.site, by, id, 'session');
      await sleep(killMs);
    }),
};

const canceled: Fault = {
  name: 'statements canceled by an administrator',
  engines: serverEngines,
  strike: (strike) =>
    during(strike, async (by) => {
      const [id] = await sessions(strike.site, by, 'working');
      if (id !== undefined) await kill(strike.site, by, id, 'statement');
      await sleep(killMs);
    }),
};

/** Takes locks in another order than the gateways do. */
const deadlocked: Fault = {
  name: 'deadlocks with a SQL tool',
  engines: serverEngines,
  strike: (strike) =>
    during(strike, async (by) => {
      await by.query('BEGIN');
      await allowing(deadlock, async () => {
        await by.query('SELECT k FROM switchyard_current ORDER BY k LIMIT 16 FOR UPDATE');
        await sleep(20);
        await by.query('SELECT id FROM switchyard_meta FOR UPDATE');
      });
      await by.query('ROLLBACK');
      await sleep(killMs);
    }),
};

const locked: Fault = {
  name: 'tables locked by a SQL tool',
  engines: serverEngines,
  strike: (strike) =>
    during(strike, async (by, round) => {
      const table = tables[round % tables.length];
      const isPostgres = strike.site.engine === 'postgres';
      if (isPostgres) await by.query('BEGIN');
      await allowing(deadlock, () =>
        by.query(isPostgres ? `LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE` : `LOCK TABLES ${table} WRITE`),
      );
      await sleep(lockedMs);
      await by.query(isPostgres ? 'ROLLBACK' : 'UNLOCK TABLES');
      await sleep(unlockedMs);
    }),
};

/** The row that all writers need, all the time. */
const held: Fault = {
  name: 'the lock of writers held by a SQL tool',
  engines: serverEngines,
  async strike({ site, seconds }) {
    await using by = await administrator(site);
    await by.query('BEGIN');
    await by.query('SELECT id FROM switchyard_meta FOR UPDATE');
    await sleep(seconds * 1000);
    await by.query('ROLLBACK');
  },
};

const rebuilding = {
  postgres: (table: string) => [
    `VACUUM FULL ${table}`,
    `CREATE INDEX rebuilt ON ${table} (${table === 'switchyard_meta' ? 'id' : 'k'})`,
    'DROP INDEX rebuilt',
    `ALTER TABLE ${table} ADD COLUMN added int`,
    `ANALYZE ${table}`,
    `ALTER TABLE ${table} DROP COLUMN added`,
  ],
  mysql: (table: string) => [
    `OPTIMIZE TABLE ${table}`,
    `ALTER TABLE ${table} ADD INDEX rebuilt (${table === 'switchyard_meta' ? 'id' : 'k'})`,
    `ALTER TABLE ${table} DROP INDEX rebuilt`,
    `ALTER TABLE ${table} ADD COLUMN added int`,
    `ALTER TABLE ${table} FORCE`,
    `ALTER TABLE ${table} DROP COLUMN added`,
  ],
};

const rebuilt: Fault = {
  name: 'tables rebuilt',
  engines: serverEngines,
  strike: (strike) =>
    during(strike, async (by, round) => {
      const table = tables[round % tables.length]!;
      const engine = strike.site.engine === 'postgres' ? 'postgres' : 'mysql';
      // What is begun is brought to its end, so that the table is what it was.
      for (const text of rebuilding[engine](table)) {
        for (let isDone = false; !isDone;) {
          await allowing(deadlock, async () => {
            await by.query(text);
            isDone = true;
          });
        }
      }
    }),
};

/** `change`, for new sessions, and new sessions; in the end the same with `revert`. */
const whileChanged = (
  name: string,
  statements: (site: Site) => { readonly change: string; readonly revert: string },
): Fault => ({
  name,
  engines: serverEngines,
  async strike({ site, seconds, writes }) {
    await using by = await administrator(site);
    const { change, revert } = statements(site);
    await by.query(change);
    await killAll(site, by);
    const end = performance.now() + seconds * 1000;
    await writes(50);
    await sleep(Math.max(0, end - performance.now()));
    await by.query(revert);
    await killAll(site, by);
  },
});

const serializable = whileChanged('serializable by default', ({ engine }) =>
  engine === 'postgres'
    ? {
        change: `ALTER DATABASE faults SET default_transaction_isolation = 'serializable'`,
        revert: 'ALTER DATABASE faults RESET default_transaction_isolation',
      }
    : {
        change: 'SET GLOBAL TRANSACTION ISOLATION LEVEL SERIALIZABLE',
        revert: 'SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ',
      },
);

/** MariaDB's, which fails statements that would not see what they change; its later releases have it by default. */
const snapshots: Fault = {
  name: 'snapshot isolation',
  engines: ['mysql'],
  site: {
    place: (engine) =>
      databaseBehindProxy(engine, async (server) => {
        const started = await privateDatabaseServer(server);
        if (started === undefined) return undefined;
        let isKnown = false;
        await allowing([unknownVariable], async () => {
          await engines[server].administer(started.url, ['SET GLOBAL innodb_snapshot_isolation = ON']);
          isKnown = true;
        });
        if (isKnown) return started;
        // A MySQL.
        await started.dispose();
        return undefined;
      }),
  },
  async strike({ site, seconds, writes }) {
    await using by = await administrator(site);
    const [row] = await by.query('SELECT @@SESSION.innodb_snapshot_isolation AS is_on');
    if (Number(row?.['is_on']) !== 1) throw new Error('Expected a server with snapshot isolation');
    const end = performance.now() + seconds * 1000;
    await writes(50);
    await sleep(Math.max(0, end - performance.now()));
  },
};

export const sessionFaults: readonly Fault[] = [
  ended,
  canceled,
  deadlocked,
  locked,
  held,
  rebuilt,
  serializable,
  snapshots,
];
