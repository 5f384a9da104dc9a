// Tables of the first format under this program: brought to its own, whoever is at it at once, writes beside it or is killed in the middle,
// with everything that is in them; and tables of a later program, which are left alone.

import test from 'ava';
import type { Dialect, Driver, Session } from '../src/dialect/dialect.ts';
import { createLogger, type Logger } from '../src/lib/log.ts';
import { version } from '../src/lib/version.ts';
import { latestFormat } from '../src/store/sql/schema/format.ts';
import { ensureSchema } from '../src/store/sql/schema/schema.ts';
import { steps, type MigrationStep } from '../src/store/sql/schema/schema-steps.ts';
import { fromKey, op, rangeRequest, txnRequest, watchRequest } from './conformance/requests.ts';
import { firstFormatDatabase, layoutOf } from './formats/first-format.ts';
import { LogWriter } from './log-rows.ts';
import { onEachEngine } from './on-each.ts';
import { engines, testDatabase, type SqlEngine, type TestDatabase } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

const clusterId = 1_234_567_890_123_456_789n;
const everything = { rangeEnd: fromKey };

interface Opened extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly dialect: Dialect;
  readonly driver: Driver;
  readonly run: (text: string) => ReturnType<Driver['query']>;
}

const opener =
  (make: (engine: SqlEngine) => Promise<TestDatabase | undefined>) =>
  async (engine: SqlEngine): Promise<Opened | undefined> => {
    const database = await make(engine);
    if (database === undefined) return undefined;
    const dialect = dialects[engine];
    const driver = dialect.open({ url: database.url, pool });
    return {
      database,
      dialect,
      driver,
      run: (text) => driver.query({ name: 'test', text }, []),
      [Symbol.asyncDispose]: async () => {
        await driver.close();
        await database.dispose();
      },
    };
  };

const openFirst = opener(firstFormatDatabase);
// Each has a database of its own, or several; not all of them at once.
const onFirst = onEachEngine(test.serial, openFirst);
const openFresh = opener(testDatabase);
const onFresh = onEachEngine(test.serial, openFresh);

interface Line {
  readonly level: string;
  readonly message: string;
  readonly format?: string;
  readonly error?: string;
}

function recorder(): {
  readonly logger: Logger;
  readonly lines: Line[];
  readonly said: (message: string) => Line[];
} {
  const lines: Line[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line) as Line);
  const said = (message: string) => lines.filter((line) => line.message === message);
  return { logger: createLogger({ level: 'info', format: 'json', write }), lines, said };
}

/** A driver whose transactions are cut off before their statement number `allowed`, as by a kill. */
function cutAfter(driver: Driver, allowed: number): Driver {
  let left = allowed;
  const cut = (session: Session): Session => ({
    query: (statement, params) => {
      if (left-- <= 0) throw new Error('cut off');
      return session.query(statement, params);
    },
    finish: (last) => session.finish(last),
  });
  return {
    query: (statement, params, signal) => driver.query(statement, params, signal),
    queryForWriter: (statement, params) => driver.queryForWriter(statement, params),
    transaction: (mode, body, signal) => driver.transaction(mode, (session) => body(cut(session)), signal),
    writeAfter: (opening, body) => driver.writeAfter(opening, body),
    script: (script) => driver.script(script),
    stats: () => driver.stats(),
    close: () => driver.close(),
  };
}

/** A step that programs of before cannot go on beside. */
const breaking: MigrationStep = {
  format: latestFormat + 1n,
  title: 'made up',
  knows: latestFormat + 1n,
  isOptional: false,
  statements: ({ sql }) => [
    `CREATE TABLE IF NOT EXISTS switchyard_made_up (id ${sql.types.int64} NOT NULL PRIMARY KEY) ${sql.tableOptions}`,
    sql.insertIgnore('switchyard_made_up', ['id'], '(1), (2)'),
  ],
};
const nextSteps = [...steps, breaking];

test('the formats are numbered without a gap', (t) => {
  t.deepEqual(
    nextSteps.map(({ format }) => format),
    nextSteps.map((_, index) => BigInt(index + 1)),
  );
});

onFirst('a store of the first format has all it had, and takes writes', async (t, { database, run }) => {
  const { logger, said } = recorder();
  {
    await using store = await openTestStore(database, { logger });
    const { header, kvs } = await store.range(rangeRequest('\0', everything), soon());
    t.is(header.clusterId, clusterId);
    t.is(header.revision, 7n);
    t.deepEqual(
      kvs.map(({ key, version: times, modRevision }) => [key.toString(), times, modRevision]),
      [
        ['/registry/configmaps/default/first', 2n, 4n],
        ['/registry/data.example.com/largedata/team-a/big', 1n, 3n],
        ['/registry/monitoring.example.com/metrics/default/load', 1n, 3n],
        ['/registry/pods/default/web', 1n, 7n],
      ],
    );
    t.is(kvs[0]!.value.toString(), 'two');
    t.true(kvs[3]!.value.includes(0));
    const past = await store.range(rangeRequest('\0', { ...everything, revision: 5n }), soon());
    t.is(past.count, 4);
    const lease = await store.leaseTimeToLive({ id: 77n, keys: true }, soon());
    t.is(lease.keys?.[0]?.toString(), '/registry/monitoring.example.com/metrics/default/load');
    const ended = new AbortController();
    const watch = await store.watch(
      watchRequest('\0', { ...everything, startRevision: 3n, prevKv: true }),
      ended.signal,
    );
    const seen: string[] = [];
    for await (const { events } of watch) {
      for (const { type, kv, prevKv } of events)
        seen.push(`${kv.modRevision} ${type} ${prevKv === undefined ? '' : prevKv.value.toString()}`);
      if (seen.length >= 6) break;
    }
    ended.abort();
    t.is(seen.length, 6);
    t.is(seen[2], '4 put one');
    t.regex(seen[4]!, /^6 delete \{/u);
    const put = txnRequest({ success: [op.put('/registry/pods/default/web', 'new')] });
    t.is((await store.txn(put, soon())).header.revision, 8n);
  }
  const formats = said('Migrating the tables').map(({ format }) => format);
  t.deepEqual(formats, ['2', '3']);
  t.deepEqual(
    said('The tables are migrated').map(({ format }) => format),
    formats,
  );
  const { rows } = await run('SELECT format, version FROM switchyard_migration ORDER BY format');
  t.deepEqual(
    rows.map((row) => [row['format'], row['version']]),
    [
      [2n, version],
      [3n, version],
    ],
  );
  // The next start finds everything done.
  await using again = await openTestStore(database, { logger });
  t.is((await again.range(rangeRequest('\0', everything), soon())).header.revision, 8n);
  t.is(said('Migrating the tables').length, 2);
});

onFirst('migrated tables look like new ones', async (t, { database, dialect, driver }) => {
  await ensureSchema(driver, dialect);
  await using fresh = await openFresh(database.engine);
  await ensureSchema(fresh!.driver, dialect);
  const layout = await layoutOf(database.engine, driver);
  t.deepEqual(layout, await layoutOf(database.engine, fresh!.driver));
  t.true(layout.some((line) => line.startsWith('switchyard_objects.')));
});

onFirst('several programs that migrate at once do each step once', async (t, { database, dialect, run }) => {
  const drivers = Array.from({ length: 4 }, () => dialect.open({ url: database.url, pool }));
  const { logger, said } = recorder();
  try {
    const found = await Promise.all(
      drivers.map((each) => ensureSchema(each, dialect, { logger, steps: nextSteps })),
    );
    t.deepEqual(new Set(found.map((each) => each.clusterId)), new Set([clusterId]));
  } finally {
    await Promise.all(drivers.map((each) => each.close()));
  }
  const { rows } = await run('SELECT format FROM switchyard_migration ORDER BY format');
  t.deepEqual(
    rows.map((row) => row['format']),
    [2n, 3n, 4n],
  );
  t.deepEqual((await run('SELECT COUNT(*) AS n FROM switchyard_made_up')).rows[0]!['n'], 2n);
  t.deepEqual(
    said('Migrating the tables').map(({ format }) => format),
    ['2', '3', '4'],
  );
});

onFirst('a program of before starts and writes while and after another one migrates', async (t, on) => {
  const { database, dialect, driver, run } = on;
  const writer = new LogWriter(driver, dialect);
  const ended = new AbortController();
  const total = 40;
  const writing = (async () => {
    for (let n = 0; n < total; n++) await writer.commit([{ key: `/registry/made/${n}`, value: String(n) }]);
  })();
  await using store = await openTestStore(database);
  const watch = await store.watch(
    watchRequest('/registry/made/', { rangeEnd: '/registry/made0', startRevision: 8n }),
    ended.signal,
  );
  await writing;
  // What the first program asks at its start, and what it wants to hear.
  const { rows } = await run('SELECT format, cluster_id FROM switchyard_meta WHERE id = 1');
  t.deepEqual(rows[0], { format: 1n, cluster_id: clusterId });
  const seen: string[] = [];
  for await (const { events } of watch) {
    seen.push(...events.map(({ kv }) => kv.value.toString()));
    if (seen.length >= total) break;
  }
  t.deepEqual(
    seen,
    Array.from({ length: total }, (_, n) => String(n)),
  );
  ended.abort();
});

onFirst('a migration that is cut off anywhere goes on where it was', async (t, on) => {
  const { database, dialect, driver, run } = on;
  await using whole = await openFirst(database.engine);
  await ensureSchema(whole!.driver, dialect, { steps: nextSteps });
  const count = async (table: string) => (await run(`SELECT COUNT(*) AS n FROM ${table}`)).rows[0]!['n'];
  for (let done = 2; done <= nextSteps.length; done++) {
    const some = { steps: nextSteps.slice(0, done) };
    let cuts = 0;
    for (let isCut = true; isCut; cuts++) {
      try {
        await ensureSchema(cutAfter(driver, cuts), dialect, some);
        isCut = false;
      } catch (error) {
        t.is((error as Error).message, 'cut off');
      }
      t.is(await count('switchyard_log'), 7n);
    }
    t.true(cuts > 4, `${cuts} cuts`);
  }
  t.deepEqual(await layoutOf(database.engine, driver), await layoutOf(database.engine, whole!.driver));
  t.is(await count('switchyard_made_up'), 2n);
  t.is(await count('switchyard_migration'), 3n);
});

onFresh('tables of a later program are left alone, with a text that says what to do', async (t, on) => {
  const { dialect, driver, run } = on;
  await ensureSchema(driver, dialect, { steps: nextSteps });
  const text =
    `Expected tables of format ${latestFormat} or earlier, got format ${latestFormat + 1n}, made by switchyard ${version}.` +
    ` This is switchyard ${version}: start ${version} or a later one; to go back, restore a backup of before the upgrade`;
  const refused = await t.throwsAsync(ensureSchema(driver, dialect));
  t.is(refused.message, text);
  await run('UPDATE switchyard_meta SET format = 99 WHERE id = 1');
  const unknown = await t.throwsAsync(ensureSchema(driver, dialect));
  t.regex(
    unknown.message,
    /got format 99\. This is switchyard .*: start the version that made them or a later one/u,
  );
});

onFresh('a gateway that runs writes no more once another one has made the tables its own', async (t, on) => {
  const { database, dialect, driver } = on;
  await using store = await openTestStore(database);
  const put = (value: string) => store.txn(txnRequest({ success: [op.put('a', value)] }), soon());
  await put('before');
  await put('before');
  const { revision } = (await store.range(rangeRequest('a'), soon())).header;
  await ensureSchema(driver, dialect, { steps: nextSteps });
  for (const work of [
    () => put('after'),
    () => store.txn(txnRequest({ success: [op.delete('\0', everything)] }), soon()),
    () => store.compact({ revision, physical: false }, soon()),
  ]) {
    const error = await t.throwsAsync(work());
    t.regex(String((error.cause as Error).message), /^Expected tables of format 3 or earlier, got format 4/u);
  }
  const { kvs, header } = await store.range(rangeRequest('a'), soon());
  t.deepEqual([kvs[0]!.value.toString(), header.revision], ['before', revision]);
});

onFresh('a step that a database refuses costs what it brings and nothing else', async (t, on) => {
  const { database, dialect, driver, run } = on;
  await ensureSchema(driver, dialect, { steps: steps.slice(0, -1) });
  await run('CREATE TABLE switchyard_objects (id int)');
  const { logger, said } = recorder();
  {
    await using store = await openTestStore(database, { logger });
    await store.txn(txnRequest({ success: [op.put('a', 'x')] }), soon());
    t.is((await store.range(rangeRequest('a'), soon())).count, 1);
  }
  const refused = said('The database refuses a step of the tables; the store goes on without it');
  t.is(refused.length, 1);
  t.is(refused[0]!.level, 'warn');
  t.regex(refused[0]!.error!, /switchyard_objects/u);
  // And is taken up when nothing is in its way.
  await run('DROP TABLE switchyard_objects');
  await using store = await openTestStore(database, { logger });
  t.is((await store.range(rangeRequest('a'), soon())).count, 1);
  t.is((await run('SELECT COUNT(*) AS n FROM switchyard_objects')).rows[0]!['n'], 0n);
});

/** A user that may read and write the tables of the database and nothing else. */
const restricted = {
  postgres: (user: string) => [
    `CREATE ROLE ${user} LOGIN PASSWORD 'switchyard-test'`,
    `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ${user}`,
    'REVOKE CREATE ON SCHEMA public FROM PUBLIC',
  ],
  mysql: (user: string, name: string) => [
    `CREATE USER ${user} IDENTIFIED BY 'switchyard-test'`,
    `GRANT SELECT, INSERT, UPDATE, DELETE ON ${name}.* TO ${user}`,
  ],
};

for (const engine of ['postgres', 'mysql'] as const) {
  test.serial(`${engine}: a user who may not create views goes on without, and says so once`, async (t) => {
    await using on = await openFresh(engine);
    if (on === undefined) return void t.pass();
    const { database, dialect, driver } = on;
    await ensureSchema(driver, dialect, { steps: steps.slice(0, -1) });
    const url = new URL(database.url);
    const name = url.pathname.slice(1);
    const user = name.replace('switchyard_', 'user_');
    await engines[engine].administer(database.url, restricted[engine](user, name));
    try {
      url.username = user;
      url.password = 'switchyard-test';
      const { logger, lines } = recorder();
      await using store = await openTestStore({ engine, url: url.href }, { logger });
      await store.txn(txnRequest({ success: [op.put('a', 'x')] }), soon());
      const told = lines.filter(({ level }) => level === 'warn');
      t.is(told.length, 1);
      t.regex(told[0]!.error!, /denied/u);
    } finally {
      await engines[engine].administer(
        database.url,
        engine === 'postgres' ? [`DROP OWNED BY ${user}`, `DROP ROLE ${user}`] : [`DROP USER ${user}`],
      );
    }
  });
}
