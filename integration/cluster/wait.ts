// Waiting for what happens in a cluster, and work in parallel lanes.

import { setTimeout as sleep } from 'node:timers/promises';
import { waitFor, type WaitOptions } from '../servers/wait.ts';

/** Between two questions to kube-apiserver or a database, so that waiting costs the cluster little. */
const intervalMs = 150;

/** As `waitFor`, at a pace that suits questions which cost a process or a connection each. */
export function until<T>(
  condition: () => T | Promise<T>,
  options: WaitOptions,
): Promise<Exclude<T, undefined | false>> {
  return waitFor(async () => {
    const started = performance.now();
    try {
      const answer = await condition();
      if (answer !== undefined && answer !== false) return answer;
      await sleep(intervalMs);
      return answer;
    } catch (error) {
      await sleep(Math.max(0, intervalMs - (performance.now() - started)));
      throw error;
    }
  }, options);
}

/** Runs `work` for 0..count-1 with at most `parallel` at a time; answers in order of the index. */
export async function inParallel<T>(
  options: { readonly count: number; readonly parallel: number },
  work: (index: number) => Promise<T>,
): Promise<readonly T[]> {
  const answers: T[] = [];
  let next = 0;
  const lane = async () => {
    while (next < options.count) {
      const index = next++;
      answers[index] = await work(index);
    }
  };
  await Promise.all(Array.from({ length: options.parallel }, lane));
  return answers;
}
