// What a batch reads first under the lock, known before it has the lock: so it goes along with the beginning of the transaction.
// Used by batch-writer.ts.

import type { QueryResult, Step } from '../../../dialect/dialect.ts';
import { TableReader } from './live-reader.ts';
import { BatchState, type Needs, type StateOptions } from './state.ts';
import type { Query } from '../statements.ts';

/** More statements are not sent ahead. */
const stepsMax = 8;

/** The reads of `BatchState.prefetch`, in order; none where there are many of them. */
export async function openingOf(
  needs: Needs,
  options: Pick<StateOptions, 'statements' | 'can'>,
): Promise<readonly Step[]> {
  const steps: Step[] = [];
  const query: Query = async (statement, params) => {
    steps.push({ statement, params });
    return { rows: [], affected: 0 };
  };
  const reader = new TableReader({ query, statements: options.statements });
  const state = new BatchState({ ...options, reader, query, revision: 0n, compactRevision: 0n });
  await state.prefetch(needs);
  return steps.length > stepsMax ? [] : steps;
}

/** A query that gives what was read ahead to those who ask for the same in the same order, and asks `query` for all else. */
export function readAhead(steps: readonly Step[], results: readonly QueryResult[], query: Query): Query {
  let next = 0;
  return async (statement, params) => {
    const step = steps[next];
    const isSame =
      step?.statement === statement &&
      step.params.length === params.length &&
      step.params.every((param, index) => param === params[index]);
    return isSame ? results[next++]! : await query(statement, params);
  };
}
