// Restores that are held up or fail in the middle, and backup files made by hand. Used by the tests of what becomes of them.

import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { encodeLine, type Line } from '../../src/backup/format.ts';
import { planRestore, type Plan } from '../../src/backup/plan.ts';
import { restoreBackup, type StoreRestored } from '../../src/backup/restore.ts';
import { surveyBackup, type Choice } from '../../src/backup/survey.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { silentLogger } from '../../src/lib/log.ts';
import { parseTopology } from '../../src/router/topology.ts';
import type { BulkStore } from '../../src/store/bulk.ts';
import { openBulk } from '../../src/store/open.ts';
import { folderOf } from './scene.ts';

const keyPrefix = '/registry';

export interface RunOptions {
  readonly path: string;
  /** The text of a topology file. */
  readonly topology: string;
  readonly choice?: Choice;
  readonly replace?: boolean;
  readonly resume?: boolean;
  /** Puts something before what a store does. */
  readonly wrap?: (store: BulkStore) => Partial<BulkStore>;
  readonly progress?: () => void;
  readonly signal?: AbortSignal;
}

export interface Run {
  readonly plan: Plan;
  restore(): Promise<readonly StoreRestored[]>;
}

/** A restore that is planned and not begun. Its stores are closed when the test ends. */
export async function planned(t: ExecutionContext, options: RunOptions): Promise<Run> {
  const { path, choice = { leased: false }, wrap = () => ({}) } = options;
  const signal = options.signal ?? new AbortController().signal;
  const topology = parseTopology(options.topology, { env: {} });
  const stores = new Map<string, BulkStore>();
  t.teardown(() => Promise.all([...stores.values()].map((store) => store[Symbol.asyncDispose]())));
  const storeNamed = async (name: string) => {
    const known = stores.get(name);
    if (known !== undefined) return known;
    const backend = [topology.default, ...topology.backends].find((each) => each.name === name)!;
    const store = openBulk(backend, { logger: silentLogger, keyPrefix, signal });
    await store.prepare();
    const wrapped = with_(store, wrap(store));
    stores.set(name, wrapped);
    return wrapped;
  };
  const survey = await surveyBackup(path, choice);
  const { replace = false, resume = false } = options;
  const plan = await planRestore({
    topology,
    keyPrefix,
    survey,
    choice,
    storeNamed,
    replace,
    resume,
    margin: 10n,
  });
  const restoring = { path, survey, choice, plan, clock: systemClock, signal };
  const [begun, progress] = [() => undefined, options.progress ?? (() => undefined)];
  return { plan, restore: () => restoreBackup({ ...restoring, begun, progress }) };
}

/** Stops a restore when its first objects are there. */
export async function interrupted(t: ExecutionContext, options: RunOptions): Promise<void> {
  const stop = new AbortController();
  const progress = () => stop.abort(new Error('stopped by the test'));
  const run = await planned(t, { ...options, progress, signal: stop.signal });
  await t.throwsAsync(run.restore(), { message: 'stopped by the test' });
}

/** `store` with some methods in place of its own. */
function with_(store: BulkStore, methods: Partial<BulkStore>): BulkStore {
  return new Proxy(store, {
    get: (target, name) => {
      const value: unknown = Reflect.get(name in methods ? methods : target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

/** A backup file of these lines, with its last one. */
export function fileOf(t: ExecutionContext, lines: readonly Line[]): string {
  const path = join(folderOf(t), 'made.jsonl');
  const text = lines.map(encodeLine).join('');
  const sha256 = createHash('sha256').update(text).digest('hex');
  const pairs = lines.filter(({ type }) => type === 'pair').length;
  writeFileSync(path, text + encodeLine({ type: 'end', pairs, sha256 }));
  return path;
}

export const headerLine: Line = {
  type: 'header',
  format: 1,
  id: 'made',
  createdAt: '2026-01-01T00:00:00.000Z',
  version: '0',
  keyPrefix: '/registry',
  scope: {},
};

export function pairLine(key: string, lease: bigint): Line {
  const value = Buffer.from('x');
  const pair = { key: Buffer.from(key), createRevision: 2n, modRevision: 2n, version: 1n, lease, value };
  return { type: 'pair', pair };
}
