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
    if (theirs !== undefined && (isDeepStrictEqual(theirs.answer, answer) || isOfTransport(answer))) continue;
    return `to ${to}\n  etcd   ${textOf(answer)}\n  other  ${textOf(theirs?.answer)}\nin ${notation(history)}`;
  }
  if (got.length === expected.length) return undefined;
  return `${got.length} answers instead of ${expected.length} in ${notation(history)}`;
}

/**
 * What gRPC's Go server says of a request above the limit of its transport, before etcd sees it. switchyard's transport takes
 * more, and a write is refused by its size later; one that was not would show in the answers that follow.
 */
function isOfTransport(answer: Answer['answer']): boolean {
  return /"error":"8 grpc: received message larger than max/.test(textOf(answer));
}

function textOf(answer: Answer['answer'] | undefined): string {
  return JSON.stringify(answer) ?? 'nothing';
}

/** As it stands in cases.ts. */
function notation(history: History): string {
  return `[\n${history.map((step) => `    ${JSON.stringify(step)},`).join('\n')}\n  ]`;
}
