// For tests: the load of a connection.

import { HeldBytes, type HeldLimits } from '../lib/held-bytes.ts';
import type { CallLoad } from './call-load.ts';
import { grpcCode } from './codes.ts';

/** What a connection with these bounds has to bear; `refusals`: the paths of calls that were refused. */
export function testLoad(limits: Partial<HeldLimits> = {}): CallLoad & { readonly refusals: string[] } {
  const all = { partMax: 1e9, allMax: 1e9, share: 1e9, ...limits };
  const refusals: string[] = [];
  return {
    abandoned: 0,
    asked: new HeldBytes(all).newPart(),
    answers: new HeldBytes(all).newPart(),
    refusal: { code: grpcCode.resourceExhausted, details: 'too much' },
    refusals,
    refused: (_, path) => path !== undefined && refusals.push(path),
  };
}
