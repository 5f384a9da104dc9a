// From the database's faults to etcd's errors: what a client is told when SQL fails. Used by everything in store/sql that
// answers clients. The fault itself stays the cause, for the log.

import { SqlFault, type SqlFaultKind } from '../../dialect/dialect.ts';
import { EtcdError } from '../../etcd/errors.ts';
import type { Clock } from '../../lib/clock.ts';

/** A read is tried again this often. */
const readRetriesMax = 2;
/** Its connection turned out to be lost, or a table was changed under it. */
const readRetriedKinds: ReadonlySet<SqlFaultKind> = new Set(['disconnected', 'serialization', 'deadlock']);
/** How long work that is not in a batch may find others before it, and how long it rests between. */
const turnWithinMs = 5_000;
const turnPauseMaxMs = 5;
const readOnlyMessage = 'switchyard: the database takes no writes now';

/**
 * The error a client gets for `error`: Unavailable where trying again may help or the outcome is not known, noSpace,
 * requestTooLarge, tooManyRequests; anything that is not a SqlFault, or that points to a bug, as it is.
 */
export function toEtcdError(error: unknown): unknown {
  if (!(error instanceof SqlFault)) return error;
  switch (error.kind) {
    case 'full':
      return new EtcdError('noSpace', { cause: error });
    case 'too-large':
      return new EtcdError('requestTooLarge', { cause: error });
    case 'crowded':
      return new EtcdError('tooManyRequests', { cause: error });
    case 'serialization':
    case 'deadlock':
    case 'busy':
    case 'disconnected':
    case 'timeout':
    case 'refused':
      return new EtcdError('timeout', { cause: error });
    case 'read-only':
      return new EtcdError('timeout', { cause: error, message: readOnlyMessage });
    case 'unique-violation':
    case 'not-null-violation':
    case 'other':
      return error.outcomeUnknown ? new EtcdError('timeout', { cause: error }) : error;
  }
}

const transientKinds: ReadonlySet<SqlFaultKind> = new Set([
  'serialization',
  'deadlock',
  'busy',
  'disconnected',
  // Mostly a person has canceled it. What has taken all its time is not tried again: that is more than there is for a batch.
  'timeout',
]);

/** True after which the same work may succeed at once or soon, because nothing of it was kept. */
export function isTransient(error: unknown): error is SqlFault {
  return error instanceof SqlFault && !error.outcomeUnknown && transientKinds.has(error.kind);
}

/** True when another transaction was preferred to this one, which it would not have hindered before or after. */
export function isConflict({ kind }: SqlFault): boolean {
  return kind === 'deadlock' || kind === 'serialization';
}

/** Reads have no effect, so one that met what may pass at once is simply done again, on another connection where that is lost. */
export async function retried<T>(read: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await read();
    } catch (error) {
      const mayPass = error instanceof SqlFault && readRetriedKinds.has(error.kind);
      if (!mayPass || attempt >= readRetriesMax) throw error;
    }
  }
}

/**
 * Work of which nothing is kept when another transaction is preferred to it is done again until it has its turn, or no longer makes
 * sense. Where gateways write through different nodes of a cluster, that is how they wait for each other.
 */
export async function inTurn<T>(work: () => Promise<T>, clock: Clock): Promise<T> {
  const deadline = clock.now() + turnWithinMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const isBehind = error instanceof SqlFault && !error.outcomeUnknown && isConflict(error);
      if (!isBehind || clock.now() > deadline) throw error;
    }
    await clock.sleep(Math.random() * turnPauseMaxMs);
  }
}
