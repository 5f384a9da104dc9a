// Programs at one step of the tables where the engine cannot undo definitions: one after the other. One that is stopped gives its turn back,
// one that is gone loses it, and one that is at it keeps it.

import test, { type ExecutionContext } from 'ava';
import type { Driver, Session } from '../src/dialect/dialect.ts';
import { createLogger, type Logger } from '../src/lib/log.ts';
import { ensureSchema } from '../src/store/sql/schema/schema.ts';
import { steps } from '../src/store/sql/schema/schema-steps.ts';
import { goneMs } from '../src/store/sql/schema/schema-turn.ts';
import { testDatabase } from './servers/index.ts';
import { waitFor } from './servers/wait.ts';
import { dialects, pool } from './stores.ts';

const dialect = dialects.mysql;
const last = steps.at(-1)!;
const waiting = 'Waiting for another program that is at a step of the tables';

interface Line {
  readonly message: string;
  readonly holder?: string;
}

function recorder(): { readonly logger: Logger; readonly said: (message: string) => Line[] } {
  const lines: Line[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line) as Line);
  const said = (message: string) => lines.filter((line) => line.message === message);
  return { logger: createLogger({ level: 'info', format: 'json', write }), said };
}

/** A database whose last step is not done; undefined after a skip was announced. */
async function opened(t: ExecutionContext) {
  const database = await testDatabase('mysql');
  if (database === undefined) return undefined;
  const driver = dialect.open({ url: database.url, pool });
  t.teardown(async () => {
    await driver.close();
    await database.dispose();
  });
  await ensureSchema(driver, dialect, { steps: steps.slice(0, -1) });
  const ask = async (text: string) => (await driver.query({ name: 'test', text }, [])).rows[0]?.['n'];
  const change = (text: string) => driver.query({ name: 'test', text }, []);
  const turns = () => ask('SELECT COUNT(*) AS n FROM switchyard_migration WHERE format < 0');
  return { driver, ask, change, turns };
}

/** A driver whose transactions stay before their first statement until `gate` resolves. */
function heldUp(
  driver: Driver,
  gate: Promise<void>,
): { readonly driver: Driver; readonly begun: Promise<void> } {
  const begun = Promise.withResolvers<void>();
  const held = (session: Session): Session => ({
    query: async (statement, params) => {
      begun.resolve();
      await gate;
      return await session.query(statement, params);
    },
    finish: (end) => session.finish(end),
  });
  return {
    begun: begun.promise,
    driver: {
      query: (statement, params, signal) => driver.query(statement, params, signal),
      queryForWriter: (statement, params) => driver.queryForWriter(statement, params),
      transaction: (mode, body, signal) => driver.transaction(mode, (session) => body(held(session)), signal),
      writeAfter: (opening, body) => driver.writeAfter(opening, body),
      script: (script) => driver.script(script),
      stats: () => driver.stats(),
      close: () => driver.close(),
    },
  };
}

test.serial('a program that is stopped within a step gives its turn back', async (t) => {
  const on = await opened(t);
  if (on === undefined) return t.pass();
  const stop = new AbortController();
  const gate = Promise.withResolvers<void>();
  const stopped = heldUp(on.driver, gate.promise);
  const migrating = ensureSchema(stopped.driver, dialect, { signal: stop.signal });
  await stopped.begun;
  t.is(await on.turns(), 1n);
  stop.abort(new Error('stopped by the test'));
  gate.resolve();
  await t.throwsAsync(migrating);
  t.is(await on.turns(), 0n);
  const { logger, said } = recorder();
  await ensureSchema(on.driver, dialect, { logger });
  t.is(said('Migrating the tables').length, 1);
  t.is(said(waiting).length, 0);
  return undefined;
});

test.serial('who waits says for whom, and a turn is given back by its holder alone', async (t) => {
  const on = await opened(t);
  if (on === undefined) return t.pass();
  const gate = Promise.withResolvers<void>();
  const first = heldUp(on.driver, gate.promise);
  const migrating = ensureSchema(first.driver, dialect);
  await first.begun;
  // As if the first one had been taken for gone.
  await on.change(
    `UPDATE switchyard_migration SET title = 'under way: ${last.title}, by another' WHERE format < 0`,
  );
  const { logger, said } = recorder();
  const second = ensureSchema(on.driver, dialect, { logger });
  await waitFor(() => said(waiting).length > 0, { what: 'a line that tells of the waiting' });
  gate.resolve();
  await migrating;
  t.is(await on.turns(), 1n);
  t.deepEqual(
    said(waiting).map(({ holder }) => holder),
    ['another'],
  );
  await on.change('DELETE FROM switchyard_migration WHERE format < 0');
  await second;
  t.is(said('Migrating the tables').length, 0);
  t.is(await on.turns(), 0n);
  return undefined;
});

test.serial('who is at a step keeps the turn, and one who is gone loses it', async (t) => {
  const on = await opened(t);
  if (on === undefined) return t.pass();
  const ago = `${dialect.sql.nowMs} - ${goneMs + 1000}`;
  await on.change(
    `INSERT INTO switchyard_migration (format, title, version, done_at) VALUES (-${last.format}, 'under way: x, by y', '0', ${ago})`,
  );
  const gate = Promise.withResolvers<void>();
  const first = heldUp(on.driver, gate.promise);
  const { logger, said } = recorder();
  const migrating = ensureSchema(first.driver, dialect, { logger });
  await first.begun;
  t.is(said(waiting).length, 0);
  await on.change('UPDATE switchyard_migration SET done_at = 0 WHERE format < 0');
  const kept = 'SELECT COUNT(*) AS n FROM switchyard_migration WHERE format < 0 AND done_at > 0';
  await waitFor(async () => (await on.ask(kept)) === 1n, { what: 'the turn to be kept' });
  gate.resolve();
  await migrating;
  t.is(await on.turns(), 0n);
  return undefined;
});
