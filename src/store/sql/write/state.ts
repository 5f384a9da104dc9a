// What one batch knows and has changed: the counters it began with, the live keys read so far with the batch's own changes
// laid over them, and the rows still to be written. Used by txn.ts and batch-writer.ts. Invariant: what the reader gave plus the
// unwritten rows is the state; under the lock, after `flush`, the database as the transaction sees it is.

import type { Capabilities, SqlValue, Step } from '../../../dialect/dialect.ts';
import type { KeyRange } from '../../../etcd/range.ts';
import type { Event, KeyValue, LeaseId, Revision } from '../../../etcd/types.ts';
import type { Live, LiveReader } from './live-reader.ts';
import { int64, keyValueOf } from '../row.ts';
import {
  currentColumns,
  pairsMax,
  rowsWithGuardMax,
  logColumns,
  padded,
  rowCounts,
  type Query,
  type WriteStatements,
} from '../statements.ts';

/** What a put leaves behind. */
export interface NewPair {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly lease: LeaseId;
}

/** Keys and leases to read before the txns that need them, in as few statements as there can be. */
export interface Needs {
  readonly keys: readonly Buffer[];
  /** Those of the keys whose values are needed for sure. */
  readonly valueKeys: readonly Buffer[];
  readonly leases: readonly LeaseId[];
  /** True when nothing but single keys, as they are now, is looked at or changed: then no read of a range can come. */
  readonly onlyKeys: boolean;
}

/** One change of a key, with the pair before it; its value is there where it was at hand. */
export interface Change extends Pick<Event, 'type' | 'kv'> {
  readonly before: Live | undefined;
}

export interface StateOptions {
  readonly reader: LiveReader;
  /** Sees what `flush` has written. */
  readonly query: Query;
  readonly statements: WriteStatements;
  readonly can: Capabilities;
  readonly revision: Revision;
  readonly compactRevision: Revision;
  /** Takes every lease to be there without a look: who commits must check `assumedLeases`. */
  readonly assumeLeases?: boolean;
}

/** Live keys read at once while going through a range. */
const pageRows = 1000;
/** Keys and ids in one statement. */
const listMax = 1024;
/** Changes kept; those of a larger batch are left to be read from the log. */
const changesMax = 4096;

const tombstoneAt = logColumns.indexOf('tombstone');
const noBytes = Buffer.alloc(0);

/** A key as the key of a map: latin1 keeps every byte. */
const nameOf = (key: Buffer) => key.toString('latin1');

export class BatchState {
  readonly query: Query;
  readonly #reader: LiveReader;
  readonly #statements: WriteStatements;
  readonly #can: Capabilities;
  /** undefined = known to be absent. */
  readonly #live = new Map<string, Live | undefined>();
  readonly #leases = new Map<LeaseId, boolean>();
  readonly #assumeLeases: boolean;
  readonly #assumedLeases = new Set<LeaseId>();
  #logRows: SqlValue[][] = [];
  #currentRows = new Map<string, SqlValue[]>();
  #currentDeletes = new Map<string, Buffer>();
  /** By lease and key: true = to attach, false = to detach. */
  #attachments = new Map<
    string,
    { readonly lease: LeaseId; readonly key: Buffer; readonly attached: boolean }
  >();
  /** Undefined when there were too many. */
  #changes: Change[] | undefined = [];
  #sub = 0n;
  #isTouched = false;
  /** The store's revision with the effects of the txns so far. */
  revision: Revision;
  readonly compactRevision: Revision;

  constructor(options: StateOptions) {
    this.query = options.query;
    this.#reader = options.reader;
    this.#statements = options.statements;
    this.#can = options.can;
    this.#assumeLeases = options.assumeLeases ?? false;
    this.revision = options.revision;
    this.compactRevision = options.compactRevision;
  }

  /** The whole batch's writes in order, when they are few enough. */
  get changes(): readonly Change[] | undefined {
    return this.#changes;
  }

  /** The leases that what was done so far rests on, where none was looked at. */
  get assumedLeases(): readonly LeaseId[] {
    return [...this.#assumedLeases];
  }

  /** True when anything has been changed, a revision taken or not. */
  get isTouched(): boolean {
    return this.#isTouched;
  }

  /** Lifts the revision: a gap in the numbers. */
  raise(revision: Revision): void {
    if (revision <= this.revision) return;
    this.revision = revision;
    this.#isTouched = true;
  }

  /** True when the txn under way has changed something. */
  get isChanged(): boolean {
    return this.#sub > 0n;
  }

  /** The revision that reads of the txn under way are at: its own once it has changed something. */
  get visibleRevision(): Revision {
    return this.isChanged ? this.revision + 1n : this.revision;
  }

  /** Ends a txn: what it wrote is now at `revision`. */
  endTxn(): void {
    if (this.isChanged) this.revision += 1n;
    this.#sub = 0n;
  }

  // Reading

  /** Reads what is named and not known yet. */
  async prefetch({ keys, valueKeys, leases }: Needs): Promise<void> {
    const withValues = this.#unknown(valueKeys);
    for (const part of slices([...withValues.values()], this.#listMax)) {
      await this.#readKeys(part, { values: true });
    }
    for (const part of slices([...this.#unknown(keys).values()], this.#listMax)) {
      await this.#readKeys(part, { values: false });
    }
    const ids = this.#assumeLeases ? [] : [...new Set(leases)].filter((id) => !this.#leases.has(id));
    for (const part of slices(ids, this.#listMax)) {
      const params = padded(part);
      const { rows } = await this.query(this.#statements.selectLeases(params.length), params);
      const found = new Set(rows.map((row) => int64(row, 'id')));
      for (const id of part) this.#leases.set(id, found.has(id));
    }
  }

  async get(key: Buffer): Promise<Live | undefined> {
    const name = nameOf(key);
    if (!this.#live.has(name)) await this.#readKeys([key], { values: false });
    return this.#live.get(name);
  }

  /** The live pair with its value. */
  async getPair(key: Buffer): Promise<KeyValue | undefined> {
    const live = await this.get(key);
    if (live === undefined) return undefined;
    if (live.value !== undefined) return { ...live, value: live.value };
    // Not written by this batch, or its value would be at hand.
    const pair = { ...live, value: await this.#reader.value(live) };
    this.#live.set(nameOf(key), pair);
    return pair;
  }

  async hasLease(id: LeaseId): Promise<boolean> {
    if (this.#assumeLeases) {
      this.#assumedLeases.add(id);
      return true;
    }
    if (!this.#leases.has(id)) await this.prefetch({ keys: [], valueKeys: [], leases: [id], onlyKeys: true });
    return this.#leases.get(id) ?? false;
  }

  /** Live pairs of `range` in key order, some at a time; values empty unless asked for. Deleting a yielded page is fine. */
  async *pages(range: KeyRange, { values }: { readonly values: boolean }): AsyncGenerator<KeyValue[]> {
    let after = range.start;
    for (let isFirst = true; ; isFirst = false) {
      await this.flush();
      const toEnd = range.end === undefined;
      const statement = this.#statements.selectPage({ isFirst, toEnd, values, limit: pageRows });
      const { rows } = await this.query(statement, range.end === undefined ? [after] : [after, range.end]);
      const page = rows.map(keyValueOf);
      if (page.length > 0) yield page;
      if (page.length < pageRows) return;
      after = page.at(-1)!.key;
    }
  }

  // Writing

  /** One put of the txn under way. */
  put({ key, value, lease }: NewPair, before: Live | undefined): void {
    this.#isTouched = true;
    const modRevision = this.revision + 1n;
    const createRevision = before?.createRevision ?? modRevision;
    const version = (before?.version ?? 0n) + 1n;
    const sub = this.#sub++;
    const name = nameOf(key);
    this.#logRows.push([
      modRevision,
      key,
      sub,
      createRevision,
      version,
      lease,
      0n,
      before?.modRevision ?? 0n,
      value,
    ]);
    this.#currentDeletes.delete(name);
    this.#currentRows.set(name, [key, modRevision, sub, createRevision, version, lease]);
    const kv = { key, createRevision, modRevision, version, value, lease };
    this.#live.set(name, kv);
    this.#attach(key, before?.lease ?? 0n, lease);
    this.#record('put', kv, before);
  }

  /** One deletion of the txn under way. */
  remove(before: Live): void {
    const { key } = before;
    this.#isTouched = true;
    const modRevision = this.revision + 1n;
    const name = nameOf(key);
    this.#logRows.push([modRevision, key, this.#sub++, 0n, 0n, 0n, 1n, before.modRevision, noBytes]);
    this.#currentRows.delete(name);
    this.#currentDeletes.set(name, key);
    this.#live.set(name, undefined);
    this.#attach(key, before.lease, 0n);
    const kv = { key, createRevision: 0n, modRevision, version: 0n, value: noBytes, lease: 0n };
    this.#record('delete', kv, before);
  }

  /** Removes a lease whose keys have been removed. */
  async removeLease(id: LeaseId): Promise<void> {
    this.#isTouched = true;
    // All its attachments go in one statement.
    for (const [name, { lease }] of this.#attachments) if (lease === id) this.#attachments.delete(name);
    await this.flush();
    await this.query(this.#statements.deleteLeaseKeys, [id]);
    await this.query(this.#statements.deleteLease, [id]);
    this.#leases.set(id, false);
  }

  /** Writes the rows that wait. Keys read so far stay known. */
  async flush(): Promise<void> {
    for (const { statement, params } of this.take()) await this.query(statement, params);
  }

  /** The statements that write the rows that wait, in order; from now on they count as written. */
  take(): readonly Step[] {
    const statements = this.#statements;
    const logRows = this.#logRows;
    const currentRows = [...this.#currentRows.values()];
    const deletes = [...this.#currentDeletes.values()];
    this.#logRows = [];
    this.#currentRows = new Map();
    this.#currentDeletes = new Map();
    const steps = [
      ...this.#inserts(logRows, logColumns.length, (n) => statements.insertLog(n)),
      ...this.#inserts(currentRows, currentColumns.length, (n) => statements.upsertCurrent(n)),
    ];
    for (const part of slices(deletes, this.#listMax)) {
      const params = padded(part);
      steps.push({ statement: statements.deleteCurrent(params.length), params });
    }
    return [...steps, ...this.#takeAttachments()];
  }

  /**
   * The rows that wait as one of the statements `withGuard` takes them, when there are not too many and no attachments; from now
   * on they count as written.
   */
  takeRows():
    | { readonly as: 'puts' | 'changes'; readonly rows: readonly (readonly SqlValue[])[] }
    | undefined {
    const rows = this.#logRows;
    if (rows.length === 0 || rows.length > rowsWithGuardMax || this.#attachments.size > 0) return undefined;
    const current = this.#currentRows;
    const deletes = this.#currentDeletes;
    this.#logRows = [];
    this.#currentRows = new Map();
    this.#currentDeletes = new Map();
    if (deletes.size === 0 && current.size === rows.length) return { as: 'puts', rows };
    const isLast = (row: readonly SqlValue[]) => {
      const [modRevision, key] = row;
      const name = nameOf(key as Buffer);
      // A deletion that another one of its key has overtaken is none the less true.
      return deletes.has(name) ? row[tombstoneAt] === 1n : current.get(name)?.[1] === modRevision;
    };
    return { as: 'changes', rows: rows.map((row) => [...row, isLast(row) ? 1n : 0n]) };
  }

  #takeAttachments(): readonly Step[] {
    const attachments = [...this.#attachments.values()];
    this.#attachments = new Map();
    const attach = attachments.filter(({ attached }) => attached).map(({ lease, key }) => [lease, key]);
    const steps = this.#inserts(attach, 2, (n) => this.#statements.insertLeaseKeys(n));
    const detach = attachments.filter(({ attached }) => !attached).map(({ lease, key }) => [lease, key]);
    for (const part of slices(detach, pairsMax)) {
      const pairs = padded(part);
      steps.push({ statement: this.#statements.deleteLeasePairs(pairs.length), params: pairs.flat() });
    }
    return steps;
  }

  #inserts(
    rows: readonly (readonly SqlValue[])[],
    width: number,
    statement: (n: number) => ReturnType<WriteStatements['insertLog']>,
  ): Step[] {
    const most = Math.min(listMax, 2 ** Math.floor(Math.log2(this.#can.parametersMax / width)));
    return rowCounts(rows.length, most).map(({ start, count }) => ({
      statement: statement(count),
      params: rows.slice(start, start + count).flat(),
    }));
  }

  #attach(key: Buffer, from: LeaseId, to: LeaseId): void {
    if (from === to) return;
    const name = nameOf(key);
    if (from !== 0n) this.#attachments.set(`${from} ${name}`, { lease: from, key, attached: false });
    if (to !== 0n) this.#attachments.set(`${to} ${name}`, { lease: to, key, attached: true });
  }

  #record(type: Event['type'], kv: KeyValue, before: Live | undefined): void {
    if (this.#changes === undefined) return;
    if (this.#changes.length >= changesMax) this.#changes = undefined;
    else this.#changes.push({ type, kv, before });
  }

  get #listMax(): number {
    // A power of two, since lists are padded to one.
    return Math.min(listMax, 2 ** Math.floor(Math.log2(this.#can.parametersMax)));
  }

  #unknown(keys: readonly Buffer[]): Map<string, Buffer> {
    const unknown = new Map<string, Buffer>();
    for (const key of keys) {
      const name = nameOf(key);
      if (!this.#live.has(name)) unknown.set(name, key);
    }
    return unknown;
  }

  async #readKeys(keys: readonly Buffer[], { values }: { readonly values: boolean }): Promise<void> {
    const found = await this.#reader.read(keys, { values });
    for (const key of keys) this.#live.set(nameOf(key), undefined);
    for (const live of found) this.#live.set(nameOf(live.key), live);
  }
}

/** `changes` as events; undefined when the pair before one of them is not at hand. */
export function eventsOf(changes: readonly Change[]): readonly Event[] | undefined {
  const events: Event[] = [];
  for (const { type, kv, before } of changes) {
    if (before === undefined) events.push({ type, kv });
    else if (before.value === undefined) return undefined;
    else events.push({ type, kv, prevKv: { ...before, value: before.value } });
  }
  return events;
}

/** `values` in pieces of at most `size`. */
function* slices<T>(values: readonly T[], size: number): Generator<readonly T[]> {
  for (let start = 0; start < values.length; start += size) yield values.slice(start, start + size);
}
