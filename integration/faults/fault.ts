// A fault: what it needs, and how it comes and goes.

import type { SqlEngine } from '../servers/index.ts';
import type { Site, SiteOptions } from './site.ts';

/** What a fault is told, and tells. */
export interface Strike {
  readonly site: Site;
  /** How long it is to last, where it lasts. */
  readonly seconds: number;
  /** To be called when the fault ends, where that is before `strike` is through: recovery is counted from then on. */
  readonly over: () => void;
  /** Resolves when so many more writes have been acknowledged at any gateway. */
  readonly writes: (count: number) => Promise<void>;
  /** Resolves when so many more calls have failed at any gateway. */
  readonly failures: (count: number) => Promise<void>;
  /** Further clients of a gateway, connected, which only call when they are told to. */
  readonly newcomers: (gateway: number) => Promise<Newcomers>;
}

export interface Newcomers {
  /** One call of each; resolves when all have ended, be it without an answer. */
  ask(): Promise<void>;
}

export interface Fault {
  /** As in the table: `gateway killed`. */
  readonly name: string;
  readonly engines: readonly SqlEngine[];
  /** What is special about its site. */
  readonly site?: Omit<SiteOptions, 'engine'>;
  /** Gateways whose clients it hits; absent: all. */
  readonly hits?: readonly number[];
  strike(strike: Strike): Promise<void>;
}

export const everyEngine: readonly SqlEngine[] = ['postgres', 'mysql', 'sqlite'];
/** Those that are servers. */
export const serverEngines: readonly SqlEngine[] = ['postgres', 'mysql'];
