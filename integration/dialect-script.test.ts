// Scripts on real databases: a transaction in one go is all or nothing, says what failed, and leaves its connection fit for use.

import test from 'ava';
import { SqlFault, type Driver, type SqlValue, type Step } from '../src/dialect/dialect.ts';
import { onEachEngine } from './on-each.ts';
import { testDatabase, type SqlEngine } from './servers/index.ts';
import { dialects, pool } from './stores.ts';

interface Bench extends AsyncDisposable {
  readonly driver: Driver;
  /** What is in the table, by key. */
  readonly stored: () => Promise<readonly (readonly SqlValue[])[]>;
}

const step = (text: string, ...params: SqlValue[]): Step => ({ statement: { name: 'test', text }, params });
const insert = (k: Buffer | string, n: bigint, v: Buffer | null = null) =>
  step('INSERT INTO items (k, n, v) VALUES (?, ?, ?)', Buffer.from(k), n, v);
/** Fails unless the one row of `a` has the number. */
const guard = (n: bigint) =>
  step('UPDATE items SET n = CASE WHEN n = ? THEN n + 1 END WHERE k = ?', n, Buffer.from('a'));

async function opened(engine: SqlEngine): Promise<Bench | undefined> {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const { types, tableOptions } = dialects[engine].sql;
  const driver = dialects[engine].open({ url: database.url, pool });
  const query = (text: string) => driver.query({ name: 'test', text }, []);
  await query(
    `CREATE TABLE items (k ${types.key} NOT NULL PRIMARY KEY, n ${types.int64} NOT NULL, v ${types.value}) ${tableOptions}`,
  );
  return {
    driver,
    stored: async () =>
      (await query('SELECT k, n, v FROM items ORDER BY k')).rows.map((row) => Object.values(row)),
    [Symbol.asyncDispose]: async () => {
      await driver.close();
      await database.dispose();
    },
  };
}

const onEach = onEachEngine(test, opened);

onEach('a script writes every value as it is', async (t, { driver, stored }) => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const rows: [string, bigint, Buffer | null][] = [
    ['', -(2n ** 63n), null],
    ['\'?\\"%', 2n ** 63n - 1n, bytes],
    ['k', 0n, Buffer.alloc(0)],
  ];
  await driver.script(rows.map(([k, n, v]) => insert(k, n, v)));
  t.deepEqual(
    await stored(),
    rows.map(([k, n, v]) => [Buffer.from(k), n, v]),
  );
});

onEach('a step that fails undoes the script, and the next one works', async (t, { driver, stored }) => {
  await driver.script([insert('a', 1n)]);
  const before = await stored();
  for (const [kind, steps] of [
    ['not-null-violation', [guard(7n), insert('b', 1n)]],
    ['not-null-violation', [insert('b', 1n), guard(7n)]],
    ['unique-violation', [guard(1n), insert('b', 1n), insert('b', 2n), insert('c', 1n)]],
  ] as const) {
    const fault = await t.throwsAsync(driver.script(steps), { instanceOf: SqlFault });
    t.is(fault.kind, kind);
    t.false(fault.outcomeUnknown);
    t.deepEqual(await stored(), before);
  }
  await driver.script([guard(1n), insert('b', 1n)]);
  t.deepEqual(await stored(), [
    [Buffer.from('a'), 2n, null],
    [Buffer.from('b'), 1n, null],
  ]);
});

onEach('of scripts with the same guard one is written', async (t, { driver, stored }) => {
  await driver.script([insert('a', 1n)]);
  const results = await Promise.allSettled(
    Array.from({ length: 8 }, (_, index) => driver.script([guard(1n), insert(`b${index}`, 1n)])),
  );
  t.is(results.filter(({ status }) => status === 'fulfilled').length, 1);
  t.is((await stored()).length, 2);
});

onEach(
  'a script that is too large for one request of the engine is written all the same',
  async (t, { driver, stored }) => {
    const large = Buffer.alloc(9 * 1024 * 1024, 0xfe);
    await driver.script([insert('a', 1n, large), guard(1n), insert('b', 1n, large)]);
    const rows = await stored();
    t.deepEqual(
      rows.map(([k, n, v]) => [String(k), n, Buffer.isBuffer(v) && v.equals(large)]),
      [
        ['a', 2n, true],
        ['b', 1n, true],
      ],
    );
    const fault = await t.throwsAsync(
      driver.script([insert('c', 1n, large), guard(7n), insert('d', 1n, large)]),
      {
        instanceOf: SqlFault,
      },
    );
    t.is(fault.kind, 'not-null-violation');
    t.is((await stored()).length, 2);
  },
);

const select = { name: 'test', text: 'SELECT n FROM items WHERE k = ?' };
const keyA = Buffer.from('a');

onEach('what a transaction ends with is committed with what was before it', async (t, { driver, stored }) => {
  for (const last of [[insert('b', 1n)], [insert('c', 1n), guard(2n), insert('d', 1n)]]) {
    const n = await driver.transaction('write', async (session) => {
      if (last.length === 1) await session.query(insert('a', 2n).statement, insert('a', 2n).params);
      session.finish(last);
      const { rows } = await session.query(select, [keyA]);
      return rows[0]?.['n'];
    });
    t.is(n, 2n);
  }
  t.deepEqual(
    (await stored()).map(([k, n]) => [String(k), n]),
    [
      ['a', 3n],
      ['b', 1n],
      ['c', 1n],
      ['d', 1n],
    ],
  );
});

onEach('an end that fails undoes the transaction, and the next one works', async (t, { driver, stored }) => {
  await driver.script([insert('a', 1n)]);
  const before = await stored();
  for (const last of [[insert('a', 1n)], [insert('b', 1n), guard(7n)], [guard(1n), insert('a', 1n)]]) {
    const failing = driver.transaction('write', async (session) => {
      await session.query(guard(1n).statement, guard(1n).params);
      session.finish(last);
    });
    const fault = await t.throwsAsync(failing, { instanceOf: SqlFault });
    t.regex(fault.kind, /^(?:unique|not-null)-violation$/);
    t.false(fault.outcomeUnknown);
    t.deepEqual(await stored(), before);
  }
  const discarded = driver.transaction('write', async (session) => {
    session.finish([insert('b', 1n)]);
    throw new Error('another thought');
  });
  await t.throwsAsync(discarded, { message: 'another thought' });
  t.deepEqual(await stored(), before);
  await driver.script([guard(1n)]);
});

onEach('what a transaction begins with is read under its lock', async (t, { driver, stored }) => {
  await driver.script([insert('a', 0n, Buffer.from('x')), insert('b', 7n)]);
  const dialect = t.title.split(':')[0] as SqlEngine;
  const lock = step(`SELECT n FROM items WHERE k = ? ${dialects[dialect].sql.forUpdate}`, keyA);
  const read = step('SELECT k, n, v FROM items WHERE k IN (?, ?)', keyA, Buffer.from('none'));
  const increment = () =>
    driver.writeAfter([lock, read], async (session, [locked, found]) => {
      t.deepEqual(found?.rows, [{ k: keyA, n: locked!.rows[0]!['n']!, v: Buffer.from('x') }]);
      const n = locked!.rows[0]!['n'] as bigint;
      session.finish([step('UPDATE items SET n = ? WHERE k = ?', n + 1n, keyA)]);
    });
  await Promise.all(Array.from({ length: 8 }, increment));
  t.deepEqual(
    (await stored()).map(([k, n]) => [String(k), n]),
    [
      ['a', 8n],
      ['b', 7n],
    ],
  );
});

onEach('a beginning that fails leaves no transaction behind', async (t, { driver, stored }) => {
  await driver.script([insert('a', 1n)]);
  const bad = step('SELECT nothing FROM items WHERE k = ?', keyA);
  for (const opening of [[bad], [step('SELECT n FROM items WHERE k = ?', keyA), bad]]) {
    const failing = driver.writeAfter(opening, () => Promise.reject(new Error('Expected not to be called')));
    t.is((await t.throwsAsync(failing, { instanceOf: SqlFault })).kind, 'other');
  }
  await driver.script([guard(1n), insert('b', 1n)]);
  t.is((await stored()).length, 2);
});
