// Overwriting and skipping rows that are there already, in the words that Postgres and SQLite share.

import type { DialectSql } from './dialect.ts';

/** `INSERT … ON CONFLICT`, as `DialectSql` describes the two. */
export const onConflict: Pick<DialectSql, 'upsert' | 'insertIgnore'> = {
  upsert(table, columns, keyColumns, source) {
    const others = columns.filter((column) => !keyColumns.includes(column));
    const action =
      others.length === 0
        ? 'NOTHING'
        : `UPDATE SET ${others.map((name) => `${name} = excluded.${name}`).join(', ')}`;
    const key = keyColumns.join(', ');
    return `INSERT INTO ${table} (${columns.join(', ')}) ${source} ON CONFLICT (${key}) DO ${action}`;
  },
  insertIgnore(table, columns, rows) {
    return `INSERT INTO ${table} (${columns.join(', ')}) VALUES ${rows} ON CONFLICT DO NOTHING`;
  },
};
