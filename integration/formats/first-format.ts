// Databases whose tables the first program has made, with what it wrote there; and how the tables of a database look. Used by the tests of
// upgrades.

import { readFileSync } from 'node:fs';
import type { Driver } from '../../src/dialect/dialect.ts';
import { testDatabase, type SqlEngine, type TestDatabase } from '../servers/index.ts';
import { dialects, pool } from '../stores.ts';

const statement = (text: string) => ({ name: 'test', text });

/** The statements of the written-down tables; none has a semicolon in it. */
export function firstFormatOf(engine: SqlEngine): readonly string[] {
  const text = readFileSync(new URL(`format-1-${engine}.sql`, import.meta.url), 'utf8');
  return text
    .replaceAll(/^--.*$/gmu, '')
    .split(';')
    .map((each) => each.trim())
    .filter((each) => each !== '');
}

/** A database of its own with tables of format 1; undefined → a skip was announced. */
export async function firstFormatDatabase(engine: SqlEngine): Promise<TestDatabase | undefined> {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const driver = dialects[engine].open({ url: database.url, pool });
  try {
    for (const text of firstFormatOf(engine)) await driver.query(statement(text), []);
  } finally {
    await driver.close();
  }
  return database;
}

const layouts: Readonly<Record<SqlEngine, string>> = {
  sqlite: `SELECT t.name || '.' || c.name || ' ' || c.type AS line
    FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type IN ('table', 'view')`,
  postgres: `SELECT table_name || '.' || column_name || ' ' || data_type AS line
    FROM information_schema.columns WHERE table_schema = 'public'`,
  mysql: `SELECT CONCAT(table_name, '.', column_name, ' ', column_type) AS line
    FROM information_schema.columns WHERE table_schema = DATABASE()`,
};

/** Tables and views with their columns and types, one a line. */
export async function layoutOf(engine: SqlEngine, driver: Driver): Promise<readonly string[]> {
  const { rows } = await driver.query(statement(layouts[engine]), []);
  return rows.map((row) => String(row['line'])).toSorted();
}
