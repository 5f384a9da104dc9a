// Which tables a store has. Used by schema.ts and by everything that writes under the lock of the meta row. A format is a number; each step of
// schema-steps.ts leads to the next one. The meta row names the format that a program has to know at least, which most steps leave as
// it is: programs of before go on beside them.

import { SqlFault, type Row } from '../../../dialect/dialect.ts';
import { version } from '../../../lib/version.ts';
import { int64 } from '../row.ts';
import { steps } from './schema-steps.ts';

/** The latest format that this program knows. */
export const latestFormat = steps.at(-1)!.format;

/** Who made the tables so, where that is known. */
interface Maker {
  readonly madeBy?: string | undefined;
}

/** What is said of tables that need a later program than one that knows `known`. */
export function newerFormat(
  needed: bigint,
  { known = latestFormat, madeBy }: Maker & { known?: bigint },
): SqlFault {
  const maker = madeBy === undefined ? '' : `, made by switchyard ${madeBy}`;
  return new SqlFault(
    'refused',
    `Expected tables of format ${known} or earlier, got format ${needed}${maker}. This is switchyard ${version}: ` +
      `start ${madeBy ?? 'the version that made them'} or a later one; to go back, restore a backup of before the upgrade`,
  );
}

/**
 * To be called with a row of `switchyard_meta` that has been read under its lock: a later program may have changed the tables since
 * the start of this one. @throws SqlFault `refused`
 */
export function checkFormat(row: Row): void {
  const needed = int64(row, 'format');
  if (needed > latestFormat) throw newerFormat(needed, {});
}
