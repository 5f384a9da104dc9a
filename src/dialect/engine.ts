// What a dialect gives to get a Driver: how its connections are made, what they do, and how many there are for what. Used by driver.ts and
// loan.ts; the dialects fill it in.

import type {
  DriverOptions,
  Epoch,
  PoolOptions,
  QueryResult,
  SqlFaultKind,
  SqlValue,
  Step,
} from './dialect.ts';
import type { Pooled } from './pool.ts';

export type TransactionMode = 'read' | 'write';

/** One connection of an engine; every rejection is the package's own error, not yet classified. */
export interface Connection extends Pooled {
  /** Of its server, where the engine tells it. */
  readonly epoch?: Epoch | undefined;
  run(text: string, params: readonly SqlValue[]): Promise<QueryResult>;
  /** A statement that begins or ends a transaction. */
  control(text: string): Promise<void>;
  /** `begin`, the steps in order, COMMIT, in as few round trips as can be. When it rejects, no transaction is left open. */
  script(begin: string, steps: readonly Step[]): Promise<void>;
  /**
   * A statement that begins a transaction and the steps, which only read, in order; gives their results. When it rejects, no
   * transaction is left open.
   */
  begin(text: string, steps: readonly Step[]): Promise<readonly QueryResult[]>;
  /** The steps in order and COMMIT, in the transaction that is open. When it rejects, none is left open. */
  finish(steps: readonly Step[]): Promise<void>;
}

/** What a dialect gives to get a Driver. */
export interface Engine {
  readonly classify: (error: unknown) => SqlFaultKind;
  /** An error's text without what it quotes of rows; absent: it quotes nothing. */
  readonly withoutValues?: (text: string) => string;
  readonly begin: Readonly<Record<TransactionMode, string>>;
  /** False where a running statement cannot be left alone: an abort then takes effect when it ends. */
  readonly interruptible: boolean;
  /** The pool for this use. Lanes with the same name share one pool. */
  readonly lane: (mode: TransactionMode, use: 'statement' | 'transaction') => string;
  /** Limits of a lane's pool. */
  readonly pool: (lane: string, options: PoolOptions) => PoolOptions;
  /** `host`: as `Hosts.pick` has it. */
  readonly connect: (options: DriverOptions, lane: string, host: number) => Promise<Connection>;
}

/** The lane of servers' connections for write transactions and scripts. */
export const writeLane = 'write';
/**
 * The longest that a gateway may be silent within a write transaction (stopped, swapped out, cut off): then its database is to end the
 * transaction, so that others can write. A gateway at work is silent for milliseconds.
 */
export const writePauseMaxMs = 3_000;
/** Connections kept for write transactions: those of the committer, and of a compaction beside it. */
const writersMax = 2;

/**
 * For servers: write transactions have connections of their own, so that a crowd of readers does not hold up the one
 * committer. They count towards the limit, unless that is 1.
 */
export const serverLanes: Pick<Engine, 'lane' | 'pool'> = {
  lane: (mode, use) => (mode === 'write' && use === 'transaction' ? writeLane : 'all'),
  pool: (lane, options) => {
    const writers = Math.max(1, Math.min(writersMax, options.connectionsMax - 1));
    const others = Math.max(1, options.connectionsMax - writers);
    return { ...options, connectionsMax: lane === writeLane ? writers : others };
  },
};
