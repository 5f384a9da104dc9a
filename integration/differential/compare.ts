// The same history on two servers at once, and the first answer that differs, in words.

import { isDeepStrictEqual } from 'node:util';
import { replay, type Answer } from './replay.ts';
import type { History } from './steps.ts';
import type { Wire } from './wire.ts';

/** Undefined: every answer is equal. */
export async function difference(etcd: Wire, other: Wire, history: History): Promise<string | undefined> {
  // Both to their end, so that the next history finds nobody at work.
  const both = [replay(etcd, history), replay(other, history)] as const;
  await Promise.allSettled(both);
  const [expected, got] = await Promise.all(both);
  for (const [index, { to, answer }] of expected.entries()) {
    const theirs = got[index];
    if (theirs !== undefined && isDeepStrictEqual(theirs.answer, answer)) continue;
    return `to ${to}\n  etcd   ${textOf(answer)}\n  other  ${textOf(theirs?.answer)}\nin ${notation(history)}`;
  }
  if (got.length === expected.length) return undefined;
  return `${got.length} answers instead of ${expected.length} in ${notation(history)}`;
}

const textOf = (answer: Answer['answer'] | undefined) => JSON.stringify(answer);

/** As it stands in cases.ts. */
function notation(history: History): string {
  return `[\n${history.map((step) => `    ${JSON.stringify(step)},`).join('\n')}\n  ]`;
}
