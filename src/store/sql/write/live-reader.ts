// Where a write finds the keys that it looks at: in the tables, under the lock of the meta row, or in the key index with no
// read at all. Used by state.ts; batch-writer.ts chooses. Invariant: a reader over the index never gives a pair that the
// index did not know at the revision it was made for.

import type { KeyValue, Revision } from '../../../etcd/types.ts';
import { bytes, int64, keyValueOf, lostValue } from '../row.ts';
import { padded, pairsMax, type Query, type WriteStatements } from '../statements.ts';
import type { ValueCache } from './value-cache.ts';

/** A live key. The value is loaded only where somebody needs it. */
export interface Live extends Omit<KeyValue, 'value'> {
  readonly value: Buffer | undefined;
}

/** The live keys of one revision, known without a read. */
export interface KnownKeys {
  /** Undefined while nothing is known: then `get` must not be asked. */
  readonly revision: Revision | undefined;
  /** How often everything was read anew: then what was known before may be of another history. */
  readonly builds: number;
  /** Undefined = the key is not there. */
  get(key: Buffer): Omit<KeyValue, 'key' | 'value'> | undefined;
  /** What is known may not be what the database has at that revision: forget it. */
  distrust(reason: string): void;
}

/** For stores that always look into their tables. */
export const nothingKnown: KnownKeys = {
  revision: undefined,
  builds: 0,
  get: () => undefined,
  distrust: () => undefined,
};

/** The live keys as they were before a batch. */
export interface LiveReader {
  /** Those of `keys` (at most as many as a statement takes) that are live; `values`: with their values. */
  read(keys: readonly Buffer[], options: { readonly values: boolean }): Promise<readonly Live[]>;
  /** The value of a pair that `read` gave. @throws SqlFault when it is lost. */
  value(live: Live): Promise<Buffer>;
}

export interface TableReaderOptions {
  readonly query: Query;
  readonly statements: WriteStatements;
}

const noBytes = Buffer.alloc(0);

/** Reads the tables, as the session or driver behind `query` sees them. */
export class TableReader implements LiveReader {
  readonly #options: TableReaderOptions;

  constructor(options: TableReaderOptions) {
    this.#options = options;
  }

  async read(keys: readonly Buffer[], { values }: { readonly values: boolean }): Promise<readonly Live[]> {
    const { query, statements } = this.#options;
    const params = padded(keys);
    const statement = values
      ? statements.selectCurrentValues(params.length)
      : statements.selectCurrent(params.length);
    const { rows } = await query(statement, params);
    return rows.map((row) => {
      const hasValue = values && row['value'] !== null;
      const pair = keyValueOf(hasValue ? row : { ...row, value: noBytes });
      return hasValue ? pair : { ...pair, value: undefined };
    });
  }

  async value(live: Live): Promise<Buffer> {
    const { query, statements } = this.#options;
    const { rows } = await query(statements.selectValue, [live.modRevision, live.key]);
    if (rows[0] === undefined) throw lostValue(live);
    return bytes(rows[0], 'value');
  }
}

/** The values of `pairs` that are in the log, which keeps them whatever is written meanwhile. */
export async function readValues(
  { query, statements }: TableReaderOptions,
  pairs: readonly Live[],
): Promise<ReadonlyMap<Live, Buffer>> {
  const found = new Map<string, Buffer>();
  const idOf = (modRevision: Revision, key: Buffer) => `${modRevision} ${key.toString('latin1')}`;
  for (let start = 0; start < pairs.length; start += pairsMax) {
    const part = padded(pairs.slice(start, start + pairsMax));
    const params = part.flatMap(({ modRevision, key }) => [modRevision, key]);
    const { rows } = await query(statements.selectValues(part.length), params);
    for (const row of rows) found.set(idOf(int64(row, 'mod_revision'), bytes(row, 'k')), bytes(row, 'value'));
  }
  const values = new Map<Live, Buffer>();
  for (const pair of pairs) {
    const value = found.get(idOf(pair.modRevision, pair.key));
    if (value !== undefined) values.set(pair, value);
  }
  return values;
}

/** The index has moved on, or the tables have, while something was being evaluated against a revision of it. */
export class StaleIndexError extends Error {
  override readonly name = 'StaleIndexError';
  constructor() {
    super('The key index is not at the revision that was evaluated against');
  }
}

export interface IndexReaderOptions extends TableReaderOptions {
  readonly index: KnownKeys;
  readonly values: ValueCache;
  /** What the index is at, and what the answers hold for. */
  readonly revision: Revision;
}

/** Knows the keys from the index and recent values from memory; reads the tables for other values only. */
export class IndexReader implements LiveReader {
  readonly #options: IndexReaderOptions;
  readonly #table: TableReader;

  constructor(options: IndexReaderOptions) {
    this.#options = options;
    this.#table = new TableReader(options);
  }

  /** @throws StaleIndexError */
  async read(keys: readonly Buffer[], { values }: { readonly values: boolean }): Promise<readonly Live[]> {
    const found = keys.flatMap((key) => this.#find(key) ?? []);
    if (!values) return found;
    const without = found.filter(({ value }) => value === undefined);
    if (without.length === 0) return found;
    const read = await this.#table.read(
      without.map(({ key }) => key),
      { values: true },
    );
    const isSame = (live: Live, index: number) => live.modRevision === sorted[index]?.modRevision;
    const sorted = read.toSorted(byKey);
    if (sorted.length !== without.length || !without.toSorted(byKey).every(isSame))
      throw new StaleIndexError();
    return [...found.filter(({ value }) => value !== undefined), ...read];
  }

  async value(live: Live): Promise<Buffer> {
    return this.#options.values.get(live.key, live.modRevision) ?? (await this.#table.value(live));
  }

  /** @throws StaleIndexError */
  #find(key: Buffer): Live | undefined {
    const { index, values, revision } = this.#options;
    if (index.revision !== revision) throw new StaleIndexError();
    const meta = index.get(key);
    if (meta === undefined) return undefined;
    const { createRevision, modRevision, version, lease } = meta;
    const value = values.get(key, modRevision);
    return { key, createRevision, modRevision, version, lease, value };
  }
}

const byKey = (a: Live, b: Live) => Buffer.compare(a.key, b.key);
