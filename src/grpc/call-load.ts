// What the calls of one client connection make this side hold. Used by incoming-call.ts; whoever serves connections sets the bounds.

import type { HeldPart } from '../lib/held-bytes.ts';
import type { GrpcStatus } from './status.ts';

/** Shared by the calls of a connection. */
export interface CallLoad {
  /** Calls that were begun and left by their clients, and are not finished. */
  abandoned: number;
  /** Calls that are not over, with what came of their requests. */
  readonly asked: HeldPart;
  /** Answers that the client has not taken; those of streams wait for it, and do not count. */
  readonly answers: HeldPart;
  /** How a call is answered when there is too much of either. */
  readonly refusal: GrpcStatus;
  /**
   * A call was refused: answered with `refusal`, or, where too many were left by their clients, reset. `path`: of one that nobody
   * serves, and so nobody else has counted.
   */
  refused(tooMuch: 'asked' | 'answers' | 'abandoned', path?: string): void;
}
