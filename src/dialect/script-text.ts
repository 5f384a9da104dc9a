// Steps as plain statements, for an engine that takes a whole script as one text. Used by mysql.ts and, for what goes with the
// beginning of a transaction, by postgres.ts.

import type { SqlValue, Step } from './dialect.ts';

/** Each step with its values in place of the placeholders, NULL included. No text of a statement has a `?` in quotes. */
export function scriptText(
  steps: readonly Step[],
  literal: (value: Exclude<SqlValue, null>) => string,
): readonly string[] {
  return steps.map(({ statement, params }) => {
    let index = 0;
    return statement.text.replaceAll('?', () => {
      const value = params[index++];
      return value === null || value === undefined ? 'NULL' : literal(value);
    });
  });
}
