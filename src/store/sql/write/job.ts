// What the committer is given to do, and how a batch of it is evaluated. Used by committer.ts and batch-writer.ts.

import { EtcdError } from '../../../etcd/errors.ts';
import type { BatchState, Needs } from './state.ts';

/** What a job does with the state; an EtcdError fails this job alone and must come before any change. */
export interface Job<T> {
  /** About, for the bounds. */
  readonly bytes: number;
  /** What to read before. */
  readonly needs: Needs;
  apply(state: BatchState): Promise<T>;
}

export type Outcome = { readonly value: unknown } | { readonly error: EtcdError };

/** The needs of all jobs; with `allValues`, values of every key, so that events can be handed on complete. */
export function combine(jobs: readonly Job<unknown>[], allValues: boolean): Needs {
  const keys = jobs.flatMap(({ needs }) => needs.keys);
  const valueKeys = jobs.flatMap(({ needs }) => needs.valueKeys);
  const leases = jobs.flatMap(({ needs }) => needs.leases);
  const onlyKeys = jobs.every(({ needs }) => needs.onlyKeys);
  return allValues
    ? { keys: [], valueKeys: [...keys, ...valueKeys], leases, onlyKeys }
    : { keys, valueKeys, leases, onlyKeys };
}

/** Each job in turn, on the state as those before it have left it. */
export async function evaluate(
  jobs: readonly Job<unknown>[],
  state: BatchState,
): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const job of jobs) outcomes.push(await outcomeOf(job, state));
  return outcomes;
}

async function outcomeOf(job: Job<unknown>, state: BatchState): Promise<Outcome> {
  try {
    return { value: await job.apply(state) };
  } catch (error) {
    if (error instanceof EtcdError) return { error };
    throw error;
  }
}
